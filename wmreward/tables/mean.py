"""Means over what was drawn at random, with their intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_RESAMPLES = 4000


@dataclass(frozen=True)
class Mean:
    """A mean over jobs, videos or scenes.

    Attributes:
        value: The mean.
        low, high: Its 95 % interval: percentile bootstrap, 4000 draws, fixed seed. Not a number for a
            single value.
        jobs: How many.
    """

    value: float
    low: float
    high: float
    jobs: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Mean | None:
        """None where there is nothing."""
        if not values:
            return None
        array = np.sort(np.asarray(values, dtype=np.float64))  # the order of jobs plays no part
        low = high = math.nan
        if len(array) > 1:
            drawn = np.random.default_rng(0).integers(len(array), size=(_RESAMPLES, len(array)))
            low, high = np.quantile(array[drawn].mean(axis=1), [0.025, 0.975])
        return cls(float(array.mean()), float(low), float(high), len(array))
