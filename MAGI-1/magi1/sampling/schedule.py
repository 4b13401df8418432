"""When which chunk is denoised, at which time, and what it sees: pure arithmetic, no tensors of a model.

Chunks of latent frames enter the window one after the other and are denoised together, the older the
cleaner. A stage is the time between two arrivals. All chunks of a window are a stage apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from magi1.config import MagiConfig, RuntimeConfig
from magi1.transformer.attention import ChunkRange

TimeTransform = Literal["sd3", "square", "piecewise", "identity"]

SHIFT = 3.0
TWELVE_STEPS = {"8,16,16": (0.0, 1 / 8, 3 / 16), "16,16,8": (0.0, 1 / 16, 1 / 8)}
TWELVE_INTERVALS = {"8,16,16": (2.0, 1.0, 1.0), "16,16,8": (1.0, 1.0, 2.0)}
"""The first quarter of the 12-step grids, and how many of 16 equal steps each of their steps spans."""
PREFIX_SPAN = 8
"""Chunks that a prefix chunk sees where the configuration does not say."""


# --- time ---------------------------------------------------------------------------------------------


def time_steps(
    steps: int,
    *,
    transform: TimeTransform = "sd3",
    shift: float = SHIFT,
    shortcut_mode: str = "8,16,16",
) -> Tensor:
    """Times t₀ = 0 (noise) … t_N = 1 (data), ``[N + 1]`` in float32.

    An even grid of N steps (for N = 12: four times three uneven ones) is bent towards noise:
    ``sd3`` squares it and maps x to x / shift / (1 + (1 / shift − 1) x).

    All of it is float32 arithmetic in MAGI-1's order, which ends ``sd3`` one float32 above 1.
    """
    if steps == 12 and shortcut_mode in TWELVE_STEPS:
        quarter = TWELVE_STEPS[shortcut_mode]
        grid = [base + step for base in (0.0, 0.25, 0.5, 0.75) for step in quarter] + [1.0]
        x = torch.tensor(grid, dtype=torch.float32)
    else:
        x = torch.linspace(0, 1, steps + 1, dtype=torch.float32)
    if transform == "sd3":
        x, inverse = x.square(), 1 / shift
        return inverse * x / (1 + (inverse - 1) * x)
    if transform == "square":
        return x.square()
    if transform == "piecewise":
        return torch.where(x < 0.875, x * (0.5 / 0.875), 0.5 + (x - 0.875) * 4)
    return x


def distilled_step_size(steps: int, inner: int, shortcut_mode: str = "8,16,16") -> float:
    """The step size that a distilled model is told in the ``inner``-th step of a stage."""
    if steps != 12:
        return steps / 4 * 2
    intervals = TWELVE_INTERVALS[shortcut_mode]
    return 4 / intervals[inner % len(intervals)] * 2


def guidance_scales(times: Tensor, runtime: RuntimeConfig) -> tuple[Tensor, Tensor]:
    """Scales of previous-chunk and of text guidance at ``times``, like ``times``, in float32.

    The interval of t is the last whose lower edge lies below it, with a margin of 1e-7, so that a time
    on an edge belongs to the upper interval.
    """
    edges = torch.tensor(runtime.cfg_t_range, dtype=torch.float32)
    index = ((edges - 1e-7) < times.float().cpu()[..., None]).sum(dim=-1) - 1
    scales = (
        torch.tensor(table, dtype=torch.float32)[index]
        for table in (runtime.prev_chunk_scales, runtime.text_scales)
    )
    previous, text = scales
    return previous, text


def per_frame(values: Tensor, chunk_width: int, like: Tensor) -> Tensor:
    """One value per chunk ``[chunks]`` → ``[T, 1, 1]``, broadcastable over latents ``like``."""
    return values.repeat_interleave(chunk_width).to(like)[:, None, None]


# --- frames -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class VideoLayout:
    """Frames and chunks of one video, in latent frames.

    Attributes:
        prefix: Latent frames that are given (1 for an image).
        chunk_width: Latent frames per chunk.
        chunks: Chunks in all, those of the prefix included.
    """

    prefix: int
    chunk_width: int
    chunks: int

    @classmethod
    def plan(cls, runtime: RuntimeConfig, prefix: int = 0) -> VideoLayout:
        """The layout for a configuration; generated frames are rounded up to whole chunks."""
        new = runtime.num_frames // runtime.temporal_downsample_factor
        width = runtime.chunk_width
        return cls(prefix, width, -(-(new + prefix) // width))

    @property
    def frames(self) -> int:
        """Latent frames in all."""
        return self.chunks * self.chunk_width

    @property
    def offset(self) -> int:
        """Chunks that lie wholly inside the prefix: they are given, not denoised."""
        return self.prefix // self.chunk_width

    def of_chunk(self, chunk: int) -> slice:
        """The latent frames of a chunk."""
        return slice(chunk * self.chunk_width, (chunk + 1) * self.chunk_width)

    def emitted(self, chunk: int) -> slice:
        """The latent frames that a finished chunk adds to the output.

        A given video is not repeated, a given image is: its frame opens the output.
        """
        start, stop = chunk * self.chunk_width, (chunk + 1) * self.chunk_width
        return slice(start if self.prefix == 1 else max(start, self.prefix), stop)


# --- chunks -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ChunkCall:
    """One step of the loop: the chunks in flight advance by one denoising step each.

    Attributes:
        number: Position among all calls.
        inner: Position within its stage.
        first: The first (cleanest) chunk in flight.
        steps: Denoising step of each chunk in flight, cleanest first.
        ranges: Chunks that each of them attends to.
        refresh: Whether the chunk before ``first``, just finished, is run along as a clean one, to put
            its keys and values into the cache.
        clean_range: What that chunk attends to.
        oldest: The first chunk that this or a later call reads; those before it can be dropped.
        finishes: Whether ``first`` has had all its steps after this call.
    """

    number: int
    inner: int
    first: int
    steps: tuple[int, ...]
    ranges: tuple[ChunkRange, ...]
    refresh: bool
    clean_range: ChunkRange
    oldest: int
    finishes: bool

    @property
    def last(self) -> int:
        """One past the last chunk in flight."""
        return self.first + len(self.steps)

    @property
    def reads_from(self) -> int:
        """The first chunk that has to be run as a clean one before the loop can begin with this call.

        If finished chunks see each other, each needs those before it, down to the first.
        """
        alone = self.clean_range[0] == self.first - 1
        return self.oldest if alone or self.oldest >= self.first else 0


def attention_range(chunk: int, span: int | None) -> ChunkRange:
    """A chunk sees ``span`` chunks, itself included (None: all), and never a later one."""
    return (0 if span is None else max(0, chunk + 1 - span), chunk + 1)


def clean_span(runtime: RuntimeConfig) -> int | None:
    """Chunks that a finished chunk sees, itself included.

    Without ``noise2clean_kvrange`` it sees all, as every chunk does, whatever ``clean_chunk_kvrange`` says.
    """
    return prefix_span(runtime) if runtime.noise2clean_kvrange else None


def prefix_span(runtime: RuntimeConfig) -> int:
    """The same for the chunks of a given video, run before the first step."""
    if runtime.clean_chunk_kvrange != -1:
        return runtime.clean_chunk_kvrange
    return (runtime.noise2clean_kvrange or (PREFIX_SPAN,))[-1]


def _span(step: int, runtime: RuntimeConfig) -> int | None:
    spans: Sequence[int] = runtime.noise2clean_kvrange
    if not spans:
        return None
    return spans[step // (runtime.num_steps // len(spans))]


def chunk_calls(layout: VideoLayout, runtime: RuntimeConfig) -> list[ChunkCall]:
    """All calls of a video, in order.

    In stage s the chunk of index i is in quarter s − (i − offset) of its way, if that is one of the
    ``window_size`` quarters.
    """
    window, chunks, offset = runtime.window_size, layout.chunks, layout.offset
    per_stage = runtime.num_steps // window
    calls: list[ChunkCall] = []
    for stage in range(chunks - offset + window - 1):
        first = max(offset, stage + offset - window + 1)
        last = min(chunks, stage + offset + 1)
        for inner in range(per_stage):
            steps = tuple(
                (stage + offset - chunk) * per_stage + inner for chunk in range(first, last)
            )
            calls.append(
                ChunkCall(
                    number=len(calls),
                    inner=inner,
                    first=first,
                    steps=steps,
                    ranges=tuple(
                        attention_range(chunk, _span(step, runtime))
                        for chunk, step in zip(range(first, last), steps, strict=True)
                    ),
                    refresh=inner == 0 and first > offset,
                    clean_range=attention_range(first - 1, clean_span(runtime)),
                    oldest=0,
                    finishes=steps[0] == runtime.num_steps - 1,
                )
            )
    return _with_oldest(calls)


def _with_oldest(calls: list[ChunkCall]) -> list[ChunkCall]:
    oldest = calls[-1].first
    out = []
    for call in reversed(calls):
        begins = [start for start, _ in call.ranges]
        oldest = min(oldest, *begins, *(call.clean_range[:1] if call.refresh else ()))
        out.append(replace(call, oldest=oldest))
    return out[::-1]


def plan_calls(config: MagiConfig, prefix: int = 0) -> tuple[VideoLayout, list[ChunkCall]]:
    """Layout and calls of a configuration with ``prefix`` given latent frames."""
    layout = VideoLayout.plan(config.runtime_config, prefix)
    return layout, chunk_calls(layout, config.runtime_config)
