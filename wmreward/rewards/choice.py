"""From flags to rewards. All that can be found wrong without loading a model is found before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from vjepa2 import ModelConfig, VJEPA21Config
from vjepa2.sources import WeightsSource, find_teacher, find_weights, standing_files
from wmreward.errors import UsageError, WMRewardError
from wmreward.factories import find_factory, origin
from wmreward.rewards.mix import OWN, How, RewardMix, parse_weights
from wmreward.rewards.world import SeamReward
from wmreward.surprise.config import SurpriseConfig
from wmreward.surprise.models import ModelChoice, load, reading_values
from wmreward.surprise.models.own import OwnInfo
from wmreward.surprise.scorer import SurpriseScorer
from wmweights import WeightsError, fingerprint_files


@dataclass(frozen=True, kw_only=True)
class RewardChoice:
    """Which rewards judge.

    Attributes:
        weights: Of each reward, by name or import path.
        how: How they are combined.
        model: The world model of surprise and consensus.
        config: How their windows are cut, compared and pooled.
    """

    weights: Mapping[str, float]
    how: How
    model: ModelChoice
    config: SurpriseConfig

    @classmethod
    def from_flags(
        cls, values: Mapping[str, Any], *, default_model: str, context_grad: bool = False
    ) -> RewardChoice:
        """From the flags of rewards and ``device``.

        Raises:
            UsageError: names, numbers or rules that cannot be.
        """
        config = SurpriseConfig(
            window_size=values["window_size"],
            context_frames=values["context_frames"],
            stride=values["stride"],
            mode=values["aggregate"],
            similarity=values["similarity"],
            score=values["score"],
            context_grad=context_grad,
            frame_strides=values["frame_strides"],
        )
        choice = cls(
            weights=parse_weights(values["reward"] or ["surprise"]),
            how=values["combine"],
            model=ModelChoice(
                name=values["model"] or default_model,
                weights=values["weights"],
                **reading_values(values),
                device=values["device"],
            ),
            config=config,
        )
        choice._check()
        return choice

    @property
    def needs_model(self) -> bool:
        """Whether any of them is the world model's."""
        return any(name in OWN for name in self.weights)

    @property
    def min_frames(self) -> int:
        """Frames of the shortest video that can be judged."""
        return self.config.min_frames if self.needs_model else 1

    @property
    def context_frames(self) -> int:
        """Frames before new ones that share a window with them, at most."""
        if not self.needs_model:
            return 0
        config = self.config
        frames = max(0, config.window_size - config.stride)
        if SeamReward.name in self.weights:
            frames = max(frames, config.context_frames)
        return frames * max(config.frame_strides)

    def settings(self) -> dict[str, Any]:
        """All that decides a score; reads the ends of the weights' files."""
        judged: dict[str, Any] = {"rewards": dict(self.weights)}
        if own := {
            name: origin(find_factory(name, "reward")) for name in self.weights if name not in OWN
        }:
            judged["own_rewards"] = own
        if self.needs_model:
            judged |= {
                "model": self.model.name,
                **(self._own_model() if self.model.is_own else self._weights()),
                **self.model.read_as(),
                **self.config.to_json(),
            }
            del judged["context_grad"]  # decides gradients only
        return judged

    def load(self, device: torch.device | None = None) -> RewardMix:
        """The rewards, their model on ``device``."""
        scorer = None
        if self.needs_model:
            name = self.model.device if device is None else str(device)
            try:
                loaded = load(replace(self.model, device=name))
            except WeightsError as error:
                raise WMRewardError(str(error)) from error
            at_once = 32 if loaded.model.device.type == "cuda" else 4
            scorer = SurpriseScorer(loaded.model, self.config, batch_size=at_once)
        names = [f"{name}={weight}" for name, weight in self.weights.items()]
        return RewardMix.parse(names, surprise=scorer, how=self.how)

    def _check(self) -> None:
        self.model.torch_device()
        if not self.needs_model:
            return
        self.model.check(self.config)
        if self.model.acts:
            raise UsageError(f"model {self.model.name} needs actions: it cannot judge videos")

    def check_weights(self) -> None:
        """Find the world model's weights, and download them where they are on the Hub.

        Raises:
            WMRewardError: they are nowhere; says how to get them.
        """
        if self.needs_model and not self.model.is_own:
            self._sources()

    def _own_model(self) -> dict[str, Any]:
        """Of a user's world model, which is made for it."""
        info = load(self.model).info
        assert isinstance(info, OwnInfo)
        return info.settings()

    def _weights(self) -> dict[str, str]:
        """Fingerprints of the world model's files, and of its teacher's if it is compared with one."""
        return {
            name: fingerprint_files(standing_files(source, config))
            for name, (source, config) in self._sources().items()
        }

    def _sources(self) -> dict[str, tuple[WeightsSource, ModelConfig]]:
        model, config, reading = self.model, self.model.config, self.model.reading
        try:
            own = find_weights(model.name, model.weights)
            found: dict[str, tuple[WeightsSource, ModelConfig]] = {"weights": (own, config)}
            if reading is not None and reading.observed == "teacher":
                assert isinstance(config, VJEPA21Config) and config.teacher is not None
                teacher = find_teacher(config, own, model.teacher_weights)
                found["teacher_weights"] = teacher, config.teacher
        except WeightsError as error:
            raise WMRewardError(str(error)) from error
        return found
