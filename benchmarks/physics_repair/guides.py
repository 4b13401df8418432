"""Guidance as the benchmark tries it: its settings, and two ways to hold it in bounds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from wmreward.protocols import DenoiseStep, RewardScores, WorldModel
from wmreward.rewards.world import SurpriseReward
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

Reward = Callable[[Tensor], RewardScores]

_MOST_STEPS = 256
_TINY = 1e-12


@dataclass(frozen=True, kw_only=True)
class GuideSettings:
    """One way to guide.

    Attributes:
        scale, times, frequency: When and how strongly (`wmreward.steering.schedule`).
        rule, through, repeats: What a step does (`wmreward.steering.guidance`).
        score, mode, stride: Of the surprise that guides (`wmreward.surprise.config`).
        seam: Weight of the one window that is seen in given frames and predicted in new ones.
        keep_edges: Take no edge energy away, to first order.
        trust: How far all pushes together may move a chunk, as a part of the norm of standard
            normal latents; None: as far as they do.
    """

    scale: float = 0.15
    times: tuple[float, float] = (0.05, 0.6)
    frequency: int = 1
    rule: Rule = "relative"
    through: Through = "x0"
    repeats: int = 1
    score: ScoreRule = "top"
    mode: str = "mean"
    stride: int = 8
    seam: float = 0.0
    keep_edges: bool = True
    trust: float | None = None

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> GuideSettings:
        times = {"times": tuple(fields["times"])} if "times" in fields else {}
        return cls(**(fields | times))

    @property
    def context_frames(self) -> int:
        """Given frames that are shown, as `generate_magi1.py` shows them: one window begins with the last of
        them as its context.
        """
        return self.surprise.window_size - self.stride

    @property
    def surprise(self) -> SurpriseConfig:
        return SurpriseConfig(score=self.score, mode=self.mode, stride=self.stride)


@dataclass
class GuideMaker:
    """Makes a guide for each batch, and keeps what the guides tell.

    Args:
        settings: How to guide.
        model: Whose surprise falls.
        windows: That are differentiated at once.
        direction: ``random`` for the control.
        seed: Of random directions.
    """

    settings: GuideSettings
    model: WorldModel
    windows: int
    direction: Direction = "reward"
    seed: int = 0
    _made: list[Guidance] = field(default_factory=list)

    def __call__(self) -> Callable[[DenoiseStep], Tensor]:
        settings = self.settings
        scorer = SurpriseScorer(
            self.model,
            settings.surprise,
            batch_size=2 * self.windows,
            grad_batch_size=self.windows,
        )
        reward: Reward = SurpriseReward(scorer)
        if settings.seam:
            reward = Seam(reward, settings)
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
            ),
            min_frames=settings.surprise.window_size,
        )
        self._made.append(guide)
        return guide if settings.trust is None else Trust(guide, settings.trust)

    @property
    def records(self) -> list[GuidedStep]:
        """Every guided step so far."""
        return [step for guide in self._made for step in guide.records]


class Seam:
    """A reward of which a part is that of the window that is seen in given frames alone.

    Args:
        reward: Scores videos that begin with the given frames that guidance shows.
        settings: How many these are, its windows, and the weight of that one.
    """

    def __init__(self, reward: Reward, settings: GuideSettings) -> None:
        self.reward, self.weight = reward, settings.seam
        config = settings.surprise
        start = settings.context_frames - config.context_frames
        self.window = slice(start, start + config.window_size)

    def __call__(self, videos: Tensor) -> RewardScores:
        scores = self.weight * self.reward(videos[:, :, self.window]).scores
        if self.weight < 1:
            scores = scores + (1 - self.weight) * self.reward(videos).scores
        return RewardScores(scores, {})


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
