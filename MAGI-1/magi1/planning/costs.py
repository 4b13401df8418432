"""Arithmetic of a run: two floating-point operations per multiply-add of the large matrix products and of
attention.

Left out, together below two per cent: cross-attention to the short text, embeddings, gates, norms and the
text encoder.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from magi1.config import VAE_STRIDE, MagiConfig, RuntimeConfig
from magi1.sampling.schedule import (
    ChunkCall,
    VideoLayout,
    attention_range,
    guidance_scales,
    prefix_span,
    time_steps,
)
from magi1.transformer.attention import ChunkRange
from magi1.vae import VAEConfig

TILE, TILE_STRIDE = 256, 192
"""Pixels of a VAE tile, and from one tile to the next."""

Pass = list[ChunkRange]
"""One forward pass: what each of its chunks attends to."""

ALONE = (0, 1)


@dataclass(frozen=True)
class Work:
    """Arithmetic of the transformer.

    Attributes:
        chunk_forwards: Forward passes, counted in chunks.
        attention_units: Chunks attended to, summed over all of these.
        linear_flop, attention_flop: Floating-point operations of matrix products and of attention.
    """

    chunk_forwards: int
    attention_units: int
    linear_flop: float
    attention_flop: float

    @property
    def flop(self) -> float:
        return self.linear_flop + self.attention_flop


def work_as_run(config: MagiConfig, layout: VideoLayout, calls: list[ChunkCall]) -> Work:
    """Without guidance branches whose weight is zero."""
    return _work(config, _passes(config, layout, calls))


def work_of_all_branches(config: MagiConfig, layout: VideoLayout, calls: list[ChunkCall]) -> Work:
    """Without any saving, as in the released code."""
    return _work(config, _passes_of_all_branches(config, layout, calls))


def oldest_read(call: ChunkCall) -> int:
    """The first chunk that a call reads."""
    starts = [start for start, _ in call.ranges]
    return min(call.first, *starts, *([call.clean_range[0]] if call.refresh else []))


def is_doubled(config: MagiConfig, call: ChunkCall) -> bool:
    """Whether a distilled model runs its cleanest chunk once more alone, as it is nearly clean."""
    runtime, engine = config.runtime_config, config.engine_config
    if runtime.cfg_number != 1:
        return False
    times = time_steps(runtime.num_steps, shortcut_mode=engine.shortcut_mode)
    return times[call.steps[0]].item() > engine.distill_nearly_clean_chunk_threshold


# --- transformer


def _work(config: MagiConfig, passes: Iterable[Pass]) -> Work:
    ranges = [span for one in passes for span in one]
    units = sum(stop - start for start, stop in ranges)
    return Work(
        chunk_forwards=len(ranges),
        attention_units=units,
        linear_flop=len(ranges) * _linear_flop(config),
        attention_flop=units * _attention_flop(config),
    )


def _linear_flop(config: MagiConfig) -> float:
    """Matrix products of one chunk in all layers."""
    m = config.model_config
    heads, groups = m.num_attention_heads * m.kv_channels, m.num_query_groups * m.kv_channels
    projections = (2 * heads + 2 * groups) + 2 * heads  # q, qx, k, v; both outputs
    mlp = (3 if m.gated_linear_unit else 2) * m.ffn_hidden_size
    return 2.0 * config.tokens_per_chunk * m.num_layers * m.hidden_size * (projections + mlp)


def _attention_flop(config: MagiConfig) -> float:
    """Self-attention of one chunk to one chunk in all layers."""
    m = config.model_config
    return 4.0 * config.tokens_per_chunk**2 * m.num_attention_heads * m.kv_channels * m.num_layers


def _passes(config: MagiConfig, layout: VideoLayout, calls: list[ChunkCall]) -> Iterator[Pass]:
    """Forward passes as they are run; `velocity.MagiVelocity` says why."""
    runtime = config.runtime_config
    start = oldest_read(calls[0])
    yield _prefix_pass(runtime, range(start, layout.offset))
    times = time_steps(runtime.num_steps, shortcut_mode=config.engine_config.shortcut_mode)
    for call in calls:
        if runtime.cfg_number == 1:
            yield _single_pass(config, call)
            continue
        previous, text = guidance_scales(times[list(call.steps)], runtime)
        yield _with_clean(call)
        if text.any():
            yield _with_clean(call)
        yield [ALONE] * int((previous != 1).sum())


def _passes_of_all_branches(
    config: MagiConfig, layout: VideoLayout, calls: list[ChunkCall]
) -> Iterator[Pass]:
    runtime = config.runtime_config
    branches = min(2, runtime.cfg_number)
    for _ in range(branches):
        yield _prefix_pass(runtime, range(layout.offset))
    for call in calls:
        if runtime.cfg_number == 1:
            yield _single_pass(config, call)
        else:
            yield from (_with_clean(call), _with_clean(call), [ALONE] * len(call.steps))


def _with_clean(call: ChunkCall) -> Pass:
    """The chunks in flight, after the finished one where it is run again."""
    return [*([call.clean_range] if call.refresh else []), *call.ranges]


def _single_pass(config: MagiConfig, call: ChunkCall) -> Pass:
    """A distilled model's only pass, with the cleanest chunk once more where it is nearly clean."""
    return _with_clean(call) + [ALONE] * is_doubled(config, call)


def _prefix_pass(runtime: RuntimeConfig, chunks: range) -> Pass:
    return [attention_range(chunk, prefix_span(runtime)) for chunk in chunks]


# --- VAE


def decoded(
    runtime: RuntimeConfig, layout: VideoLayout, *, released: bool = False
) -> list[tuple[int, int]]:
    """What is decoded for each new chunk: its latents, and the frames of these that are known already.

    Units of half a second are counted from the beginning of the video, so what comes first after a given
    video is decoded with its end; not so in the released code.
    """
    unit = runtime.fps // 2 // runtime.temporal_downsample_factor
    found = []
    for part in map(layout.emitted, range(layout.offset, layout.chunks)):
        start = part.start if released else part.start - part.start % unit
        known = (part.start - start) * runtime.temporal_downsample_factor
        found.append((part.stop - start, known))
    return found


def frames_made(runtime: RuntimeConfig, layout: VideoLayout, *, released: bool = False) -> int:
    """Frames of the video that is written."""
    pieces = decoded(runtime, layout, released=released)
    return frames_out(runtime, (latents for latents, _ in pieces)) - sum(k for _, k in pieces)


def frames_out(runtime: RuntimeConfig, pieces: Iterable[int]) -> int:
    """Frames that come out of pieces of latents; a tile of a single latent gives one frame."""
    factor = runtime.temporal_downsample_factor
    lengths = [length for piece in pieces for length in _tile_lengths(runtime, piece)]
    return sum(1 if length == 1 else length * factor for length in lengths)


def _tile_lengths(runtime: RuntimeConfig, latents: int) -> list[int]:
    """Latents of each tile in time: half a second, and what is left."""
    full = runtime.fps // 2 // runtime.temporal_downsample_factor
    return [min(full, latents - start) for start in range(0, latents, full)]


def _tile_sides(pixels: int) -> list[int]:
    """Latents along one side of each tile; every stride begins one, cut at the border."""
    return [min(TILE, pixels - at) // VAE_STRIDE for at in range(0, pixels, TILE_STRIDE)]


def vae_flop(vae: VAEConfig, runtime: RuntimeConfig, latents: int) -> float:
    """Encoding or decoding a piece of ``latents`` frames tile by tile."""
    return sum(
        _transformer_flop(vae, 1 + length * height * width)
        for length in _tile_lengths(runtime, latents)
        for height in _tile_sides(runtime.video_size_h)
        for width in _tile_sides(runtime.video_size_w)
    )


def _transformer_flop(vae: VAEConfig, tokens: int) -> float:
    width = vae.embed_dim
    matrices = (4 + 2 * vae.mlp_ratio) * width**2
    return vae.depth * (2.0 * tokens * matrices + 4.0 * tokens**2 * width)
