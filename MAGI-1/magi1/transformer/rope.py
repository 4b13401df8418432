"""Rotary positions over time, height and width."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

TIME_SCALE = 10_000.0
REFERENCE_AREA = 16 * 16
"""Token grids of any size are stretched to the extent of a grid of this area."""


class Rotation(NamedTuple):
    """Sine and cosine of every token's angles, ``[tokens, 3·bands]`` each."""

    sin: Tensor
    cos: Tensor


class RotaryEmbedding(nn.Module):
    """Angles = position on each of three axes × learned frequency bands.

    Args:
        head_dim: Channels of a head; an eighth of them is the number of bands, so that 3/4 of the
            channels turn and the rest pass through.
    """

    def __init__(self, head_dim: int) -> None:
        super().__init__()
        count = head_dim // 8
        self.bands = nn.Parameter(torch.empty(count))
        if not self.bands.is_meta:
            self.bands.data.copy_(default_bands(count))

    def forward(self, frames: int, height: int, width: int, *, first: int = 0) -> Rotation:
        """Table for ``frames`` frames of ``height × width`` tokens, the first of them at time ``first``."""
        bands = self.bands
        total = first + frames
        time = _positions(total, bands, centred=False, extent=total)[first:]
        ratio = math.sqrt(height * width / REFERENCE_AREA)
        tall = _positions(height, bands, centred=True, extent=height / ratio)
        broad = _positions(width, bands, centred=True, extent=width / ratio)
        axes = torch.meshgrid(time, tall, broad, indexing="ij")
        angles = torch.cat([axis.reshape(-1, 1) * bands for axis in axes], dim=1)
        return Rotation(angles.sin(), angles.cos())


def default_bands(count: int) -> Tensor:
    """The frequencies a model is initialised with, ``[count]``: a checkpoint's own are learned."""
    return TIME_SCALE ** (-torch.arange(count, dtype=torch.float32) / count)


def _positions(size: int, like: Tensor, *, centred: bool, extent: float) -> Tensor:
    positions = torch.arange(size, device=like.device, dtype=like.dtype)
    if centred:
        positions = positions - (size - 1) / 2
    if size == 1:
        return positions
    # For time the two factors cancel, but for the rounding that the trained model has seen.
    return positions / (size - 1) * (extent - 1)


def rotate(x: Tensor, rotation: Rotation) -> Tensor:
    """Turn the first 6·bands channels of ``x [B, S, heads, d]``: the half-split form of RoPE."""
    sin, cos = rotation.sin[:, None], rotation.cos[:, None]
    half = sin.shape[-1]
    a, b, rest = x[..., :half], x[..., half : 2 * half], x[..., 2 * half :]
    return torch.cat((a * cos - b * sin, b * cos + a * sin, rest), dim=-1)
