"""What flags ask of guidance, search and rewards, checked before anything heavy is imported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from wmreward.errors import UsageError
from wmreward.generation.search.plan import Candidates
from wmreward.generation.steering_flags import (
    CONTINUED_GUIDANCE,
    CONTINUED_REWARD,
    GUIDANCE_RANGE,
    GUIDANCE_SCALE,
    GUIDED_MODES,
)
from wmreward.rewards.names import FINISHED_ONLY, SEAM, SURPRISE, AskedRewards, parse_weights
from wmreward.steering.schedule import GuidanceSchedule
from wmreward.surprise.models.choice import embedded_besides

SMALL_GENERATOR = "tiny"
"""The generator that comes along is judged by the world model that comes along under the same name."""


def usual_model(generator: str) -> str:
    """The world model that judges what a generator makes, where no flag names another."""
    return SMALL_GENERATOR if generator == SMALL_GENERATOR else "vitg"


@dataclass(frozen=True, kw_only=True)
class AskedSteering:
    """What steers and judges.

    Attributes:
        values: All flags, with the defaults of continued videos where nothing else was asked for.
        schedule: When and how strongly guidance acts.
        particles: Whether candidates are particles.
        rewards: What guides and judges; None where nothing does.
    """

    values: Mapping[str, Any]
    schedule: GuidanceSchedule
    particles: bool
    rewards: AskedRewards | None

    @classmethod
    def of(
        cls, values: Mapping[str, Any], steps: int, *, default_model: str, judges: bool
    ) -> AskedSteering:
        """From flags; see `wmreward.generation.steering.steering_of`."""
        values = _of_mode(values)
        schedule = GuidanceSchedule.make(
            steps,
            scale=_guidance_scale(values),
            frequency=values["guidance_frequency"] or 1,
            which=values["guidance_steps"],
            scales=values["guidance_scales"],
            times=_guided_times(values),
        )
        if values["plot"] and not schedule.acts:
            raise UsageError("--plot draws what guidance does: it needs --guidance_scale")
        particles, rewards = values["search"] == "particles", None
        if schedule.acts or particles or judges:
            rewards = AskedRewards.of(
                values, default_model=default_model, context_grad=values["context_grad"]
            )
            if schedule.acts:
                _check_guides(rewards, "guide")
            if particles:
                _check_guides(rewards, "weigh particles")
        return cls(values=values, schedule=schedule, particles=particles, rewards=rewards)


def check_asked(values: Mapping[str, Any], steps: int | None, default_model: str) -> None:
    """Flags of one video that steer, judge and compare.

    Args:
        values: Of all flags.
        steps: Denoising steps; None where they are not known yet.
        default_model: The world model, where no flag names one.

    Raises:
        UsageError: flags that contradict each other, or that nothing can come of.
    """
    candidates = Candidates.of(values, 0)
    if steps is None:
        if values["guidance_steps"] or values["guidance_scales"]:
            return
        steps = 1
    asked = AskedSteering.of(values, steps, default_model=default_model, judges=candidates.searches)
    given: frozenset[str] = getattr(values, "given", frozenset())
    # In MAGI-1's own commands a flag of this name means something else.
    if "window_size" in given and asked.rewards is None and not values["pipeline"]:
        raise UsageError(
            "--window_size is of the surprise, and nothing here is judged or guided by it (chunks in flight: "
            "--chunks_at_once)"
        )
    steered = asked.schedule.acts or asked.particles
    if values["compare"] and len(candidates.seeds) < 2 and not steered:
        raise UsageError(
            "--compare has nothing to compare with: this video is not guided; turn guidance on, as with "
            "--guidance_scale 0.15, or have several made, as with --best_of 4"
        )
    if (judge := values["judge"]) is None:
        return
    if not values["compare"] or asked.rewards is None:
        raise UsageError("--judge is asked about what --compare shows: give both")
    guiding = asked.rewards.world_models
    if judge in [model.name for model in guiding]:
        raise UsageError(
            f"--judge {judge} guides or chooses here: it would judge itself, whatever the rule; name another "
            f"model, such as {embedded_besides(guiding) or 'vitl'}"
        )


def _of_mode(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """With the defaults of continued videos, where nothing else was asked for."""
    if values["mode"] not in GUIDED_MODES:
        return values
    own: dict[str, Any] = {}
    given: frozenset[str] = getattr(values, "given", frozenset())
    if given.isdisjoint(CONTINUED_REWARD):
        own |= CONTINUED_REWARD
    rewards = parse_weights(own.get("reward") or values["reward"] or [SURPRISE])
    when = (*CONTINUED_GUIDANCE, "guidance_steps", "guidance_scales")
    if _surprises(rewards) and all(values[name] is None for name in when):
        own |= CONTINUED_GUIDANCE
    return {**values, **own}


def _surprises(rewards: Mapping[str, float]) -> bool:
    return not rewards.keys().isdisjoint((SURPRISE, SEAM))


def _guidance_scale(values: Mapping[str, Any]) -> float:
    """What was asked for; else surprise guides where it is known to help (a list of jobs has no mode)."""
    if (asked := values["guidance_scale"]) is not None:
        return float(asked)
    rewards = parse_weights(values["reward"] or [SURPRISE])
    return GUIDANCE_SCALE if _surprises(rewards) and values["mode"] in GUIDED_MODES else 0.0


def _guided_times(values: Mapping[str, Any]) -> tuple[float, float]:
    """A list of steps says when, too: then no default restricts it."""
    if values["guidance_range"]:
        low, high = values["guidance_range"]
        return low, high
    listed = values["guidance_steps"] or values["guidance_scales"]
    return (0.0, 1.0) if listed else GUIDANCE_RANGE


def _check_guides(rewards: AskedRewards, what: str) -> None:
    if rewards.weights.keys() <= FINISHED_ONLY:
        names = " and ".join(rewards.weights)
        raise UsageError(f"--reward {names} needs finished candidates: it cannot {what}")
