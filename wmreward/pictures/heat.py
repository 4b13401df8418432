"""Heat maps of surprise over frames. Plain arrays in and out.

Maps may hold NaN where nothing was predicted (the first frames of a video are context only); there the
picture is shown without a heat map.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wmreward.errors import UsageError
from wmreward.pictures.colors import color_table
from wmreward.video.types import UInt8Array

Floats = NDArray[np.floating[Any]]


def heat_overlay(
    frames: UInt8Array,
    maps: Floats,
    vmin: float | None = None,
    vmax: float | None = None,
    alpha: float = 0.85,
) -> UInt8Array:
    """Lay surprise maps over frames so that both can be seen.

    The frame turns grey, and colour comes in with the surprise: unsurprising places stay clear,
    surprising ones glow.

    Args:
        frames: uint8 [T, H, W, 3], RGB.
        maps: float [T, h, w], usually the token grid; enlarged bilinearly.
        vmin: value shown as the lowest colour; the smallest of `maps` by default.
        vmax: value shown as the highest colour; the largest of `maps` by default.
        alpha: opacity of the highest colour, 0 to 1.

    Returns:
        uint8 [T, H, W, 3].

    Raises:
        UsageError: if shapes do not fit, or `vmin`, `vmax` or `alpha` make no range.
    """
    frames, maps = checked_maps(frames, maps)
    if not 0 <= alpha <= 1:
        raise UsageError(f"alpha must lie between 0 and 1, got {alpha}")
    if vmin is not None and vmax is not None and not vmin < vmax:
        raise UsageError(f"vmin must be below vmax, got {vmin} and {vmax}")
    known = maps[np.isfinite(maps)] if np.isfinite(maps).any() else np.zeros(1)
    low = float(known.min()) if vmin is None else vmin
    high = float(known.max()) if vmax is None else vmax
    pairs = zip(frames, maps, strict=True)
    return np.stack([overlay(frame, levels(m, low, high), alpha) for frame, m in pairs])


def checked_maps(frames: ArrayLike, maps: ArrayLike) -> tuple[UInt8Array, Floats]:
    """Frames uint8 ``[T, H, W, 3]`` and maps float64 ``[T, h, w]``; ``UsageError`` for anything else."""
    pictures, values = np.asarray(frames), np.asarray(maps, dtype=np.float64)
    fits = pictures.ndim == 4 and pictures.shape[-1] == 3 and pictures.dtype == np.uint8
    if not fits or values.ndim != 3 or len(values) != len(pictures) or 0 in pictures.shape:
        raise UsageError(
            "need frames uint8 [T, H, W, 3] and maps [T, h, w], got "
            f"{pictures.dtype} {list(pictures.shape)} and {list(values.shape)}"
        )
    return pictures, values


def levels(values: Floats, low: float, high: float) -> Floats:
    """Values to 0..1 (NaN stays); all at the lowest where the range is empty."""
    return np.clip((values - low) / max(high - low, 1e-12), 0.0, 1.0)


def overlay(frame: UInt8Array, levels: Floats, alpha: float) -> UInt8Array:
    """One frame [H, W, 3] under levels [h, w] in 0..1; where they are NaN the frame shows as is."""
    height, width = frame.shape[:2]
    known = _enlarge(np.isfinite(levels).astype(np.float64), height, width)
    level = _enlarge(np.nan_to_num(levels, nan=0.0), height, width)
    colors = color_table()[(level * 255).round().astype(np.intp)]
    grey = frame @ np.array([0.299, 0.587, 0.114])
    # The dark end of the colours would hide the picture, so opacity grows with the level, at
    # first a little faster, to let middling surprise be seen as well.
    opacity = (alpha * level**0.75)[..., None]
    mixed = grey[..., None] * (1 - opacity) + colors * opacity
    shown = frame + (mixed - frame) * known[..., None]
    return np.clip(shown.round(), 0, 255).astype(np.uint8)


def _enlarge(values: Floats, height: int, width: int) -> Floats:
    """Bilinear, with the centres of the outer cells as the border (align_corners=False)."""
    rows = _interpolation(values.shape[0], height)
    columns = _interpolation(values.shape[1], width)
    return rows @ values @ columns.T


def _interpolation(size: int, new_size: int) -> Floats:
    """Weights [new_size, size] of linear interpolation between cell centres."""
    at = np.clip((np.arange(new_size) + 0.5) * size / new_size - 0.5, 0, size - 1)
    return np.maximum(0.0, 1 - np.abs(at[:, None] - np.arange(size)))
