"""Weights that are not numbers, looked for when a result is none."""

from __future__ import annotations

import torch
from torch import nn

from wmweights.fit import places


def first_not_finite(module: nn.Module) -> str | None:
    """The first parameter or stored buffer that holds NaN or infinity, by name; None if all are finite."""
    for name, value in places(module).items():
        if value.is_floating_point() and not _is_finite(value):
            return name
    return None


def _is_finite(value: torch.Tensor) -> bool:
    narrow = value.element_size() == 1  # float8 knows no isfinite
    return bool(torch.isfinite(value.float() if narrow else value).all())
