"""Videos in memory → a checked tensor."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wmreward.errors import UsageError, VideoWarning
from wmreward.video.types import UInt8Array
from wmreward.video_io import Clip

ValueRange = Literal["-1,1", "0,1", "0,255"]
_TO_UNIT = {"-1,1": (1.0, 0.0), "0,1": (2.0, -1.0), "0,255": (1 / 127.5, -1.0)}

_OVERSHOOT, _FAR_OUTSIDE = 0.1, 0.5
"""How far values may lie outside the stated range, as a share of its width, without a word, and at all. A
decoder overshoots by some percent; another range lies outside by half or more."""


def as_floats(frame: UInt8Array) -> NDArray[np.float32]:
    """A `Reduction` that keeps whole frames, ``[3, H, W]`` in [−1, 1], so that no second copy is needed."""
    floats = frame.transpose(2, 0, 1).astype(np.float32)
    floats /= np.float32(127.5)
    floats -= 1
    return floats


def tensor_of(clip: Clip) -> Tensor:
    """``[3, T, H, W]`` of a clip: uint8 of whole frames, or in [−1, 1] of what a reduction here made."""
    frames = torch.from_numpy(clip.frames)
    return frames.movedim(-1, 0) if frames.dtype == torch.uint8 else frames.movedim(0, 1)


def video_tensor(
    video: Tensor | NDArray[np.generic] | Sequence[NDArray[np.generic]],
    value_range: ValueRange | None,
) -> Tensor:
    """Arrays and tensors → ``[B, 3, T, H, W]``, uint8 or floating point in [−1, 1]; differentiable.

    Accepts uint8 ``[T, H, W, 3]`` or ``[B, T, H, W, 3]`` arrays, and tensors ``[3, T, H, W]`` or
    ``[B, 3, T, H, W]`` whose range ``value_range`` states: guessing it from the values goes wrong on
    dark videos.
    """
    if isinstance(video, Tensor):
        tensor = video
        if tensor.ndim in (4, 5) and tensor.dtype == torch.uint8 and tensor.shape[-1] == 3:
            tensor = tensor.movedim(-1, -4)
    else:
        array = np.asarray(video)
        if array.dtype != np.uint8:
            raise UsageError(
                f"a video array must be uint8 [T, H, W, 3], not {array.dtype}; "
                "pass a torch tensor with value_range for other types"
            )
        if array.ndim not in (4, 5) or array.shape[-1] != 3:
            raise UsageError(f"a video array must be [T, H, W, 3], not {list(array.shape)}")
        tensor = torch.from_numpy(np.ascontiguousarray(array)).movedim(-1, -4)
    if tensor.ndim not in (4, 5) or tensor.shape[-4] != 3:
        raise UsageError(
            f"a video tensor must be [3, T, H, W] or [B, 3, T, H, W], not {list(video.shape)}"  # type: ignore[union-attr]
        )
    if 0 in tensor.shape:
        raise UsageError(f"the video is empty: shape {list(tensor.shape)}")
    tensor = tensor if tensor.ndim == 5 else tensor[None]
    if tensor.dtype == torch.uint8:
        if value_range not in (None, "0,255"):
            raise UsageError(f"a uint8 video is in 0,255, not in {value_range}")
        return tensor
    if not tensor.is_floating_point():
        raise UsageError(f"a video tensor must be uint8 or floating point, not {tensor.dtype}")
    if value_range not in _TO_UNIT:
        raise UsageError(
            f"say what range the tensor is in: value_range one of {', '.join(_TO_UNIT)}"
            + (f", not {value_range!r}" if value_range else "")
        )
    if not tensor.detach().isfinite().all():
        raise UsageError("the video contains NaN or infinity")
    _check_range(tensor.detach(), value_range)
    scale, shift = _TO_UNIT[value_range]
    tensor = tensor if tensor.dtype == torch.float64 else tensor.float()
    return tensor if (scale, shift) == (1.0, 0.0) else tensor * scale + shift


def _check_range(tensor: Tensor, stated: ValueRange) -> None:
    """Refuse values far outside the range that is said to be theirs; warn of what is only odd."""
    low, high = (float(value) for value in stated.split(","))
    least, most = float(tensor.min()), float(tensor.max())
    outside = max(low - least, most - high) / (high - low)
    found = f"the values of the video go from {least:.4g} to {most:.4g}"
    if outside > _FAR_OUTSIDE:
        fitting = next(
            (
                other
                for other in ("0,1", "-1,1", "0,255")
                if _fits(least, most, other) and other != stated
            ),
            None,
        )
        advice = f"; perhaps it is {fitting}" if fitting else ""
        raise UsageError(f"{found}, far outside value_range={stated}{advice}")
    if outside > _OVERSHOOT:
        warnings.warn(f"{found}, outside value_range={stated}", VideoWarning, stacklevel=3)
    elif stated == "0,255" and 0 < most <= 1:
        warnings.warn(
            f"{found}: nearly black for value_range=0,255; perhaps it is 0,1",
            VideoWarning,
            stacklevel=3,
        )


def _fits(least: float, most: float, stated: str) -> bool:
    low, high = (float(value) for value in stated.split(","))
    slack = _OVERSHOOT * (high - low)
    return low - slack <= least and most <= high + slack
