"""Rotary position embedding over time, row and column, as the released V-JEPA 2 weights expect it.

A head of d channels is split into three blocks of r = 2·⌊⌊d/3⌋/2⌋ channels (time, row, column);
the rest is not rotated. Within a block the list of angles is *tiled* while the partner channels
are *adjacent*, so the two members of a pair turn by different angles. That is not a rotation; the
weights were trained with it, and any textbook variant gives wrong features.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

_BASE = 10_000.0


def _block_width(head_dim: int) -> int:
    return 2 * (head_dim // 3 // 2)


def rotary_tables(positions: Tensor, head_dim: int) -> tuple[Tensor, Tensor]:
    """Cosine and sine of every token's angles.

    Args:
        positions: ``[..., 3]`` (time, row, column), floating point; its dtype is the dtype of the
            tables. A NaN
            marks an axis on which the token has no place: those channels stay as they are.
        head_dim: Channels of one attention head, d.

    Returns:
        ``cos, sin``, each ``[..., d]``; 1 and 0 in the channels that are not rotated.
    """
    r = _block_width(head_dim)
    exponent = torch.arange(r // 2, dtype=positions.dtype, device=positions.device) / (r / 2)
    angles = positions.nan_to_num(nan=0.0)[..., None] * _BASE**-exponent  # [..., 3, r/2]
    angles = torch.cat([angles, angles], dim=-1).flatten(-2)  # [..., 3r]: tiled, as in training
    angles = torch.nn.functional.pad(angles, (0, head_dim - 3 * r))
    return angles.cos(), angles.sin()


@lru_cache(maxsize=32)
def grid_tables(
    tubelets: int, rows: int, columns: int, head_dim: int, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Tables of a full ``tubelets × rows × columns`` grid of tokens (time slowest), computed once.

    Angles are formed in float32 even for half-precision models: in bfloat16 they would be off by up to 1.5 %.
    A float64 model gets float64 tables.
    """
    with torch.inference_mode(False):  # else a kept table could not take part in a later gradient
        positions = grid_positions(tubelets, rows, columns, table_dtype(dtype), device)
        return rotary_tables(positions, head_dim)


def table_dtype(dtype: torch.dtype) -> torch.dtype:
    """float64 for a float64 model, float32 for any other."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def grid_positions(
    tubelets: int, rows: int, columns: int, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """``[N, 3]`` integer positions of the tokens ``t·rows·columns + y·columns + x``."""
    axes = [torch.arange(size, dtype=dtype, device=device) for size in (tubelets, rows, columns)]
    return torch.cartesian_prod(*axes)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Apply the tables to queries or keys ``[B, heads, N, d]``; computed in the tables' precision."""
    even, odd = x.unflatten(-1, (-1, 2)).unbind(-1)
    partner = torch.stack((-odd, even), dim=-1).flatten(-2)
    return (x * cos + partner * sin).to(x.dtype)
