"""Steering a diffusers pipeline: inside `guide_pipeline`, its own call is guided; outside it is untouched.

    with guide_pipeline(pipe, reward, guidance=0.15) as guided:
        video = pipe(prompt="a ball rolls off a table", num_frames=81).frames
    print(guided)                                   # what guidance did

The scheduler's ``step()`` is where the pipeline is held: it is told all that guidance needs, and a change of
the model output reaches solvers of any order as if the model had said it.
"""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any

import torch
from torch import Tensor

from wmreward.errors import UsageError, WMRewardError
from wmreward.generation.steering_flags import GUIDANCE_RANGE, GUIDANCE_SCALE
from wmreward.pipelines.borrowed import borrowed
from wmreward.pipelines.coordinates import places_of
from wmreward.pipelines.decoding import Decoder, Economy
from wmreward.pipelines.families.base import Family
from wmreward.pipelines.families.known import family_of
from wmreward.pipelines.seam import continued
from wmreward.pipelines.step import PipelineStep
from wmreward.protocols import Reward
from wmreward.rewards.mix import RewardMix, cutters_of
from wmreward.steering.guidance import Effect, Guidance, GuidanceConfig, GuidedStep, Relief, effect
from wmreward.steering.schedule import GuidanceSchedule

log = logging.getLogger(__name__)

OLDEST = (0, 36)
"""The first version of diffusers that this was tried with."""

MOST_VIDEOS = 32
"""In one call: as many as guidance scores at once."""


@dataclass
class PipelineGuidance:
    """What guides a pipeline, and what it did.

    Attributes:
        calls: A guidance for every call of the pipeline so far, with the records of its steps.
        economy: What is given up for memory.
    """

    calls: list[Guidance] = field(default_factory=list)
    economy: Economy = field(default_factory=Economy)

    @property
    def records(self) -> list[GuidedStep]:
        """Every guided step of the last call."""
        return self.calls[-1].records if self.calls else []

    @property
    def effect(self) -> Effect:
        """What guidance did in the last call, in sum."""
        return effect(self.records)

    def __str__(self) -> str:
        text = str(self.effect)
        if self.economy.errors:
            text += (
                "; frames that were decoded in parts or smaller differ from the exact ones by up to "
                f"{100 * max(self.economy.errors):.3g} %"
            )
        return text


@contextmanager
def guide_pipeline(
    pipe: Any,
    reward: Reward | RewardMix,
    guidance: GuidanceConfig | float = GUIDANCE_SCALE,
    *,
    family: type[Family] | None = None,
    economy: Economy | None = None,
) -> Iterator[PipelineGuidance]:
    """Within the context, calls of ``pipe`` are guided by the gradient of a reward.

    Args:
        pipe: A diffusers pipeline, on any device, in any precision, offloaded or compiled.
        reward: Differentiable, on the same device; scores ``[B, 3, T, H, W]`` in [−1, 1], higher is better.
        guidance: How it acts; a number is the scale of the default: at times 0.05 … 0.6, edges kept, without
            measuring what each step does to the reward, which would take one more decoding.
        family: Describes the pipeline, where it is none of the known ones.
        economy: What to give up for memory from the beginning; the rest is tried when memory runs out.

    Raises:
        UsageError: a pipeline, a scheduler, a reward or settings that cannot be guided (with); on a call, a
            video too short for the reward, or settings for another number of steps.
        WMRewardError: guidance was due, but the pipeline never asked its scheduler.
    """
    _check(pipe, reward, guidance, family)
    family = family or family_of(pipe)
    guided = PipelineGuidance(economy=economy or Economy())
    plain = type(pipe).__call__

    @functools.wraps(plain)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        bound = inspect.signature(plain).bind(self, *args, **kwargs)
        bound.apply_defaults()
        run = _Call(family(self, bound.arguments), reward, guidance, guided)
        with run.holding():
            made = plain(self, *args, **kwargs)
        if not run.steps:
            raise WMRewardError(
                f"{type(self).__name__} of diffusers {_version()} never called step() of "
                f"{type(self.scheduler).__name__}: nothing was guided"
            )
        return made

    call.__wmreward__ = True  # type: ignore[attr-defined]
    with borrowed(pipe, __call__=call):
        yield guided
    if not guided.calls:
        raise WMRewardError(
            f"no call of {type(pipe).__name__} came in guide_pipeline: nothing was guided; call the pipeline "
            "itself inside the with block"
        )


class _Call:
    """One call of a pipeline.

    Attributes:
        steps: How often the scheduler was asked.
    """

    def __init__(
        self,
        family: Family,
        reward: Reward | RewardMix,
        guidance: GuidanceConfig | float,
        guided: PipelineGuidance,
    ) -> None:
        self.family, self.reward, self.config, self.guided = family, reward, guidance, guided
        self.decoder = Decoder(family, guided.economy)
        self.guidance: Guidance | None = None
        self.steps = 0
        if torch.is_inference_mode_enabled():
            raise UsageError(
                "guidance needs gradients, which torch.inference_mode() forbids: use torch.no_grad()"
            )
        asked = family.call.get("num_inference_steps")
        others = any(family.call.get(name) is not None for name in ("timesteps", "sigmas"))
        if asked is not None and not others:
            self._check_steps(asked)

    @contextmanager
    def holding(self) -> Iterator[None]:
        """The scheduler's ``step()`` asks us first, and where the family wants to, the transformer's inputs
        are seen.
        """
        pipe, scheduler = self.family.pipe, self.family.pipe.scheduler
        plain = type(scheduler).step
        signature = inspect.signature(plain)

        @functools.wraps(plain)  # pipelines look for 'eta' and 'generator' in its signature
        def step(scheduler: Any, *args: Any, **kwargs: Any) -> Any:
            bound = signature.bind(scheduler, *args, **kwargs)  # CogVideoX's DPM has another order
            self.steps += 1
            sample, output = bound.arguments["sample"], bound.arguments["model_output"]
            changed = self._guided(scheduler, bound.arguments["timestep"], sample, output)
            if changed is output:
                return plain(*bound.args, **bound.kwargs)
            bound.arguments["model_output"] = changed
            return _as_before(plain(*bound.args, **bound.kwargs), sample.dtype)

        with ExitStack() as stack:
            stack.enter_context(borrowed(scheduler, step=step))
            if self.family.watches:
                for name in ("transformer", "transformer_2"):
                    if (module := getattr(pipe, name, None)) is not None:
                        hook = module.register_forward_pre_hook(self._saw, with_kwargs=True)
                        stack.callback(hook.remove)
            yield

    def _saw(self, module: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        names = inspect.signature(type(module).forward).parameters
        self.family.shown = dict(zip(list(names)[1:], args, strict=False)) | dict(kwargs)

    def _guided(self, scheduler: Any, timestep: Any, sample: Tensor, output: Tensor) -> Tensor:
        """The model output to go on with; the same where nothing is to be done.

        In float32: a change is often smaller than the last digit of bfloat16.
        """
        if self.guidance is None:
            self.guidance = self._begun(len(scheduler.timesteps), sample)
            self.guided.calls.append(self.guidance)
        position = self.family.position(scheduler, timestep)
        if not position.moves:
            return output
        turn = len(self.guidance.records)
        step = PipelineStep(self.family, position, sample, output, self.decoder, turn)
        velocity = self.guidance(step)
        return output if velocity is step.velocity else step.output(velocity)

    def _begun(self, steps: int, sample: Tensor) -> Guidance:
        """The guidance of this call, whose steps and frames are known now."""
        self._check_steps(steps)
        latents = self.family.complete(self.family.unpack(sample))
        frames = whole = self.family.frames(latents.shape[2])
        if turns := self.decoder.turns(latents.shape[2]):
            frames = min(part.count(self.family.temporal_factor) for part in turns)
        needed = getattr(self.reward, "min_frames", 1)
        if frames < needed:
            raise UsageError(
                f"the reward needs {needed} frames, but sees {frames}: raise num_frames, or take shorter "
                "windows"
            )
        if len(sample) > MOST_VIDEOS:
            raise UsageError(f"{len(sample)} videos in one call: at most {MOST_VIDEOS} are guided")
        self.decoder.shrunk(latents)  # refuses what is too small
        config = self.config
        if not isinstance(config, GuidanceConfig):
            schedule = GuidanceSchedule((config,) * steps, GUIDANCE_RANGE)
            config = GuidanceConfig(schedule=schedule, keep="edges")
        judged = continued(
            self.reward,
            type(self.family.pipe).__name__,
            whole,
            self.family.given_frames,
            sliced=bool(turns),
        )
        return Guidance(judged, config, reliefs=_reliefs(self.reward, self.guided.economy))

    def _check_steps(self, steps: int) -> None:
        if isinstance(self.config, GuidanceConfig):
            planned = len(self.config.schedule.scales)
            if planned != steps:
                raise UsageError(
                    f"guidance is for {planned} steps, but the pipeline takes {steps}: give its schedule as "
                    "many scales"
                )


def _as_before(result: Any, dtype: torch.dtype) -> Any:
    """What ``step()`` returned, its sample as precise as it went in."""
    if isinstance(result, tuple):
        return (result[0].to(dtype), *result[1:])
    result.prev_sample = result.prev_sample.to(dtype)
    return result


def _reliefs(reward: Reward | RewardMix, economy: Economy) -> list[Relief]:
    """What can be given up when memory runs out; what changes nothing comes first."""
    reliefs = []
    cutters = cutters_of(reward.rewards.values() if isinstance(reward, RewardMix) else [reward])
    if any(cutter.grad_batch_size > 1 for cutter in cutters):

        def one_window() -> None:
            for cutter in cutters:
                cutter.batch_size = cutter.grad_batch_size = 1

        reliefs.append(
            Relief(
                "windows of the rewards are differentiated one at a time from now on", one_window
            )
        )
    if not economy.apart:
        text = "the video is decoded once more, apart from the reward, from now on"
        reliefs.append(Relief(text, functools.partial(setattr, economy, "apart", True)))
    if not economy.on_host:
        text = "what the decoder keeps for its gradient waits in host memory from now on"
        reliefs.append(Relief(text, functools.partial(setattr, economy, "on_host", True)))
    if economy.pieces is None and economy.scored is None:
        text = "the decoder's gradient is taken in pieces from now on, which is an approximation"
        reliefs.append(Relief(text, functools.partial(setattr, economy, "pieces", 4)))
    return reliefs


def _check(
    pipe: Any, reward: Any, guidance: GuidanceConfig | float, family: type[Family] | None
) -> None:
    """All that can be found wrong before a call."""
    name = type(pipe).__name__
    if (version := _version()) and _numbers(version) < OLDEST:
        raise WMRewardError(
            f"diffusers {version} is older than {'.'.join(map(str, OLDEST))}, which guidance needs: "
            "pip install --upgrade diffusers"
        )
    family = family or family_of(pipe)
    for part in ("scheduler", "vae"):
        if getattr(pipe, part, None) is None:
            raise UsageError(f"{name} has no {part}: it cannot be guided")
    if (
        "step" not in dir(pipe.scheduler)
        or "sample" not in inspect.signature(type(pipe.scheduler).step).parameters
    ):
        raise WMRewardError(
            f"{type(pipe.scheduler).__name__} of diffusers {version} has no step() with a sample: it cannot "
            "be guided"
        )
    if family.position is Family.position:
        places_of(pipe.scheduler)
    if getattr(type(pipe).__call__, "__wmreward__", False):
        raise UsageError(f"this {name} is guided already")
    if not getattr(reward, "differentiable", False):
        raise UsageError(
            f"reward {getattr(reward, 'name', type(reward).__name__)!r} is not differentiable: it cannot "
            "guide, only choose"
        )
    if isinstance(guidance, GuidanceConfig):
        if guidance.through != "x0":
            raise UsageError(
                f"guidance through={guidance.through} is not there for diffusers' pipelines: use through=x0"
            )
    elif guidance < 0:
        raise UsageError(f"guidance={guidance} must not be negative")


def _version() -> str:
    try:
        return metadata.version("diffusers")
    except metadata.PackageNotFoundError:  # somebody's own pipelines
        return ""


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
