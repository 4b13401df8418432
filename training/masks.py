"""Which tokens the encoder keeps and which the predictor must fill in."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Masks(NamedTuple):
    """Token indices, ``[K]`` for the whole batch or ``[B, K]``."""

    keep: Tensor
    target: Tensor


def causal_masks(tubelets: int, grid: int, device: torch.device) -> Masks:
    """The first half of the clip is seen, the second predicted: the split used for scoring."""
    indices = torch.arange(tubelets * grid**2, device=device)
    return Masks(*indices.chunk(2))


def block_masks(
    count: int,
    tubelets: int,
    grid: int,
    generator: torch.Generator,
    device: torch.device,
    *,
    blocks: int = 4,
    keep: float = 0.25,
    predict: float = 0.5,
) -> Masks:
    """Random spatial blocks through all time, as in V-JEPA, with equal numbers of tokens per clip.

    The union of ``blocks`` rectangles is hidden. To batch clips, exactly ``keep`` of the places stay
    visible (first those outside the blocks) and ``predict`` of them are asked for (first those inside).
    """

    def uniform(low: float, high: float) -> Tensor:
        span = torch.rand(count, blocks, 1, generator=generator, device=device)
        return low + span * (high - low)

    height, width = uniform(0.35, 0.7), uniform(0.35, 0.7)
    top, left = uniform(0, 1) * (1 - height), uniform(0, 1) * (1 - width)
    centres = (torch.arange(grid, device=device) + 0.5) / grid
    rows = (centres >= top) & (centres < top + height)  # [B, blocks, g]
    columns = (centres >= left) & (centres < left + width)
    hidden = (rows[:, :, :, None] & columns[:, :, None, :]).any(dim=1).flatten(1)  # [B, g²]
    order = hidden + 0.5 * torch.rand(hidden.shape, generator=generator, device=device)
    places = order.argsort(dim=1)
    kept = round(keep * grid**2)
    asked = round(predict * grid**2)
    time = torch.arange(tubelets, device=device)[:, None] * grid**2
    return Masks(
        (places[:, None, :kept] + time).flatten(1), (places[:, None, -asked:] + time).flatten(1)
    )
