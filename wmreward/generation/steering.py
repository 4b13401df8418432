"""What steers generation: guidance, particles and rewards, checked from flags, then loaded."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed import ProcessGroup

from magi1.config import MagiConfig
from magi1.pipeline import Pipeline
from magi1.tiling import map_tiles
from magi1.transformer.offload import resident
from wmreward.generation.asked import AskedSteering, usual_model
from wmreward.protocols import RewardScores, VideoFacts
from wmreward.rewards.choice import RewardChoice
from wmreward.rewards.compare import Comparison, Judged
from wmreward.rewards.features import Trajectory
from wmreward.rewards.known import comparing
from wmreward.rewards.mix import ContinuationMix, RewardMix, cutters_of
from wmreward.rewards.world import SurpriseReward
from wmreward.steering.guidance import Guidance, GuidanceConfig, Relief
from wmreward.steering.particles import ParticleConfig, ParticleSteering
from wmreward.surprise.scorer import SurpriseScorer
from wmreward.surprise.shared import SharedScorer


@dataclass(frozen=True, kw_only=True)
class Steering:
    """What steers, without anything loaded.

    Attributes:
        guidance: How the gradient acts, or None.
        particles: How particles are resampled, or None.
        rewards: Which rewards guide and judge, or None where nothing asks for them.
    """

    guidance: GuidanceConfig | None = None
    particles: ParticleConfig | None = None
    rewards: RewardChoice | None = None

    def settings(self) -> dict[str, Any]:
        """What of it decides what a video shows; empty for plain generation."""
        if self.rewards is None or (self.guidance is None and self.particles is None):
            return {}
        decisive: dict[str, Any] = {"reward": self.rewards.settings()}
        if self.guidance is not None:
            only_measures = {"null": False}
            both_branches = {"context_grad": self.rewards.config.context_grad}
            decisive["guidance"] = self.guidance.to_json() | only_measures | both_branches
        if self.particles is not None:
            decisive["particles"] = self.particles.to_json()
        return decisive


def steering_from(values: Mapping[str, Any], config: MagiConfig, *, judges: bool) -> Steering:
    """From flags.

    Args:
        values: All of them.
        config: The generator.
        judges: Whether rewards are needed to judge finished videos, guided or not.

    Raises:
        UsageError: settings that cannot be, or do not fit the sampler.
    """
    return steering_of(
        values,
        config.runtime_config.num_steps,
        default_model=usual_model(config.model_config.model_name),
        judges=judges,
    )


def steering_of(
    values: Mapping[str, Any],
    steps: int,
    *,
    default_model: str,
    judges: bool,
) -> Steering:
    """The same for any generator that takes ``steps`` steps, with the world model that usually judges it."""
    asked = AskedSteering.of(values, steps, default_model=default_model, judges=judges)
    values, schedule = asked.values, asked.schedule
    if asked.rewards is None:
        return Steering()
    rewards = RewardChoice.from_flags(
        values,
        default_model=default_model,
        context_grad=values["context_grad"],
    )
    if "prompt" in values:  # else a list of jobs has them
        rewards.check_prompt(values["prompt"], of="this video")
    context = rewards.context_frames
    guidance = particles = None
    if schedule.acts:
        guidance = GuidanceConfig(
            schedule=schedule,
            through=values["guidance_through"],
            rule=values["guidance_rule"],
            keep=values["guidance_keep"],
            repeats=values["guidance_repeats"],
            measure=values["guidance_measure"] or values["plot"],
            null=values["guidance_null"],
            context_frames=context,
        )
    if asked.particles:
        particles = ParticleConfig(
            beta=values["particle_beta"],
            every=values["particle_every"],
            threshold=values["particle_threshold"],
            churn=values["particle_churn"],
            context_frames=context,
        )
        if values["particle_range"]:
            particles = replace(particles, times=tuple(values["particle_range"]))
    return Steering(guidance=guidance, particles=particles, rewards=rewards)


class LoadedRewards:
    """Rewards, loaded when they are first needed.

    Args:
        rewards: Which.
        device: Where they work.
    """

    def __init__(self, rewards: RewardChoice, device: torch.device) -> None:
        self.rewards, self.device = rewards, device

    @cached_property
    def mix(self) -> RewardMix:
        """All rewards."""
        return self.rewards.load(self.device)

    def load(self) -> None:
        """All rewards, now."""
        _ = self.mix

    def judge(
        self,
        video: Tensor,
        facts: VideoFacts | None = None,
        only: Collection[str] | None = None,
    ) -> Judged:
        """A finished video, ``[3, T, H, W]`` in [−1, 1], by all rewards or some."""
        with self._visiting.here():
            return self.mix.judge(video, facts, only)

    def table(self, candidates: Sequence[Judged]) -> dict[str, Tensor]:
        """Scores of a set of candidates; see `RewardMix`."""
        return self._comparison.table(candidates)

    def totals(self, candidates: Sequence[Judged]) -> Tensor:
        """Total scores of a set of candidates; the highest wins."""
        return self._comparison.totals(candidates)

    @cached_property
    def _comparison(self) -> Comparison:
        """Needs nothing that is loaded."""
        return Comparison(self.rewards.weights, self.rewards.how, compare=comparing)

    @cached_property
    def _visiting(self) -> Visiting:
        return Visiting(self.mix.networks, self.device)


class LoadedSteering(LoadedRewards):
    """The same, and a guidance for each candidate.

    Args:
        steering: What is wanted.
        pipeline: The generator.
        group: The processes that share a video, if they are several: they share the windows of surprise, too.
            Only one that works alone can give something up for memory, as all would have to do the same.
    """

    def __init__(
        self, steering: Steering, pipeline: Pipeline, group: ProcessGroup | None = None
    ) -> None:
        assert steering.rewards is not None
        super().__init__(steering.rewards, pipeline.device)
        self.steering, self.pipeline, self.group = steering, pipeline, group

    def guidance(self) -> Guidance | None:
        """A new one, with its own records."""
        if self.steering.guidance is None:
            return None
        if self.steering.guidance.through == "dit":
            self.pipeline.dit.checkpointing = True
        return Guidance(
            self._visiting.rewarding(self._shared(self.mix.guiding())),
            self.steering.guidance,
            min_frames=self.rewards.min_frames,
            reliefs=list(self._reliefs),
        )

    def particles(self, guidance: Guidance | None, seed: int) -> ParticleSteering | None:
        """A new one around ``guidance``; ``seed`` is that of what it draws."""
        if self.steering.particles is None:
            return None
        return ParticleSteering(
            self._visiting.rewarding(self._shared(self.mix.judging())),
            replace(self.steering.particles, seed=seed),
            min_frames=self.rewards.min_frames,
            guide=guidance,
        )

    def _shared(self, mix: RewardMix) -> RewardMix:
        """The same rewards, for use by all processes of the group at a time."""
        if self.group is None:
            return mix
        rewards = dict(mix.rewards)
        for name, reward in rewards.items():
            if isinstance(reward, SurpriseReward):
                rewards[name] = type(reward)(SharedScorer(reward.scorer, self.group))
        return RewardMix(rewards, mix.weights, mix.how)

    @cached_property
    def _reliefs(self) -> list[Relief]:
        """What is left to give up, what costs least time first."""
        reliefs: list[Relief] = []
        if self.group is not None:
            return reliefs

        def add(what: str, apply: Callable[[], object]) -> None:
            def once() -> None:
                apply()
                reliefs.remove(relief)  # for the next candidates it is done

            relief = Relief(what, once)
            reliefs.append(relief)

        if cutters := cutters_of(self.mix.rewards.values()):
            add(
                "windows of the rewards are scored and differentiated one at a time from now on",
                partial(_one_at_a_time, cutters),
            )
        add(
            "tiles of the video are decoded one at a time from now on",
            partial(setattr, self.pipeline, "tile_map", partial(map_tiles, batch=1)),
        )
        if self._visiting.models:
            add(
                "the networks that judge wait in host memory between steps from now on",
                self._visiting.leave,
            )
        return reliefs


def _one_at_a_time(cutters: Sequence[SurpriseScorer | Trajectory]) -> None:
    for cutter in cutters:
        cutter.batch_size = cutter.grad_batch_size = 1


class Visiting:
    """Networks that may wait on the host and come to the device for their work only.

    Args:
        models: Frozen.
        device: Where that is.
    """

    def __init__(self, models: Sequence[nn.Module], device: torch.device) -> None:
        self.models, self.device, self.left = list(models), device, False

    def leave(self) -> None:
        """To the host, from now on."""
        for model in self.models:
            model.to("cpu")
            self.left = True

    @contextmanager
    def here(self) -> Iterator[None]:
        """Have them on the device within the context."""
        with ExitStack() as stack:
            for model in self.models if self.left else ():
                stack.enter_context(resident(model, self.device))
            yield

    def rewarding(self, mix: RewardMix) -> Callable[[Tensor], RewardScores]:
        """The rewards, with the networks there; a reward of ours has its gradient when it has its value."""
        return (
            _VisitedContinuation(self, mix)
            if isinstance(mix, ContinuationMix)
            else _Visited(self, mix)
        )


@dataclass(frozen=True)
class _Visited:
    visiting: Visiting
    mix: RewardMix

    def __call__(self, videos: Tensor) -> RewardScores:
        with self.visiting.here():
            return self.mix(videos)


@dataclass(frozen=True)
class _VisitedContinuation(_Visited):
    mix: ContinuationMix

    def after(self, videos: Tensor, given: int) -> RewardScores:
        with self.visiting.here():
            return self.mix.after(videos, given)
