"""How sure a share is, and how well two sets of scores are told apart."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def wilson(right: float, count: int, z: float = 1.96) -> tuple[float, float]:
    """95 % interval of a share (Wilson's score interval: sane near 0 and 1)."""
    share = right / count
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    half /= 1 + z * z / count
    return middle - half, middle + half


def auroc(positive: Tensor, negative: Tensor) -> float:
    """Probability that a random positive scores above a random negative (ties count half)."""
    pooled = torch.cat([positive, negative]).double()
    _, group, sizes = torch.unique(pooled, return_inverse=True, return_counts=True)
    ends = sizes.cumsum(0).double()
    mean_rank = ends - (sizes.double() - 1) / 2  # 1-based rank, shared among ties
    total = mean_rank[group[: len(positive)]].sum().item()
    p, n = len(positive), len(negative)
    return (total - p * (p + 1) / 2) / (p * n)
