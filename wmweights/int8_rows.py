"""int8 storage with one scale per row, for weights that ship inside a package. Models always run
on floats.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from wmweights.errors import WeightsError
from wmweights.safetensors_file import TensorSpec

_SCALE = ".row_scale"


def quantise(state: dict[str, Tensor], *, keep: Iterable[str] = ()) -> dict[str, Tensor]:
    """Matrices → int8 with a float32 scale per output row; everything else → float16.

    Args:
        state: Floating-point tensors by name.
        keep: Parts of names; matrices that have one in their name go to float16 too.
    """
    parts = tuple(keep)
    out: dict[str, Tensor] = {}
    for name, value in state.items():
        if value.ndim < 2 or any(part in name for part in parts):
            out[name] = value.half()
            continue
        rows = value.float().flatten(1)
        scale = rows.abs().amax(dim=1, keepdim=True).clamp_min(1e-12) / 127
        out[name] = (rows / scale).round().to(torch.int8).view(value.shape)
        out[name + _SCALE] = scale
    return out


def is_quantised(names: Iterable[str]) -> bool:
    """Whether a file with tensors of these names was made by :func:`quantise`."""
    return any(name.endswith(_SCALE) for name in names)


def dequantise(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The inverse, to float32; a state without int8 tensors passes through unchanged.

    Raises:
        WeightsError: a tensor does not have one scale per row.
    """
    out = {}
    for name, value in state.items():
        if name.endswith(_SCALE):
            continue
        scale = state.get(name + _SCALE)
        if scale is None:
            out[name] = value
        else:
            if value.ndim < 2 or tuple(scale.shape) != (len(value), 1):
                raise WeightsError(
                    f"{name} of shape {list(value.shape)} does not go with its scales of shape "
                    f"{list(scale.shape)}"
                )
            out[name] = (value.flatten(1).float() * scale).view(value.shape)
    return out


def dequantised_specs(specs: dict[str, TensorSpec]) -> dict[str, TensorSpec]:
    """What :func:`dequantise` makes of tensors like these."""
    return {
        name: TensorSpec(spec.shape, torch.float32) if name + _SCALE in specs else spec
        for name, spec in specs.items()
        if not name.endswith(_SCALE)
    }
