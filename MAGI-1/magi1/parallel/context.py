"""Several processes share one video: its tokens in the transformer, its tiles in the VAE.

Tokens (Ulysses): each process holds a run of tokens, which is all that most of a layer needs. For
self-attention tokens are exchanged for heads: each process then has all tokens of some of the heads.

Everything that enters and leaves is whole and the same on every process, gradients included: what is
computed from a result must be the same on all of them, and its gradient counts once. Gradients with
respect to inputs are complete; those of weights are the share of the process.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from einops import rearrange
from torch import Tensor
from torch import distributed as dist

from magi1.errors import MagiUsageError
from magi1.tiling import TileMap, map_tiles
from magi1.transformer.attention import ChunkAttention, OneDevice, Segment
from magi1.transformer.dit import DiT
from magi1.transformer.kernels import Kernels


def parallelise(dit: DiT, group: dist.ProcessGroup | None) -> None:
    """Let the processes of a group share the tokens of every call; each keeps all weights.

    A no-op without a group. All processes must make the same calls with the same inputs. A cache that
    was filled under another layout does not fit any more.

    Raises:
        MagiUsageError: the heads cannot be dealt evenly.
    """
    if group is None:
        return
    size, config = dist.get_world_size(group), dit.config
    heads, groups = config.num_attention_heads, config.num_query_groups
    if heads % size or (groups % size and size % groups):
        raise MagiUsageError(
            f"cp_size: {size} processes cannot share {heads} heads in {groups} groups evenly"
        )
    dit.layout = Ulysses(group)


def share_tiles(group: dist.ProcessGroup | None) -> TileMap:
    """A ``tile_map`` for :mod:`magi1.tiling` that deals tiles to the processes of a group.

    Largest tiles first, each to the process with the least to do. Differentiable.
    """
    return map_tiles if group is None else partial(_map_shared, group)


# --- tokens -------------------------------------------------------------------------------------------


class Ulysses(OneDevice):
    """Tokens in even runs over the processes of a group, the first ones holding one more.

    Args:
        group: The processes.
        tokens: Tokens of the call.
    """

    def __init__(self, group: dist.ProcessGroup, tokens: int = 0) -> None:
        self.group, self.rank, self.size = group, dist.get_rank(group), dist.get_world_size(group)
        whole, rest = divmod(tokens, self.size)
        self.counts = [whole + (rank < rest) for rank in range(self.size)]

    def of(self, tokens: int) -> Ulysses:
        if tokens < self.size:
            raise MagiUsageError(f"cp_size: {self.size} processes cannot share {tokens} tokens")
        return Ulysses(self.group, tokens)

    def segments(self, chunks: int, size: int) -> list[Segment]:
        begin = sum(self.counts[: self.rank])
        end = begin + self.counts[self.rank]
        held = []
        for chunk in range(begin // size, -(-end // size)):
            start, stop = max(chunk * size, begin), min((chunk + 1) * size, end)
            held.append(Segment(chunk, slice(start - begin, stop - begin)))
        return held

    def split(self, tokens: Tensor) -> Tensor:
        own: Tensor = _Split.apply(tokens.movedim(-2, 0), self.counts, self.group)
        return own.movedim(0, -2)

    def gather(self, tokens: Tensor) -> Tensor:
        whole: Tensor = _Gather.apply(tokens.movedim(-2, 0), self.counts, self.group)
        return whole.movedim(0, -2)

    def attend(
        self,
        attention: ChunkAttention,
        layer: int,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        kernels: Kernels,
    ) -> Tensor:
        copies = max(1, self.size // k.shape[2])
        k, v = (part.repeat_interleave(copies, dim=2) for part in (k, v))
        of_ranks = [rearrange(x, "b s (r h) d -> r s b h d", r=self.size) for x in (q, k, v)]
        here = [q.shape[1]] * self.size
        rows = _Exchange.apply(
            torch.cat(of_ranks, dim=3).flatten(0, 1), here, self.counts, self.group
        )
        heads = [part.shape[3] for part in of_ranks]
        q, k, v = rows.transpose(0, 1).split(heads, dim=2)
        out = attention(layer, q, k, v, kernels)
        rows = _Exchange.apply(out.transpose(0, 1), self.counts, here, self.group)
        return rearrange(rows, "(r s) b h d -> b s (r h) d", r=self.size)


# --- tiles --------------------------------------------------------------------------------------------


def _map_shared(
    group: dist.ProcessGroup, function: Callable[[Tensor], Tensor], tiles: Sequence[Tensor]
) -> list[Tensor]:
    rank, size = dist.get_rank(group), dist.get_world_size(group)
    dealt = _deal([tile.numel() for tile in tiles], size)
    order = [index for hand in dealt for index in hand]
    own = _Split.apply(
        torch.cat([tiles[index].flatten() for index in order]),
        [sum(tiles[index].numel() for index in hand) for hand in dealt],
        group,
    )
    mine = _cut(own, [tiles[index].shape for index in dealt[rank]])
    results = map_tiles(function, mine)
    shapes = _shapes_of_all(results, group)
    # A process without a tile still takes part in the exchange of gradients.
    dtype = next(dtype for hand in shapes for _, dtype in hand)
    flat = torch.cat([own[:0].to(dtype), *(result.flatten() for result in results)])
    counts = [sum(shape.numel() for shape, _ in hand) for hand in shapes]
    everything = _Gather.apply(flat, counts, group)
    pieces = _cut(everything, [shape for hand in shapes for shape, _ in hand])
    return [piece for _, piece in sorted(zip(order, pieces, strict=True), key=lambda pair: pair[0])]


def _deal(sizes: Sequence[int], hands: int) -> list[list[int]]:
    """Indices for each of ``hands``: the largest first, always to the one with the least."""
    dealt: list[list[int]] = [[] for _ in range(hands)]
    loads = [0] * hands
    for index in sorted(range(len(sizes)), key=lambda index: -sizes[index]):
        hand = loads.index(min(loads))
        dealt[hand].append(index)
        loads[hand] += sizes[index]
    return dealt


def _cut(flat: Tensor, shapes: Sequence[torch.Size]) -> list[Tensor]:
    parts = flat.split([shape.numel() for shape in shapes])
    return [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]


Form = tuple[torch.Size, torch.dtype]


def _shapes_of_all(results: Sequence[Tensor], group: dist.ProcessGroup) -> list[list[Form]]:
    """Shape and type of every process's results."""
    shapes: list[list[Form]] = [[] for _ in range(dist.get_world_size(group))]
    dist.all_gather_object(shapes, [(x.shape, x.dtype) for x in results], group=group)
    return shapes


# --- exchange of rows, differentiable -----------------------------------------------------------------


class _Exchange(torch.autograd.Function):
    """All-to-all: rows in runs, one for each process, → the runs that they have for this one."""

    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, sent: list[int], received: list[int], group: dist.ProcessGroup
    ) -> Tensor:
        ctx.back = (received, sent, group)
        out = rows.new_empty(sum(received), *rows.shape[1:])
        dist.all_to_all_single(out, rows.contiguous(), received, sent, group=group)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        return _Exchange.apply(grads[0], *ctx.back), None, None, None


class _Split(torch.autograd.Function):
    """All rows, the same everywhere → those of this process."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, counts: list[int], group: dist.ProcessGroup) -> Tensor:
        ctx.back = (counts, group)
        return rows.split(counts)[dist.get_rank(group)].clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        return _Gather.apply(grads[0], *ctx.back), None, None


class _Gather(torch.autograd.Function):
    """The rows of each process → all rows, everywhere."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, counts: list[int], group: dist.ProcessGroup) -> Tensor:
        ctx.back = (counts, group)
        padded = rows.new_zeros(max(counts), *rows.shape[1:])
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(parts, padded, group=group)
        return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        return _Split.apply(grads[0], *ctx.back), None, None
