"""Guidance as the benchmark tries it: its settings, and a way to hold it in bounds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from wmreward.protocols import DenoiseStep, WorldModel
from wmreward.rewards.world import SeamReward, SurpriseReward
from wmreward.steering.guidance import (
    Direction,
    Guidance,
    GuidanceConfig,
    GuidedStep,
    Rule,
    Through,
)
from wmreward.steering.schedule import GuidanceSchedule
from wmreward.surprise.config import ScoreRule, SurpriseConfig
from wmreward.surprise.scorer import SurpriseScorer

_REWARDS = {reward.name: reward for reward in (SurpriseReward, SeamReward)}
_MOST_STEPS = 256
_TINY = 1e-12


@dataclass(frozen=True, kw_only=True)
class GuideSettings:
    """One way to guide.

    Attributes:
        scale, times, frequency: When and how strongly (`wmreward.steering.schedule`).
        rule, through, repeats: What a step does (`wmreward.steering.guidance`).
        reward: What guides: `surprise` of all windows, or of those at the `seam`.
        score, mode, stride, window_size, context, frame_strides: Of its windows (`wmreward.surprise.config`).
        keep_edges: Take no edge energy away, to first order.
        trust: How far all pushes together may move a chunk, as a part of the norm of standard
            normal latents; None: as far as they do.
    """

    scale: float = 0.5
    times: tuple[float, float] = (0.05, 0.4)
    frequency: int = 2
    rule: Rule = "relative"
    through: Through = "x0"
    repeats: int = 1
    score: ScoreRule = "top"
    mode: str = "mean"
    stride: int = 8
    reward: str = SeamReward.name
    window_size: int = 16
    context: int = 8
    frame_strides: tuple[int, ...] = (1, 2, 3)
    keep_edges: bool = True
    trust: float | None = None

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> GuideSettings:
        lists = {name: tuple(value) for name, value in fields.items() if isinstance(value, list)}
        return cls(**(fields | lists))

    @property
    def context_frames(self) -> int:
        """Given frames that are shown, at most, as `generate_magi1.py` shows them."""
        frames = self.window_size - self.stride
        if self.reward == SeamReward.name:
            frames = max(frames, self.context)
        return frames * max(self.frame_strides)

    @property
    def surprise(self) -> SurpriseConfig:
        return SurpriseConfig(
            score=self.score,
            mode=self.mode,
            stride=self.stride,
            window_size=self.window_size,
            context_frames=self.context,
            frame_strides=self.frame_strides,
        )


EVERY_STEP: dict[str, Any] = {"frequency": 1, "times": (0.05, 0.6)}
BEFORE: dict[str, Any] = {
    "reward": SurpriseReward.name,
    "frame_strides": (1,),
    "scale": 0.15,
    **EVERY_STEP,
}
"""The default until 2026-11-27, and still that of pipelines."""
ALSO: dict[str, dict[str, Any]] = {
    "surprise of all windows, neighbouring frames": BEFORE,
    "strides 1, 2, 3 at scale 0.3": {"scale": 0.3, **EVERY_STEP},
}
"""Other guidance that has rows: what was the default before, and more of the same than sharpness allows."""


@dataclass
class GuideMaker:
    """Makes a guide for each batch, and keeps what the guides tell.

    Args:
        settings: How to guide.
        model: Whose surprise falls.
        windows: That are differentiated at once.
        direction: ``random`` for the control.
        seed: Of random directions.
        measure: Whether guides say what each step did to the reward, which takes time.
    """

    settings: GuideSettings
    model: WorldModel
    windows: int
    direction: Direction = "reward"
    seed: int = 0
    measure: bool = False
    _made: list[Guidance] = field(default_factory=list)

    def __call__(self) -> Callable[[DenoiseStep], Tensor]:
        settings = self.settings
        scorer = SurpriseScorer(
            self.model,
            settings.surprise,
            batch_size=2 * self.windows,
            grad_batch_size=self.windows,
        )
        reward = _REWARDS[settings.reward](scorer)
        schedule = GuidanceSchedule.make(
            _MOST_STEPS, scale=settings.scale, frequency=settings.frequency, times=settings.times
        )
        guide = Guidance(
            reward,
            GuidanceConfig(
                schedule=schedule,
                through=settings.through,
                rule=settings.rule,
                repeats=settings.repeats,
                direction=self.direction,
                seed=self.seed,
                context_frames=settings.context_frames,
                keep="edges" if settings.keep_edges else "nothing",
                measure=self.measure,
            ),
            min_frames=reward.min_frames,
            batch_size=max(32, self.windows // 2),
        )
        self._made.append(guide)
        return guide if settings.trust is None else Trust(guide, settings.trust)

    @property
    def records(self) -> list[GuidedStep]:
        """Every guided step so far."""
        return [step for guide in self._made for step in guide.records]


class Trust:
    """A guide whose pushes together move no chunk further than a part of the norm of its noise.

    Args:
        guide: Pushes.
        part: Of √(numbers per chunk).
    """

    def __init__(self, guide: Callable[[DenoiseStep], Tensor], part: float) -> None:
        self.guide, self.part = guide, part
        self._moved: dict[int, Tensor] = {}

    def __call__(self, step: DenoiseStep) -> Tensor:
        velocity = self.guide(step)
        if velocity is step.velocity:
            return velocity
        width = step.chunk_width
        spans = (step.next_times - step.times).tolist()
        pushes = (velocity - step.velocity).split(width, dim=2)
        allowed = []
        for j, (push, span) in enumerate(zip(pushes, spans, strict=True)):
            before = self._moved.get(step.first_chunk + j, torch.zeros_like(push))
            after = before + span * push
            limit = self.part * after[0].numel() ** 0.5
            size = after.flatten(1).norm(dim=1).clamp_min(_TINY)[:, None, None, None, None]
            after = after * (limit / size).clamp(max=1)
            self._moved[step.first_chunk + j] = after
            allowed.append((after - before) / span)
        return step.velocity + torch.cat(allowed, dim=2)
