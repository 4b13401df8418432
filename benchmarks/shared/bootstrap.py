"""How sure a mean over scenes is: percentile bootstrap, paired where two methods saw the same scenes.

Scenes are what is drawn at random, so scenes are what is resampled, together with all that was
measured on them: values are ``[N]``, or ``[N, S]`` with S seeds per scene. NaN marks what could not be
measured; it is left out.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

_RESAMPLES = 4000


Values = dict[str, Tensor]
"""Measures by name, each [N] or [N, S]."""


@dataclass(frozen=True)
class Estimate:
    """A mean, and the 95 % interval around it; all NaN where nothing could be measured."""

    value: float
    low: float
    high: float


def _per_scene(values: Tensor) -> Tensor:
    values = values.double()
    return values.nanmean(dim=1) if values.ndim == 2 else values


@lru_cache(maxsize=2)
def _counts(number: int) -> Tensor:
    """How often each of `number` scenes is drawn, with replacement: [_RESAMPLES, number]."""
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randint(number, (_RESAMPLES, number), generator=generator)
    once = torch.ones(drawn.shape, dtype=torch.float64)
    return torch.zeros_like(once).scatter_add_(1, drawn, once)


def _resampled(per_scene: Tensor) -> Tensor:
    """Means [_RESAMPLES] of scenes [N] drawn with replacement: the same draws in every call."""
    values = per_scene.cpu()
    counts = _counts(len(values))
    known = (~values.isnan()).double()
    means = counts @ values.where(values.isfinite(), 0) / (counts @ known)
    infinite = values.isinf()
    with_infinity = counts @ infinite.double() > 0
    return torch.where(with_infinity, values[infinite].sum(), means)


def _estimate(value: Tensor, resampled: Tensor) -> Estimate:
    edges = resampled.new_tensor([0.025, 0.975])
    low, high = resampled.nanquantile(edges).tolist()
    return Estimate(value.item(), low, high)


def mean(values: Tensor) -> Estimate:
    """Mean over the scenes of their means over the seeds."""
    per_scene = _per_scene(values)
    return _estimate(per_scene.nanmean(), _resampled(per_scene))


def means(values: Values) -> dict[str, Any]:
    """The estimate of every measure, ready for JSON."""
    return {name: asdict(mean(value)) for name, value in values.items()}


def difference(values: Tensor, others: Tensor) -> Estimate:
    """Mean of values − others, scene by scene."""
    return mean(_per_scene(values) - _per_scene(others))


def ratio(values: Tensor, others: Tensor) -> Estimate:
    """Mean of values / mean of others, over the scenes in which both were measured."""
    top, bottom = _per_scene(values), _per_scene(others)
    unknown = top.isnan() | bottom.isnan()
    top, bottom = (side.masked_fill(unknown, torch.nan) for side in (top, bottom))
    return _estimate(top.nanmean() / bottom.nanmean(), _resampled(top) / _resampled(bottom))


@dataclass(frozen=True)
class Spread:
    """What the seed decides.

    Attributes:
        std: Standard deviation between the seeds of one scene (root of the mean variance over scenes).
        mean_std: Standard deviation between seeds of the mean over all scenes: that of the table.
        low: Mean over scenes of the lowest value among the seeds.
        high: Mean over scenes of the highest.
    """

    std: float
    mean_std: float
    low: float
    high: float


def spread(values: Tensor) -> Spread:
    """Of values [N, S] with S >= 2 seeds; scenes in which any seed could not be measured are left out."""
    known = values.double()[~values.isnan().any(dim=1)]
    return Spread(
        std=known.var(dim=1).mean().sqrt().item(),
        mean_std=known.mean(dim=0).std().item(),
        low=known.amin(dim=1).mean().item(),
        high=known.amax(dim=1).mean().item(),
    )
