"""Feynman–Kac steering: candidates made together, the promising ones copied while they are denoised.

At chosen times the reward of every particle's clean estimate is taken. Particles are weighted by
exp(β · (reward now − reward at the last resampling)); when the weights have become too unequal, the batch
is resampled in proportion to them. At the end the particles stand for the generator's distribution times
exp(β · reward). Copies part ways because every step renews some of the noise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from wmreward.errors import UsageError, named
from wmreward.protocols import DenoiseStep, RewardScores
from wmreward.steering.checks import checked_velocity
from wmreward.steering.estimate import EstimateReward


@dataclass(frozen=True, kw_only=True)
class ParticleConfig:
    """How particles are steered.

    Attributes:
        beta: How sharply the reward selects; 0 does not select.
        every: Steps of a chunk from one look at the reward to the next.
        times: Range of times t (0 noise, 1 data): rewards are taken in steps that begin and end in it. Copies
            need noisy steps afterwards to part ways.
        threshold: Resample when the effective number of particles falls below this part of them.
        churn: Share of the noise that each step renews: 0 is the plain sampler, under which copies stay
            the same; 1 the ancestral one.
        seed: Of the renewed noise and of resampling.
        context_frames: Finished frames that are shown before the open ones.
    """

    beta: float = 20.0
    every: int = 4
    times: tuple[float, float] = (0.1, 0.5)
    threshold: float = 0.5
    churn: float = 0.5
    seed: int = 0
    context_frames: int = 14

    def __post_init__(self) -> None:
        low, high = self.times
        if not 0 <= low <= high <= 1:
            times = named("times", flag="particle_range")
            raise UsageError(f"{times} {low:g} {high:g} must rise within 0 … 1 (noise … data)")
        for name, most in (("threshold", 1.0), ("churn", 1.0), ("beta", float("inf"))):
            if not 0 <= getattr(self, name) <= most:
                told = named(name, getattr(self, name), flag=f"particle_{name}")
                raise UsageError(f"{told} must lie in 0 … {most:g}")
        if self.every < 1:
            raise UsageError(
                f"{named('every', self.every, flag='particle_every')} must be at least 1"
            )

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Weighing:
    """One look at the rewards.

    Attributes:
        first_chunk: The first chunk in flight.
        time: Its time.
        rewards: Of every particle's clean estimate.
        effective: Effective number of particles, 1 / Σ w².
        ancestors: Whose copy each particle goes on as, if they were resampled.
    """

    first_chunk: int
    time: float
    rewards: list[float]
    effective: float
    ancestors: list[int] | None


@dataclass
class ParticleSteering:
    """A guide for a sampler whose batch are particles.

    Args:
        reward: Scores ``[B, 3, T, H, W]`` in [−1, 1]; need not be differentiable.
        config: How it acts.
        min_frames: Frames that the reward needs; steps that show fewer are passed over.
        guide: Corrects the velocity first: gradient and particles together.

    Attributes:
        records: Every look at the rewards.
        lineage: Which of the first particles each one descends from.
    """

    reward: Callable[[Tensor], RewardScores]
    config: ParticleConfig
    min_frames: int = 1
    guide: Callable[[DenoiseStep], Tensor] | None = None
    records: list[Weighing] = field(default_factory=list)
    lineage: Tensor | None = None

    def __post_init__(self) -> None:
        self._rewards = EstimateReward(self.reward, self.config.context_frames)
        self._random = torch.Generator().manual_seed(self.config.seed)
        self._log_weights: Tensor | None = None
        self._last: tuple[int, Tensor] | None = None

    @property
    def weights(self) -> Tensor | None:
        """What each particle stands for now, ``[B]``; None before the first look."""
        return None if self._log_weights is None else self._log_weights.softmax(dim=0)

    def __call__(self, step: DenoiseStep) -> Tensor:
        velocity = step.velocity
        if self.guide is not None:
            velocity = checked_velocity(self.guide(step), step.velocity)
        if self.lineage is None:
            self.lineage = torch.arange(len(velocity))
        shown = self._shown(step) * step.chunk_width
        if shown and self._rewards.frames(step, shown) >= self.min_frames:
            with torch.no_grad():
                clean = step.clean_estimate(step.latents, velocity)[:, :, :shown]
                self._weigh(step, self._rewards(step, clean).double().cpu())
        return self._churned(step, velocity)

    def to_json(self) -> dict[str, Any]:
        """What happened, for a record."""
        return {
            "summary": str(self),
            "lineage": [] if self.lineage is None else self.lineage.tolist(),
            "steps": [asdict(record) for record in self.records],
        }

    def __str__(self) -> str:
        if self.lineage is None or not self.records:
            return "particles were looked at no time: look more often, or in a wider range"
        resampled = sum(record.ancestors is not None for record in self.records)
        left = len(self.lineage.unique())
        return (
            f"particles were looked at {len(self.records)} times and resampled {resampled} times; those "
            f"at the end descend from {left} of {len(self.lineage)}"
        )

    def _shown(self, step: DenoiseStep) -> int:
        """How many chunks are clean enough to be looked at, if this is a step for that."""
        low, high = self.config.times
        clean = sum(time >= low for time in step.times.tolist())
        due = any(
            min(ends, 1) <= high and number % self.config.every == 0  # the last float32 is above 1
            for ends, number in zip(step.next_times.tolist()[:clean], step.steps, strict=False)
        )
        return clean if due else 0

    def _weigh(self, step: DenoiseStep, rewards: Tensor) -> None:
        """Weights grow by what rewards gained; other chunks in flight begin their own account."""
        before = torch.zeros_like(rewards)
        if self._last is not None and self._last[0] == step.first_chunk:
            before = self._last[1]
        weights = self._log_weights if self._log_weights is not None else torch.zeros_like(rewards)
        weights = weights + self.config.beta * (rewards - before)
        effective = 1 / weights.softmax(dim=0).square().sum().item()
        ancestors = None
        if effective < self.config.threshold * len(weights):
            start = torch.rand((), generator=self._random, dtype=torch.float64).item()
            ancestors = systematic_resampling(weights.softmax(dim=0), start)
            step.resample(ancestors)
            assert self.lineage is not None
            self.lineage = self.lineage[ancestors]
        self.records.append(
            Weighing(
                first_chunk=step.first_chunk,
                time=round(step.times[0].item(), 6),
                rewards=rewards.tolist(),
                effective=effective,
                ancestors=None if ancestors is None else ancestors.tolist(),
            )
        )
        if ancestors is not None:
            rewards, weights = rewards[ancestors], torch.zeros_like(weights)
        self._last, self._log_weights = (step.first_chunk, rewards), weights

    def _churned(self, step: DenoiseStep, velocity: Tensor) -> Tensor:
        """The velocity that leads to the same level of noise, part of it drawn anew.

        With x̂₀ and ε̂ from x = t x̂₀ + (1 − t) ε̂, the state at time s becomes
        s x̂₀ + √((1 − s)² − η²) ε̂ + η ξ, where η = churn · (1 − s) · √(1 − (t (1 − s) / (s (1 − t)))²).
        """
        if not self.config.churn:
            return velocity
        t, s = (self._per_frame(times, step) for times in (step.times, step.next_times))
        fresh = (1 - (t * (1 - s) / (s * (1 - t))).square()).clamp_min(0).sqrt()
        eta = self.config.churn * (1 - s) * fresh
        data = step.latents + (1 - t) * velocity
        noise = step.latents - t * velocity
        new = torch.randn(velocity.shape, generator=self._random).to(velocity)
        after = s * data + ((1 - s).square() - eta.square()).sqrt() * noise + eta * new
        churned = (after - step.latents) / (s - t)
        return torch.cat((velocity[:, :, : step.given], churned[:, :, step.given :]), dim=2)

    @staticmethod
    def _per_frame(times: Tensor, step: DenoiseStep) -> Tensor:
        repeated = times.repeat_interleave(step.chunk_width)
        return repeated.to(step.latents)[:, None, None]


def systematic_resampling(weights: Tensor, start: float) -> Tensor:
    """Ancestors ``[N]`` in proportion to ``weights [N]``, which sum to 1: row i appears ⌊N wᵢ⌋ or ⌈N wᵢ⌉
    times. ``start`` in [0, 1) is the one random number it takes.
    """
    count = len(weights)
    points = (torch.arange(count, dtype=torch.float64) + start) / count
    return torch.searchsorted(weights.double().cumsum(dim=0), points).clamp_max(count - 1)
