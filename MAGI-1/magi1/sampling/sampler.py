"""The denoising loop: noise in, finished chunks of latents out. It knows no model and writes no file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from magi1.errors import MagiError, MagiUsageError
from magi1.sampling.schedule import ChunkCall, VideoLayout, per_frame


class Velocity(Protocol):
    """What the sampler needs of a denoiser; `velocity.MagiVelocity` is one."""

    def __call__(
        self, call: ChunkCall, x: Tensor, times: Tensor, clean: Tensor | None = None
    ) -> Tensor:
        """Velocity (data − noise) of the chunks in flight; differentiable in ``x``."""
        ...

    def fill(self, latents: Tensor, first: int, *, count: int, given: int) -> None:
        """Take finished chunks as context; the first ``given`` of the video were given, not made."""
        ...

    def select(self, rows: Tensor) -> None:
        """Go on with copies of these rows of the batch, ``[B]``."""
        ...


Decode = Callable[[Tensor], Tensor]
"""Latents ``[B, C, T, H, W]`` → video ``[B, 3, 4T, 8H, 8W]`` in about [−1, 1]; differentiable."""


@dataclass(frozen=True)
class DenoiseStep:
    """What a guide sees of one step.

    Attributes:
        call: Which chunks are in flight, at which steps.
        latents: Their state x_t, ``[B, C, T, H, W]``, given frames in place.
        velocity: What the model says, like ``latents``.
        times, next_times: Time t of each chunk before and after the step, ``[chunks]``.
        finished: All latents before the chunks in flight, ``[B, C, T', H, W]``: fixed context.
        layout: Frames and chunks of the video.
        model: The velocity as a function of ``latents``; gradients flow through the transformer.
        decode: Latents → video.
        decode_unit: Latent frames that are decoded independently of others, counted from the video's
            beginning.
        frames_per_latent: Frames of video that a latent frame stands for.
        ancestors: What `resample` was last told.
    """

    call: ChunkCall
    latents: Tensor
    velocity: Tensor
    times: Tensor
    next_times: Tensor
    finished: Tensor
    layout: VideoLayout
    model: Callable[[Tensor], Tensor]
    decode: Decode
    decode_unit: int = 1
    frames_per_latent: int = 1
    ancestors: list[Tensor] = field(default_factory=list)

    @property
    def steps(self) -> tuple[int, ...]:
        """Which denoising step each chunk is at, counted from 0."""
        return self.call.steps

    @property
    def first_chunk(self) -> int:
        """Index of the first chunk in flight."""
        return self.call.first

    @property
    def chunk_width(self) -> int:
        """Latent frames per chunk."""
        return self.layout.chunk_width

    @property
    def given(self) -> int:
        """How many of the first latent frames in flight are given."""
        return max(0, self.layout.prefix - self.call.first * self.layout.chunk_width)

    def clean_estimate(self, latents: Tensor, velocity: Tensor) -> Tensor:
        """x₀ = x_t + (1 − t) v: where each chunk would arrive in a straight line. Given frames are there."""
        left = per_frame(1 - self.times, self.layout.chunk_width, latents)
        left[: self.given] = 0
        return latents + left * velocity

    def resample(self, ancestors: Tensor) -> None:
        """Go on, after this step, with copies of the batch's rows ``ancestors [B]``."""
        self.ancestors[:] = [ancestors]


Guide = Callable[[DenoiseStep], Tensor]
"""Returns the velocity to use instead."""


@dataclass(frozen=True)
class LoopState:
    """All that is needed to go on: every latent, and which call comes next."""

    latents: Tensor
    next_call: int


@dataclass(frozen=True)
class FinishedChunk:
    """A chunk that has had all its steps.

    Attributes:
        chunk: Its index in the video.
        latents: What it adds to the output, ``[B, C, T, H, W]``; see `VideoLayout.emitted`.
        state: From here the loop can be resumed.
    """

    chunk: int
    latents: Tensor
    state: LoopState


class NotFiniteError(MagiError):
    """A velocity that holds NaN or infinity: what would follow is a black video.

    Attributes:
        guided: Whether the model's own was finite, and a guide made it so.
    """

    def __init__(self, call: ChunkCall, *, guided: bool) -> None:
        where = f"at step {call.steps[0]} of chunk {call.first + 1}"
        text = f"the velocity {where} is not finite"
        if guided:
            text = (
                f"guidance made the velocity {where} infinite or not a number, where the model's own is "
                "finite; lower --guidance_scale, or guide with another reward"
            )
        super().__init__(text)
        self.guided = guided


def make_noise(layout: VideoLayout, channels: int, height: int, width: int, seed: int) -> Tensor:
    """The noise of a whole video, ``[1, C, T, H, W]``: drawn on the CPU, so the same on every device."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, channels, layout.frames, height, width, generator=generator)


def _no_decoder(latents: Tensor) -> Tensor:
    raise ValueError("this loop was given no decoder")


@torch.no_grad()
def denoise(
    velocity: Velocity,
    noise: Tensor,
    times: Tensor,
    calls: Sequence[ChunkCall],
    layout: VideoLayout,
    *,
    prefix: Tensor | None = None,
    guide: Guide | None = None,
    decode: Decode = _no_decoder,
    decode_unit: int = 1,
    frames_per_latent: int = 1,
    resume: LoopState | None = None,
    on_call: Callable[[ChunkCall, Tensor], None] | None = None,
) -> Iterator[FinishedChunk]:
    """Euler steps x ← x + (t' − t) v of every chunk in flight, each at its own time.

    Args:
        velocity: The denoiser.
        noise: The state at t = 0, ``[B, C, T, H, W]``.
        times: t₀ = 0 … t_N = 1, ``[N + 1]``.
        calls: What runs when (`schedule.chunk_calls`).
        layout: Frames and chunks.
        prefix: Given latents ``[B, C, layout.prefix, H, W]``. Whole chunks of them are context; the rest
            replaces the first frames of the first generated chunk in the input of every step.
        guide: May replace the velocity of each step. Gradients are off; a guide turns them on for itself.
        decode, decode_unit, frames_per_latent: Handed on to the guide.
        resume: Go on from here instead of from the beginning.
        on_call: Told of every call and the state after it.

    Yields:
        Each generated chunk as it is finished.

    Raises:
        NotFiniteError: a velocity is not finite.
        MagiUsageError: the guide's has another shape.
    """
    x = (noise if resume is None else resume.latents).clone()
    done = 0 if resume is None else resume.next_call
    if prefix is not None:
        whole = layout.of_chunk(layout.offset).start
        x[:, :, :whole] = prefix[:, :, :whole]
    _fill_cache(velocity, with_prefix(x, prefix), calls[done:], layout)
    for call in calls[done:]:
        frames = slice(layout.of_chunk(call.first).start, layout.of_chunk(call.last - 1).stop)
        shown = with_prefix(x, prefix)
        window = shown[:, :, frames]
        before, after = (times[[k + i for k in call.steps]] for i in (0, 1))
        clean = shown[:, :, layout.of_chunk(call.first - 1)] if call.refresh else None
        v = velocity(call, window, before, clean)
        if not torch.isfinite(v).all():
            raise NotFiniteError(call, guided=False)
        ancestors: list[Tensor] = []
        if guide is not None:

            def model(z: Tensor, call: ChunkCall = call, clean: Tensor | None = clean) -> Tensor:
                return velocity(call, z, times[list(call.steps)], clean)

            v = guide(
                DenoiseStep(
                    call=call,
                    latents=window,
                    velocity=v,
                    times=before,
                    next_times=after,
                    finished=shown[:, :, : frames.start],
                    layout=layout,
                    model=model,
                    decode=decode,
                    decode_unit=decode_unit,
                    frames_per_latent=frames_per_latent,
                    ancestors=ancestors,
                )
            )
            _check_guided(v, window, call)
        x[:, :, frames] = window + per_frame(after - before, layout.chunk_width, x) * v
        for rows in ancestors:
            x = x[rows.to(x.device)]
            velocity.select(rows)
        if on_call is not None:
            on_call(call, x)
        if call.finishes:
            emitted = x[:, :, layout.emitted(call.first)].clone()
            yield FinishedChunk(call.first, emitted, LoopState(x.clone(), call.number + 1))


def _check_guided(velocity: object, latents: Tensor, call: ChunkCall) -> None:
    """A tensor of another shape might fit by broadcasting, and mean something else."""
    if not isinstance(velocity, Tensor) or velocity.shape != latents.shape:
        found = list(velocity.shape) if isinstance(velocity, Tensor) else "no tensor"
        raise MagiUsageError(
            f"the guide returned {found} as a velocity, expected the shape of the latents, "
            f"{list(latents.shape)}"
        )
    if not torch.isfinite(velocity).all():
        raise NotFiniteError(call, guided=True)


def with_prefix(x: Tensor, prefix: Tensor | None) -> Tensor:
    """The state with given frames in place; the state itself keeps what the steps made of them."""
    if prefix is None:
        return x
    return torch.cat((prefix.to(x), x[:, :, prefix.shape[2] :]), dim=2)


def _fill_cache(
    velocity: Velocity, x: Tensor, calls: Sequence[ChunkCall], layout: VideoLayout
) -> None:
    """Context that the next call reads and no call before it has put into the cache."""
    if not calls:
        return
    call = calls[0]
    stop = call.first - 1 if call.refresh else call.first
    start = min(stop, call.reads_from)
    if start < stop:
        frames = slice(layout.of_chunk(start).start, layout.of_chunk(stop - 1).stop)
        velocity.fill(x[:, :, frames], start, count=stop - start, given=layout.offset)
