"""Which tokens attend to which, and where they live: on one device here, over several in `parallel`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from magi1.transformer.kernels import Kernels
from magi1.transformer.kv_cache import KVCache

ChunkRange = tuple[int, int]
"""Chunks first … last − 1, counted from the beginning of the video."""


@dataclass(frozen=True)
class CacheUse:
    """How one call uses the cache.

    Attributes:
        cache: Where finished chunks are kept.
        store: How many of the call's chunks, from its first on, are written.
    """

    cache: KVCache
    store: int = 0


@dataclass(frozen=True)
class ChunkAttention:
    """Self-attention of one call: every chunk sees a range of chunks, all tokens of it.

    Attributes:
        first: Index of the call's first chunk.
        ranges: What each chunk of the call attends to, itself included.
        cached: The cache that holds the chunks before ``first``; None where no range begins earlier.
    """

    first: int
    ranges: Sequence[ChunkRange]
    cached: CacheUse | None = None

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor, kernels: Kernels) -> Tensor:
        """All tokens of the call: ``q [B, S, heads, d]``, ``k`` and ``v [B, S, groups, d]`` → like q."""
        chunks = len(self.ranges)
        size = q.shape[1] // chunks
        begin = min(start for start, _ in self.ranges)
        if self.cached is not None:
            own = zip(k.split(size, 1), v.split(size, 1), strict=True)
            for chunk, (key, value) in zip(range(self.cached.store), own, strict=False):
                self.cached.cache.write(layer, self.first + chunk, key, value)
        if begin < self.first:
            assert self.cached is not None, "a range begins before the call and there is no cache"
            earlier = self.cached.cache.read(layer, begin, self.first, q.device)
            k = torch.cat([*(key for key, _ in earlier), k], dim=1)
            v = torch.cat([*(value for _, value in earlier), v], dim=1)
        else:
            begin = self.first
        out = []
        for queries, (start, stop) in zip(q.split(size, 1), self.ranges, strict=True):
            seen = slice((start - begin) * size, (stop - begin) * size)
            out.append(kernels.attention(queries, k[:, seen], v[:, seen], None))
        return torch.cat(out, dim=1)


@dataclass(frozen=True)
class Segment:
    """Tokens of one chunk that this process holds."""

    chunk: int
    tokens: slice


class OneDevice:
    """The layout of tokens: all of them here. `parallel.context` has the one that splits them."""

    def of(self, tokens: int) -> OneDevice:
        """The layout of one call with so many tokens; what follows is asked of that."""
        return self

    def segments(self, chunks: int, size: int) -> list[Segment]:
        """Where the chunks' tokens are among those held here; ``size`` tokens per chunk in all."""
        return [Segment(j, slice(j * size, (j + 1) * size)) for j in range(chunks)]

    def split(self, tokens: Tensor) -> Tensor:
        """All tokens ``[…, S, C]`` → those held here (the second axis from the end)."""
        return tokens

    def gather(self, tokens: Tensor) -> Tensor:
        """The inverse of `split`."""
        return tokens

    def attend(
        self,
        attention: ChunkAttention,
        layer: int,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        kernels: Kernels,
    ) -> Tensor:
        """Self-attention of the tokens held here with all that they may see."""
        return attention(layer, q, k, v, kernels)
