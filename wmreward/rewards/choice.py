"""From flags to rewards. All that can be found wrong without loading a model is found before."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from wmreward.errors import UsageError
from wmreward.factories import find_factory, origin
from wmreward.rewards.compare import How
from wmreward.rewards.encoders import EncoderChoice
from wmreward.rewards.features import Trajectory
from wmreward.rewards.geometry import GeometryReward
from wmreward.rewards.known import Judges
from wmreward.rewards.mix import RewardMix
from wmreward.rewards.names import (
    ASKS,
    DESCRIBES,
    LEAST_FEATURES,
    OWN,
    PREDICTS,
    AskedRewards,
    check_kinds,
    check_model,
    needs_model,
)
from wmreward.rewards.vlm import PROMPT, VLMChoice, VLMReward
from wmreward.rewards.weights import find_sources, loaded, weights_of
from wmreward.rewards.world import Consensus, SeamReward
from wmreward.surprise.config import SurpriseConfig
from wmreward.surprise.models import ModelChoice
from wmreward.surprise.scorer import SurpriseScorer


@dataclass(frozen=True, kw_only=True)
class RewardChoice:
    """Which rewards judge.

    Attributes:
        weights: Of each reward, by name or import path.
        how: How they are combined.
        model: The world model.
        config: How its windows are cut, compared and pooled.
        encoder: Whose features geometry and consensus go by; None: the world model's.
        vlm: Who is asked, if a reward asks.
    """

    weights: Mapping[str, float]
    how: How
    model: ModelChoice
    config: SurpriseConfig
    encoder: EncoderChoice | None = None
    vlm: VLMChoice | None = None

    @classmethod
    def from_flags(
        cls, values: Mapping[str, Any], *, default_model: str, context_grad: bool = False
    ) -> RewardChoice:
        """From the flags of rewards and ``device``.

        Raises:
            UsageError: names, numbers or rules that cannot be.
        """
        asked = AskedRewards.of(values, default_model=default_model, context_grad=context_grad)
        choice = cls(
            weights=asked.weights,
            how=values["combine"],
            model=asked.model,
            config=asked.config,
            encoder=_encoder(values),
            vlm=_vlm(values),
        )
        choice.check()
        return choice

    @property
    def needs_model(self) -> bool:
        """Whether any of them is the world model's."""
        return needs_model(self.weights, encoder=self.encoder is not None)

    @property
    def world_models(self) -> list[ModelChoice]:
        """The V-JEPAs that judge."""
        encoder = None if self.encoder is None else self.encoder.world_model
        return [model for model in (self.model if self.needs_model else None, encoder) if model]

    @property
    def sees_little(self) -> bool:
        """Whether a single V-JEPA judges, so that no more than what it sees of a frame need be kept."""
        names = self.weights.keys()
        if self.encoder is None:
            return names <= {*PREDICTS, *DESCRIBES}
        return names <= set(DESCRIBES) and not self._by_images

    def asks_prompt(self, reward: str) -> bool:
        """Whether one of them asks about the prompt of a video."""
        return self.vlm is not None and PROMPT in self.vlm.questions().get(reward, "")

    def check_prompt(self, prompt: str | None, of: str) -> None:
        """Raise ``UsageError`` if a reward asks about a prompt where there is none."""
        for name in self.weights:
            if self.asks_prompt(name) and not (prompt or "").strip():
                raise UsageError(f"--reward {name} asks about the prompt, and {of} has none")

    @property
    def min_frames(self) -> int:
        """Frames of the shortest video that can be judged, as far as is known before anything is loaded."""
        encoder = None if self.encoder is None else self.encoder.name
        return AskedRewards(self.weights, self.model, self.config, encoder).min_frames

    @property
    def context_frames(self) -> int:
        """Frames before new ones that share a window with them, at most."""
        windows = self.needs_model or (self._any(DESCRIBES) and not self._by_images)
        if not windows:
            return LEAST_FEATURES if GeometryReward.name in self.weights else 0
        config = self.config
        frames = max(0, config.window_size - config.stride)
        if SeamReward.name in self.weights:
            frames = max(frames, config.context_frames)
        return frames * max(config.frame_strides)

    def settings(self) -> dict[str, Any]:
        """All that decides a score; reads the ends of the weights' files."""
        judged: dict[str, Any] = {"rewards": dict(self.weights)}
        for name in self.weights:
            if name in OWN:
                judged |= self.settings_of(name)
            else:
                judged.setdefault("own_rewards", {})[name] = self.settings_of(name)
        return judged

    def settings_of(self, reward: str) -> dict[str, Any]:
        """All that decides what one of the rewards says of a video."""
        if reward in ASKS:
            assert self.vlm is not None
            return self.vlm.settings(reward)
        if reward in DESCRIBES and self.encoder is not None:
            return {**self.encoder.settings(), "window_size": self.config.window_size}
        if reward not in OWN:
            return dict(origin(find_factory(reward, "reward")))
        windows = self.config.to_json()
        apart = {"context_grad"}  # decides gradients only
        if reward == Consensus.name:
            apart |= {"mode", "similarity", "score"}
        elif reward == GeometryReward.name:
            apart = windows.keys() - {"window_size"}
        return {
            "model": self.model.name,
            **weights_of(self.model),
            **self.model.read_as(),
            **{name: value for name, value in windows.items() if name not in apart},
        }

    def load(self, device: torch.device | None = None) -> RewardMix:
        """The rewards, their networks on ``device``.

        Raises:
            WMRewardError: weights that cannot be had.
        """
        place = self.model.torch_device() if device is None else device
        at_once = 32 if place.type == "cuda" else 4
        scorer = features = asked = None
        if self.needs_model:
            world = loaded(replace(self.model, device=str(place))).model
            scorer = SurpriseScorer(world, self.config, batch_size=at_once)
        if self.encoder is not None and self._any(DESCRIBES):
            encoder = self.encoder.load(place, self.config.window_size)
            features = Trajectory(encoder, batch_size=at_once)
        if self.vlm is not None and self._any(ASKS):
            vlm = self.vlm.load(place)
            asked = {
                name: VLMReward(name, vlm, question, self.vlm.fps)
                for name, question in self.vlm.questions().items()
            }
        return RewardMix.of(self.weights, Judges(scorer, features, asked), self.how)

    def _any(self, names: Collection[str]) -> bool:
        return any(name in names for name in self.weights)

    @property
    def _by_images(self) -> bool:
        """Whether an encoder that sees single frames was chosen."""
        return self.encoder is not None and self.encoder.world_model is None

    def check(self) -> None:
        """Raise ``UsageError`` for what cannot judge, as far as is known before anything is loaded."""
        check_kinds(self.weights, encoder=self.encoder is not None, vlm=self.vlm is not None)
        if self.needs_model:
            check_model(self.weights, self.model, self.config, encoder=self.encoder is not None)
        if self.encoder is not None:
            self.encoder.check()
        if self.vlm is not None:
            self.vlm.check()
        self.model.torch_device()

    def check_weights(self) -> None:
        """Find all weights, and download them where they are on the Hub.

        Raises:
            WMRewardError: they are nowhere; says how to get them.
        """
        if self.needs_model:
            find_sources(self.model)
        if self.encoder is not None:
            self.encoder.settings()
        if self.vlm is not None:
            self.vlm.settings("vlm")


def _encoder(values: Mapping[str, Any]) -> EncoderChoice | None:
    name = values["encoder"]
    return None if name is None else EncoderChoice(name=name, device=values["device"])


def _vlm(values: Mapping[str, Any]) -> VLMChoice | None:
    if values["vlm"] is None:
        return None
    given = {"question": values["question"], "fps": values["vlm_fps"]}
    chosen = {name: value for name, value in given.items() if value is not None}
    return VLMChoice(name=values["vlm"], **chosen)
