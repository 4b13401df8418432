"""Smaller latents: averages over squares of neighbouring cells, which a decoder makes a smaller video of."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from wmreward.errors import UsageError

LEAST = 2
"""Rows and columns of latents that must be left: decoders take one, but that is no picture."""


def most(height: int, width: int) -> int:
    """The most that latents of this size can be shrunk by; 1: not at all."""
    return max(1, min(height, width) // LEAST)


def shrunk(latents: Tensor, by: int | None) -> Tensor:
    """Latents ``[B, C, T, H, W]``, averaged over squares of ``by × by`` cells; differentiable.

    The picture keeps its edges, as rewards stretch it to a square of their own: where ``by`` does not divide
    H or W, squares are as much larger or smaller as it takes to fit in, and share cells between them. As
    these are averages, whatever is done to each channel (a factor, an offset) may come before or after.

    Raises:
        UsageError: nothing would be left of the picture.
    """
    if by is None or by == 1:
        return latents
    height, width = latents.shape[-2:]
    fits = most(height, width)
    if not 1 <= by <= fits:
        raise UsageError(
            f"shrink={by} must be from 1 to {fits} for latents of {height} × {width} cells"
        )
    rows, columns = (_averages(cells, round(cells / by), latents) for cells in (height, width))
    return torch.einsum("bcthw,ih,jw->bctij", latents, rows, columns)


def _averages(cells: int, parts: int, like: Tensor) -> Tensor:
    """Matrix ``[parts, cells]``: the mean over each of so many equal parts of a row of cells.

    A product with it has a gradient that is the same every time; that of adaptive pooling on a GPU is not.
    """
    size = cells / parts
    begin = torch.arange(parts, dtype=torch.float64)[:, None] * size
    cell = torch.arange(cells, dtype=torch.float64)
    shared = torch.minimum(begin + size, cell + 1) - torch.maximum(begin, cell)
    return (shared.clamp(min=0) / size).to(like)


def resized(video: Tensor, height: int, width: int) -> Tensor:
    """Frames ``[B, 3, F, H, W]`` as small as those of shrunk latents, as rewards resize them."""
    flat = video.transpose(1, 2).flatten(0, 1)
    small = F.interpolate(flat, size=(height, width), mode="bilinear", antialias=True)
    return small.unflatten(0, (len(video), -1)).transpose(1, 2)
