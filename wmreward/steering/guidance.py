"""Steering a generator: the gradient of a reward corrects the velocity of every denoising step.

At a guided step the clean estimate x₀ = x_t + (1 − t) v of each chunk in flight is decoded together with
the finished frames before it, which are fixed context; the reward of the frames that are still open is
differentiated, and each chunk's velocity is pushed uphill.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from wmreward.errors import UsageError, WMRewardError, named
from wmreward.protocols import DenoiseStep, RewardScores
from wmreward.steering.estimate import EstimateReward
from wmreward.steering.schedule import GuidanceSchedule

log = logging.getLogger(__name__)

Through = Literal["x0", "dit"]
Rule = Literal["relative", "tilt"]
Direction = Literal["reward", "random"]
Keep = Literal["nothing", "edges"]

TILT_BOUND = 0.5
"""``tilt``: a correction is at most this part of the velocity, as its factor grows without bound at t → 0."""
_TINY = 1e-12


@dataclass(frozen=True, kw_only=True)
class GuidanceConfig:
    """How guidance acts.

    Attributes:
        schedule: When and how strongly.
        through: What the gradient passes: ``x0`` holds the velocity constant (one backward pass through
            decoder and reward), ``dit`` differentiates it too: the generator's idea of what the change
            means.
        rule: ``relative``: Δv = scale · ‖v‖ / ‖g‖ · g for each chunk, as the original does; ``tilt``:
            Δv = scale · (1 − t) / t · g, the flow of the distribution tilted by exp(scale · reward),
            at most half of ‖v‖.
        keep: ``edges``: what would blur is left out of the gradient (:mod:`.keep_edges`); ``nothing``: the
            whole gradient.
        repeats: Gradient steps within one denoising step.
        direction: ``random`` replaces the gradient by a random direction of the same norm: a control.
        measure: Also score what every guided step leads to, for a quarter of the time of guidance more. It
            changes nothing.
        null: The same for a random direction of the same norm.
        seed: Of random directions.
        context_frames: Finished frames that are shown before the open ones; the windows that the reward
            scores should reach no further back.
    """

    schedule: GuidanceSchedule
    through: Through = "x0"
    rule: Rule = "relative"
    keep: Keep = "nothing"
    repeats: int = 1
    direction: Direction = "reward"
    measure: bool = False
    null: bool = False
    seed: int = 0
    context_frames: int = 14

    def __post_init__(self) -> None:
        kinds = {"through": Through, "rule": Rule, "keep": Keep, "direction": Direction}
        for name, kind in kinds.items():
            if getattr(self, name) not in get_args(kind):
                told = named(name, getattr(self, name), flag=f"guidance_{name}")
                raise UsageError(f"{told} must be one of {', '.join(get_args(kind))}")
        if self.repeats < 1:
            told = named("repeats", self.repeats, flag="guidance_repeats")
            raise UsageError(f"{told} must be at least 1")

    def to_json(self) -> dict[str, Any]:
        """All settings that decide a video, and ``null``."""
        settings = asdict(self)
        del settings["measure"]
        return settings


@dataclass(frozen=True)
class GuidedStep:
    """What one guided step did; rewards and norms are means over the batch.

    Attributes:
        call: Number of the guided call.
        chunks, steps, times, scales: Which chunks were guided, where they are on their way, how strongly.
        before, after: Reward of the clean estimate at x_t, and where the correction leads: at x_t + Δt · Δv,
            or None if that was not measured.
        after_random: The same with a random direction of the same norm, if it was asked for.
        change: ‖Δv‖ / ‖v‖.
        cosine: Between Δv and v.
        gradient_norm: Of the reward with respect to latents.
        seconds: Taken by guidance.
        peak_bytes: Most memory of the GPU so far, or None.
    """

    call: int
    chunks: list[int]
    steps: list[int]
    times: list[float]
    scales: list[float]
    before: float
    after: float | None
    after_random: float | None
    change: float
    cosine: float
    gradient_norm: float
    seconds: float
    peak_bytes: int | None

    @property
    def gain(self) -> float | None:
        """What the step did to the reward of the clean estimate, if that was measured."""
        return None if self.after is None else self.after - self.before


@dataclass(frozen=True)
class Relief:
    """One way to need less memory, tried when the GPU is full.

    Attributes:
        what: For the warning.
        apply: Does it.
    """

    what: str
    apply: Callable[[], None]


@dataclass
class Guidance:
    """A guide for a sampler: ``guide(step) -> velocity``.

    Args:
        reward: Differentiable; scores ``[B, 3, T, H, W]`` in [−1, 1]; see `EstimateReward`.
        config: How it acts.
        min_frames: Frames that the reward needs; steps that show fewer are not guided.
        reliefs: What to give up, in this order, when memory runs out.
        batch_size: Videos that are decoded and differentiated at once.

    Attributes:
        records: What every guided step did.
    """

    reward: Callable[[Tensor], RewardScores]
    config: GuidanceConfig
    min_frames: int = 1
    reliefs: Sequence[Relief] = ()
    batch_size: int = 32
    records: list[GuidedStep] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not isinstance(self.config, GuidanceConfig):
            raise UsageError(
                f"config must be a GuidanceConfig, not a {type(self.config).__name__}: "
                "GuidanceConfig(schedule=…)"
            )
        self._left = list(self.reliefs)
        edges = self.config.keep == "edges"
        self._rewards = EstimateReward(
            self.reward, self.config.context_frames, self.batch_size, keep_edges=edges
        )
        self._random = torch.Generator()

    def __call__(self, step: DenoiseStep) -> Tensor:
        """The corrected velocity; exactly the given one where nothing is to be done."""
        scales = self.config.schedule.of(step.steps, step.times.tolist())
        guided = max((j + 1 for j, scale in enumerate(scales) if scale > 0), default=0)
        if not guided:
            return step.velocity
        while (corrected := self._guide_if_it_fits(step, scales, guided)) is None:
            pass
        return corrected

    def _guide_if_it_fits(
        self, step: DenoiseStep, scales: Sequence[float], guided: int
    ) -> Tensor | None:
        """None if memory ran out and something was given up: then it is worth another try."""
        try:
            return self._guide(step, scales, guided)
        except torch.OutOfMemoryError as error:
            self._relieve(error)
        return None

    def _relieve(self, error: Exception) -> None:
        if not self._left:
            raise WMRewardError(
                "guidance does not fit the GPU's memory, although everything was tried: "
                f"{_gpu_memory()}; guide with fewer frames ({named('times', flag='guidance_range')}), a "
                "smaller reward model, or a smaller video"
            ) from error
        relief = self._left.pop(0)
        log.warning("guidance does not fit the GPU's memory: %s", relief.what)
        relief.apply()
        torch.cuda.empty_cache()

    def _guide(self, step: DenoiseStep, scales: Sequence[float], guided: int) -> Tensor:
        begun = time.monotonic()
        frames = slice(0, guided * step.chunk_width)
        if self._rewards.frames(step, frames.stop) < self.min_frames:
            return step.velocity
        # Anew for every call, so that a resumed run draws the same.
        self._random.manual_seed(self.config.seed + len(self.records))
        strength = _per_frame(scales[:guided], step)
        plain = step.velocity[:, :, frames]
        change = torch.zeros_like(plain)
        before = gradient = None
        for _ in range(self.config.repeats):
            reward, gradient = self._gradient(step, change)
            if not gradient.isfinite().all():
                log.warning(
                    "step %d is not guided: the reward's gradient is not finite", step.steps[0]
                )
                return step.velocity
            before = reward if before is None else before
            change = change + self._push(step, gradient, plain + change, strength)
        assert before is not None and gradient is not None
        self._record(step, scales[:guided], before, gradient, change, begun)
        return _replaced(step.velocity, plain + change)

    # --- the reward of the clean estimate ---------------------------------------------------------------

    def _gradient(self, step: DenoiseStep, change: Tensor) -> tuple[Tensor, Tensor]:
        """Rewards ``[B]`` and their gradient in the guided latents, changed as far as they are."""
        frames = change.shape[2]
        with torch.enable_grad():
            leaf = self._changed(step, change).detach().requires_grad_()
            clean = self._clean(step, leaf)[:, :, :frames]
            rewards, of_clean = self._rewards.gradient(step, clean)
            (gradient,) = torch.autograd.grad(clean, leaf, of_clean)
        if not torch.isfinite(gradient).all():
            raise WMRewardError(
                "the gradient through the generator is infinite or no number, while that of the reward is "
                f"finite: {named('through', 'x0', flag='guidance_through')} passes the decoder only, "
                f"{named('dtype', 'float32')} is wider"
            )
        gradient = gradient[:, :, :frames]
        open_frames = torch.arange(frames, device=gradient.device) >= step.given
        return rewards, gradient * open_frames[:, None, None]

    def _clean(self, step: DenoiseStep, latents: Tensor) -> Tensor:
        """The clean estimate at these latents; differentiable in them."""
        held = self.config.through == "x0"
        return step.clean_estimate(latents, step.velocity if held else step.model(latents))

    def _changed(self, step: DenoiseStep, change: Tensor) -> Tensor:
        """The latents as a change of the velocity alone makes them by the end of the step."""
        spans = _per_frame((step.next_times - step.times).tolist(), step)
        frames = change.shape[2]
        moved = step.latents[:, :, :frames] + spans[:frames] * change
        return _replaced(step.latents, moved)

    # --- the correction ---------------------------------------------------------------------------------

    def _push(
        self, step: DenoiseStep, gradient: Tensor, velocity: Tensor, strength: Tensor
    ) -> Tensor:
        """Δv ``[B, C, T, H, W]``; norms are those of single chunks."""
        width = step.chunk_width
        if self.config.direction == "random":
            noise = torch.randn(gradient.shape, generator=self._random).to(gradient)
            gradient = noise * (_norm(gradient, width) / _norm(noise, width).clamp_min(_TINY))
        of_g, of_v = _norm(gradient, width), _norm(velocity, width)
        if self.config.rule == "relative":
            return strength * of_v / of_g.clamp_min(_TINY) * gradient
        times = _per_frame(step.times.tolist()[: gradient.shape[2] // width], step)
        push = strength * (1 - times) / times.clamp_min(_TINY) * gradient
        return push * (TILT_BOUND * of_v / _norm(push, width).clamp_min(_TINY)).clamp(max=1)

    # --- what is told -----------------------------------------------------------------------------------

    def _record(
        self,
        step: DenoiseStep,
        scales: Sequence[float],
        before: Tensor,
        gradient: Tensor,
        change: Tensor,
        begun: float,
    ) -> None:
        """Score what the correction leads to, and on request a random one of the same size."""
        width = step.chunk_width
        plain = step.velocity[:, :, : change.shape[2]]

        def rewards_after(change: Tensor) -> float:
            clean = self._clean(step, self._changed(step, change))
            return self._rewards(step, clean[:, :, : change.shape[2]]).mean().item()

        with torch.no_grad():
            after = rewards_after(change) if self.config.measure or self.config.null else None
            null = None
            if self.config.null:
                noise = torch.randn(change.shape, generator=self._random).to(change)
                size = _norm(change, width) / _norm(noise, width).clamp_min(_TINY)
                null = rewards_after(noise * size)
            pushed = [j for j, scale in enumerate(scales) if scale > 0]
            flat, v = change.flatten(), plain.flatten()
            self.records.append(
                GuidedStep(
                    call=len(self.records),
                    chunks=[step.first_chunk + j for j in pushed],
                    steps=[step.steps[j] for j in pushed],
                    times=[round(step.times[j].item(), 6) for j in pushed],
                    scales=[scales[j] for j in pushed],
                    before=before.mean().item(),
                    after=after,
                    after_random=null,
                    change=(flat.norm() / v.norm().clamp_min(_TINY)).item(),
                    cosine=torch.nn.functional.cosine_similarity(flat, v, dim=0).item(),
                    gradient_norm=gradient.norm().item(),
                    seconds=time.monotonic() - begun,
                    peak_bytes=torch.cuda.max_memory_allocated() if plain.is_cuda else None,
                )
            )


def _per_frame(values: Sequence[float], step: DenoiseStep) -> Tensor:
    """One value per chunk → broadcastable over latents ``[B, C, T, H, W]``."""
    per_chunk = torch.tensor(values, dtype=torch.float64)
    return per_chunk.repeat_interleave(step.chunk_width).to(step.latents)[:, None, None]


def _norm(x: Tensor, chunk_width: int) -> Tensor:
    """L2 norm of every chunk of every video, ``[B, 1, T, 1, 1]``, repeated over its frames."""
    squares = x.square().sum(dim=(1, 3, 4), keepdim=True).unflatten(2, (-1, chunk_width))
    return squares.sum(dim=3).sqrt().repeat_interleave(chunk_width, dim=2)


def _replaced(whole: Tensor, first: Tensor) -> Tensor:
    """``whole`` with other first frames."""
    return torch.cat((first, whole[:, :, first.shape[2] :]), dim=2)


def _gpu_memory() -> str:
    used, total = torch.cuda.max_memory_allocated(), torch.cuda.mem_get_info()[1]
    return f"{used / 2**30:.1f} GiB used of {total / 2**30:.1f}"


# --- the effect as a whole ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Effect:
    """What guidance did over a run.

    Attributes:
        steps: Guided steps.
        gain: Mean change of the reward by a guided step, if that was measured.
        null_gain: Mean of what random directions of the same norm did at these steps, if that was measured.
        null_spread: Standard deviation of what guidance did more than they, over steps.
        change: Mean ‖Δv‖ / ‖v‖.
    """

    steps: int
    gain: float | None
    null_gain: float | None
    null_spread: float | None
    change: float

    @property
    def beyond_null(self) -> bool | None:
        """Whether guidance does more than random directions, step by step, by two standard errors of the
        difference; None: not measured.
        """
        if self.gain is None or self.null_gain is None or self.null_spread is None:
            return None
        return self.gain > self.null_gain + 2 * self.null_spread / self.steps**0.5

    def __str__(self) -> str:
        if not self.steps:
            return "guidance acted on no step"
        changed = f"changed the velocity by {100 * self.change:.2g} %"
        if self.gain is None:
            return f"guidance acted on {self.steps} steps and {changed}"
        text = (
            f"guidance acted on {self.steps} steps, {changed} and "
            f"{'lowered' if self.gain < 0 else 'raised'} the reward of the estimate by "
            f"{abs(self.gain):.3g} a step"
        )
        if self.null_gain is not None:
            text += f"; random directions of the same size: {self.null_gain:+.3g}"
        if self.beyond_null is False:
            text += (
                ". That is within the noise: this guidance does nothing that chance would not do"
            )
        elif self.gain < 0:
            text += (
                ". Its steps overshoot, which need not make the video worse; a smaller "
                f"{named('scale', flag='guidance_scale')} or an earlier end of "
                f"{named('times', flag='guidance_range')} avoids it"
            )
        return text


def effect(records: Sequence[GuidedStep]) -> Effect:
    """Sum up the records of a run."""
    count = len(records)
    gains = torch.tensor([r.gain for r in records if r.gain is not None], dtype=torch.float64)
    nulls = torch.tensor(
        [r.after_random - r.before for r in records if r.after_random is not None],
        dtype=torch.float64,
    )
    measured = len(nulls) == count > 0
    return Effect(
        steps=count,
        gain=gains.mean().item() if len(gains) else None if count else 0.0,
        null_gain=nulls.mean().item() if measured else None,
        null_spread=(gains - nulls).std(correction=0).item() if measured else None,
        change=sum(r.change for r in records) / count if count else 0.0,
    )
