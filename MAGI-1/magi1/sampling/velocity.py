"""The velocity of the chunks in flight: which forward passes a call takes and how they are combined."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor

from magi1.config import MagiConfig
from magi1.errors import MagiUsageError
from magi1.sampling.schedule import (
    ChunkCall,
    attention_range,
    clean_span,
    distilled_step_size,
    guidance_scales,
    per_frame,
    prefix_span,
)
from magi1.transformer.attention import CacheUse, ChunkRange
from magi1.transformer.dit import DiT
from magi1.transformer.kv_cache import KVCache
from magi1.transformer.layers import ChunkTexts

CONTEXT_SHARE = 0.7
"""Distilled models: share of the velocity with context; the rest is that of the chunk alone."""
CONTEXT_SHARE_VARIABLE = "prev_chunks_scale"


def context_share(environment: Mapping[str, str] = os.environ) -> float:
    """`CONTEXT_SHARE`, or as in MAGI-1 what ``prev_chunks_scale`` in the environment says instead.

    Raises:
        MagiUsageError: something else than a number.
    """
    given = environment.get(CONTEXT_SHARE_VARIABLE, str(CONTEXT_SHARE))
    try:
        share = float(given)
    except ValueError:
        share = math.nan
    if not math.isfinite(share):
        raise MagiUsageError(
            f"{CONTEXT_SHARE_VARIABLE}={given[:40]} in the environment must be a number such as "
            f"{CONTEXT_SHARE}, or not there"
        )
    return share


@dataclass(frozen=True)
class VideoTexts:
    """What the chunks of a video read, projected once.

    Attributes:
        text: The prompt, for every chunk of the video.
        null: No text, for every chunk.
        clean: No text, for a finished chunk that is run again.
    """

    text: ChunkTexts
    null: ChunkTexts
    clean: ChunkTexts

    @classmethod
    def prepare(cls, dit: DiT, features: Tensor, mask: Tensor, *, batch: int = 1) -> VideoTexts:
        """Of features ``[2, chunks, L, D]`` and mask ``[2, chunks, L]``: text row, then null row.

        They serve all ``batch`` videos; with one more axis in front, ``[B, 2, …]``, each has its own.
        """
        mask = mask.cpu()
        if features.ndim == 4:
            features = features.expand(batch, -1, -1, -1, -1)
            mask = mask.expand(batch, -1, -1, -1)
        # Finished chunks read the null features of chunk 0 under the null mask of chunk 1.
        second = min(1, mask.shape[2] - 1)
        return cls(
            text=dit.prepare_text(features[:, 0], mask[:, 0]),
            null=dit.prepare_text(features[:, 1], mask[:, 1]),
            clean=dit.prepare_text(features[:, 1, :1], mask[:, 1, second : second + 1]),
        )

    def select(self, rows: Tensor) -> VideoTexts:
        """Those of these rows of the batch, ``[B]``."""
        return VideoTexts(*(part.select(rows) for part in (self.text, self.null, self.clean)))


@dataclass(frozen=True)
class _Pass:
    """Inputs of one forward pass over chunks in a row."""

    x: Tensor
    times: Tensor
    first: int
    ranges: Sequence[ChunkRange]
    store: int = 0


class MagiVelocity:
    """MAGI-1's denoiser with its guidance, and the cache that goes with it.

    Base models (three branches): v = (1 − p) U + (p − s) B + s A, with A = text and previous chunks,
    B = previous chunks, U = each chunk alone, and scales p, s by time. Branches whose weight is zero are
    not computed. Distilled models take one pass; from the time
    ``distill_nearly_clean_chunk_threshold`` on, the cleanest chunk is run once more alone.

    Args:
        dit: The transformer.
        config: Its configuration.
        texts: What the chunks read.
        cache: Where finished chunks are kept; a new one by default.
    """

    def __init__(
        self, dit: DiT, config: MagiConfig, texts: VideoTexts, cache: KVCache | None = None
    ) -> None:
        self.dit, self.config, self.texts = dit, config, texts
        self.cache = cache or KVCache()
        self.context_share = context_share() if self._single else 1.0

    def __call__(
        self, call: ChunkCall, x: Tensor, times: Tensor, clean: Tensor | None = None
    ) -> Tensor:
        """Velocity of the chunks in flight, in float32.

        Differentiable in ``x``; calling it again with the same call changes nothing in the cache.

        Args:
            call: Which chunks, and what they see.
            x: Their latents, ``[B, C, T, H, W]``.
            times: Their times, ``[chunks]``.
            clean: The finished chunk before them, where ``call.refresh``.
        """
        self.cache.forget_before(call.oldest)
        if self.config.runtime_config.cfg_number == 1:
            return self._distilled(call, x, times, clean)
        return self._guided(call, x, times, clean)

    def fill(self, latents: Tensor, first: int, *, count: int, given: int) -> None:
        """Run finished chunks, ``latents [B, C, T, H, W]``, only to put them into the cache.

        Those that were made see and read what they did when they were finished; see `__call__`.
        """
        runtime = self.config.runtime_config
        times = torch.tensor([runtime.clean_t])
        width = latents.shape[2] // count
        for chunk, part in zip(range(first, first + count), latents.split(width, 2), strict=True):
            made = chunk >= given
            span = clean_span(runtime) if made else prefix_span(runtime)
            read = self.texts.clean if made else self.texts.null[chunk : chunk + 1]
            inputs = _Pass(part, times, chunk, [attention_range(chunk, span)], store=1)
            self._forward(inputs, read, dropped=not self._single, inner=0)

    def select(self, rows: Tensor) -> None:
        """Go on with copies of these rows of the batch, ``[B]``."""
        self.cache.select(rows)
        self.texts = self.texts.select(rows)

    # --- base models ------------------------------------------------------------------------------------

    def _guided(self, call: ChunkCall, x: Tensor, times: Tensor, clean: Tensor | None) -> Tensor:
        previous, text = guidance_scales(times, self.config.runtime_config)
        null = self._with_previous(call, x, times, clean, self.texts.null, dropped=True)
        width = x.shape[2] // len(times)
        p, s = (per_frame(scale, width, x) for scale in (previous, text))
        velocity = (p - s) * null
        if text.any():
            with_text = self._with_previous(call, x, times, clean, self.texts.text, dropped=False)
            velocity = velocity + s * with_text
        if (previous != 1).any():
            velocity = velocity + (1 - p) * self._alone(call, x, times, previous != 1)
        return velocity

    def _with_previous(
        self,
        call: ChunkCall,
        x: Tensor,
        times: Tensor,
        clean: Tensor | None,
        texts: ChunkTexts,
        *,
        dropped: bool,
    ) -> Tensor:
        """The branch that sees previous chunks; without text it is the one that fills the cache."""
        inputs, read = self._window(call, x, times, clean, texts, store=dropped)
        out = self._forward(inputs, read, dropped=dropped, inner=call.inner)
        return out[:, :, -x.shape[2] :]

    def _alone(self, call: ChunkCall, x: Tensor, times: Tensor, wanted: Tensor) -> Tensor:
        """Each wanted chunk as a video of its own, starting at time zero; zeros for the others."""
        chunks = rearrange(x, "b c (j t) h w -> j b c t h w", j=len(times))
        index = wanted.nonzero()[:, 0]
        alone = chunks[index.to(x.device)]
        read = self.texts.null.as_batch([call.first + j for j in index.tolist()])
        repeated = times[index].repeat_interleave(alone.shape[1])[:, None]
        inputs = _Pass(alone.flatten(0, 1), repeated, 0, [(0, 1)])
        out = self._forward(inputs, read, dropped=True, inner=call.inner)
        full = torch.zeros_like(chunks).index_copy(
            0, index.to(x.device), out.unflatten(0, alone.shape[:2])
        )
        return rearrange(full, "j b c t h w -> b c (j t) h w")

    # --- distilled models -------------------------------------------------------------------------------

    def _distilled(self, call: ChunkCall, x: Tensor, times: Tensor, clean: Tensor | None) -> Tensor:
        inputs, read = self._window(call, x, times, clean, self.texts.text, store=True)
        width = x.shape[2] // len(times)
        # In double precision, so that the float32 next to 0.3, a little above it, is above it.
        engine = self.config.engine_config
        nearly_clean = times[0].item() > engine.distill_nearly_clean_chunk_threshold
        if nearly_clean:
            inputs = _Pass(
                x=torch.cat((inputs.x, x[:, :, :width]), dim=2),
                times=torch.cat((inputs.times, times[:1])),
                first=inputs.first,
                ranges=[*inputs.ranges, (call.last, call.last + 1)],
                store=inputs.store,
            )
            read = read + self.texts.text[call.first : call.first + 1]
        out = self._forward(inputs, read, dropped=False, inner=call.inner)
        if not nearly_clean:
            return out[:, :, -x.shape[2] :]
        alone, out = out[:, :, -width:], out[:, :, -x.shape[2] - width : -width]
        share = self.context_share
        mixed = share * out[:, :, :width] + (1 - share) * alone
        return torch.cat((mixed, out[:, :, width:]), dim=2)

    # --- both -------------------------------------------------------------------------------------------

    @property
    def _single(self) -> bool:
        return self.config.runtime_config.cfg_number == 1

    def _window(
        self,
        call: ChunkCall,
        x: Tensor,
        times: Tensor,
        clean: Tensor | None,
        texts: ChunkTexts,
        *,
        store: bool,
    ) -> tuple[_Pass, ChunkTexts]:
        """The chunks in flight, after the finished chunk where the call has one."""
        read = texts[call.first : call.last]
        if not call.refresh:
            return _Pass(x, times, call.first, call.ranges), read
        assert clean is not None, "this call needs the chunk that was just finished"
        clean_t = times.new_tensor([self.config.runtime_config.clean_t])
        inputs = _Pass(
            x=torch.cat((clean, x), dim=2),
            times=torch.cat((clean_t, times)),
            first=call.first - 1,
            ranges=[call.clean_range, *call.ranges],
            store=1 if store else 0,
        )
        return inputs, self.texts.clean + read

    def _forward(self, inputs: _Pass, texts: ChunkTexts, *, dropped: bool, inner: int) -> Tensor:
        runtime, engine = self.config.runtime_config, self.config.engine_config
        step_size = (
            distilled_step_size(runtime.num_steps, inner, engine.shortcut_mode)
            if engine.distill
            else None
        )
        times = inputs.times if inputs.times.ndim == 2 else inputs.times[None]
        return self.dit(
            inputs.x,
            times.expand(len(inputs.x), -1).to(inputs.x.device),
            texts,
            first=inputs.first,
            ranges=inputs.ranges,
            cached=CacheUse(self.cache, inputs.store),
            text_dropped=dropped,
            step_size=step_size,
        )
