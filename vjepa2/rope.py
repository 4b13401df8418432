"""Rotary position embedding over time, row and column, as the released weights expect it.

A head of d channels is split into three blocks of r = 2·⌊⌊d/3⌋/2⌋ channels (time, row, column);
the rest is not rotated. Partner channels are adjacent. In V-JEPA 2 the list of angles of a block is
*tiled*, so the two members of a pair turn by different angles. That is not a rotation; the weights
were trained with it, and any textbook variant gives wrong features. V-JEPA 2.1 is the textbook's:
both turn by the same angle; and its rows and columns are stretched to a grid of fixed size.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

_BASE = 10_000.0


def _block_width(head_dim: int) -> int:
    return 2 * (head_dim // 3 // 2)


@dataclass(frozen=True)
class Rotary:
    """How positions become angles.

    Attributes:
        paired: Both channels of a pair turn by the same angle; otherwise the angles are tiled.
        grid: Rows and columns count as if there were this many patches on a side, whatever the
            picture's size; ``None`` counts them as they are.
    """

    paired: bool
    grid: int | None = None

    def stretched(self, positions: Tensor, rows: int, columns: int) -> Tensor:
        """Integer positions ``[..., 3]`` on a picture of ``rows × columns`` patches, as this one counts."""
        if self.grid is None:
            return positions
        if min(rows, columns) < 2:
            raise ValueError(
                f"a picture of {rows} × {columns} patches is too small: the model stretches rows and "
                "columns and needs at least two of each"
            )
        last = positions.new_tensor([1, rows - 1, columns - 1])
        return positions * positions.new_tensor([1, self.grid - 1, self.grid - 1]) / last


TILED = Rotary(paired=False)
"""V-JEPA 2."""
PAIRED = Rotary(paired=True)
"""V-JEPA 2.1 with its rows and columns counted as they are."""
STRETCHED = Rotary(paired=True, grid=16)
"""V-JEPA 2.1 as it was trained: a grid of 256 pixels."""


def rotary_tables(
    positions: Tensor, head_dim: int, rotary: Rotary = TILED
) -> tuple[Tensor, Tensor]:
    """Cosine and sine of every token's angles.

    Args:
        positions: ``[..., 3]`` (time, row, column), floating point; its dtype is the dtype of the
            tables. A NaN
            marks an axis on which the token has no place: those channels stay as they are.
        head_dim: Channels of one attention head, d.
        rotary: Which channels share an angle.

    Returns:
        ``cos, sin``, each ``[..., d]``; 1 and 0 in the channels that are not rotated.
    """
    r = _block_width(head_dim)
    exponent = torch.arange(r // 2, dtype=positions.dtype, device=positions.device) / (r / 2)
    angles = positions.nan_to_num(nan=0.0)[..., None] * _BASE**-exponent  # [..., 3, r/2]
    if rotary.paired:
        angles = angles.repeat_interleave(2, dim=-1)
    else:
        angles = torch.cat([angles, angles], dim=-1)
    angles = torch.nn.functional.pad(angles.flatten(-2), (0, head_dim - 3 * r))
    return angles.cos(), angles.sin()


@lru_cache(maxsize=32)
def grid_tables(
    tubelets: int,
    rows: int,
    columns: int,
    head_dim: int,
    dtype: torch.dtype,
    device: torch.device,
    rotary: Rotary = TILED,
) -> tuple[Tensor, Tensor]:
    """Tables of a full ``tubelets × rows × columns`` grid of tokens (time slowest), computed once.

    Angles are formed in float32 even for half-precision models: in bfloat16 they would be off by up to 1.5 %.
    A float64 model gets float64 tables.
    """
    with torch.inference_mode(False):  # else a kept table could not take part in a later gradient
        positions = grid_positions(tubelets, rows, columns, table_dtype(dtype), device)
        return rotary_tables(rotary.stretched(positions, rows, columns), head_dim, rotary)


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
    if x.shape[-1] % 2:  # the last channel, which has no partner, is never rotated
        turned = rotate(x[..., :-1], cos[..., :-1], sin[..., :-1])
        return torch.cat([turned, x[..., -1:]], dim=-1)
    # (u, v) → (u·cos − v·sin, v·cos + u·sin). The sign goes into the table, which is small: each copy of
    # all queries costs as much as the arithmetic.
    even, odd = sin.unflatten(-1, (-1, 2)).unbind(-1)
    signed = torch.stack((-even, odd), dim=-1).flatten(-2)
    partner = x.unflatten(-1, (-1, 2)).flip(-1).flatten(-2)
    return torch.addcmul(x * cos, partner, signed).to(x.dtype)
