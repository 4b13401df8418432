"""Videos in memory → a checked tensor."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from os import PathLike
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wmreward.errors import UsageError, VideoWarning

Frames = NDArray[Any] | Tensor | Sequence[Any]
"""An array, a tensor, or a list of frames."""

ValueRange = Literal["-1,1", "0,1", "0,255"]
_RANGES = 'value_range="-1,1", "0,1" or "0,255"'
_TO_UNIT = {"-1,1": (1.0, 0.0), "0,1": (2.0, -1.0), "0,255": (1 / 127.5, -1.0)}

_OVERSHOOT, _FAR_OUTSIDE = 0.1, 0.5
"""How far values may lie outside the stated range, as a share of its width, without a word, and at all. A
decoder overshoots by some percent; another range lies outside by half or more."""

_A_VIDEO = (
    "a video is a path, an array [T, H, W, 3], a tensor [3, T, H, W] or a list of frames [H, W, 3]"
)


def is_several(video: Any) -> bool:
    """Whether it is a list of videos, and not one of frames.

    Raises:
        UsageError: an empty list.
    """
    if not isinstance(video, list | tuple):
        return False
    if not video:
        raise UsageError("an empty list holds no video")
    first = video[0]
    return isinstance(first, str | PathLike | list | tuple) or getattr(first, "ndim", 0) >= 4


def is_batch(video: Any) -> bool:
    """Whether it is an array or a tensor of several videos."""
    return getattr(video, "ndim", 0) == 5


def video_tensor(video: Frames, value_range: ValueRange | None) -> Tensor:
    """Arrays, tensors and lists of frames → ``[B, 3, T, H, W]``, uint8 or in [−1, 1]; differentiable.

    Accepts arrays ``[T, H, W, 3]`` or ``[B, T, H, W, 3]``, tensors ``[3, T, H, W]`` or ``[B, 3, T, H, W]``
    (or laid out like arrays), and lists of frames. They are uint8, or floating point whose range
    ``value_range`` states: guessing it from the values goes wrong on dark videos.
    """
    frames: Any = _stacked(video) if isinstance(video, list | tuple) else video
    tensor = frames if isinstance(frames, Tensor) else _of_array(frames)
    if tensor.layout is not torch.strided:
        raise UsageError("a video tensor must be dense: video.to_dense() makes it so")
    if tensor.is_meta:
        raise UsageError("a video tensor on the device 'meta' has a shape, but no values")
    tensor = _channels_first(tensor)
    if 0 in tensor.shape:
        raise UsageError(f"the video is empty: shape {list(frames.shape)}")
    tensor = tensor if tensor.ndim == 5 else tensor[None]
    if tensor.dtype == torch.uint8:
        if value_range not in (None, "0,255"):
            raise UsageError(
                "the values of a uint8 video go from 0 to 255: leave out value_range, or say "
                f'value_range="0,255" instead of {_said(value_range)}'
            )
        return tensor
    return _in_range(tensor, value_range)


def _stacked(frames: Sequence[Any]) -> NDArray[Any] | Tensor:
    """A list of frames, which must be alike, as one video."""
    alike: list[Any] = [
        frame if isinstance(frame, Tensor) else np.asarray(frame) for frame in frames
    ]
    first = alike[0]
    for number, frame in enumerate(alike):
        if frame.ndim != 3 or 3 not in (
            frame.shape[-1],
            isinstance(frame, Tensor) and frame.shape[0],
        ):
            raise UsageError(
                f"frame {number} of the list must be [H, W, 3], not {list(frame.shape)}; of an image it is "
                "image.convert('RGB')"
            )
        if frame.shape != first.shape or type(frame) is not type(first):
            raise UsageError(
                f"the frames of the list differ: frame 0 is {_told(first)}, frame {number} {_told(frame)}"
            )
    if isinstance(first, Tensor):
        return torch.stack(alike, dim=0 if first.shape[-1] == 3 else 1)
    return np.stack(alike)


def _of_array(video: Any) -> Tensor:
    """A tensor laid out like the array."""
    if not isinstance(video, np.ndarray):
        raise UsageError(f"{_A_VIDEO}, not {_told(video)}")
    if isinstance(video, np.ma.MaskedArray):
        raise UsageError("a masked array leaves pixels open: video.filled(value) gives them one")
    if video.ndim not in (4, 5) or video.shape[-1] != 3:
        raise UsageError(
            f"a video array must be [T, H, W, 3], not {list(video.shape)}{_array_hint(video)}"
        )
    if video.dtype != np.uint8 and not np.issubdtype(video.dtype, np.floating):
        raise UsageError(
            f"a video must be uint8 or floating point, not {video.dtype}; of whole numbers from 0 to 255 it "
            "is video.astype(np.uint8)"
        )
    if video.dtype not in (np.uint8, np.float16, np.float32, np.float64):
        video = video.astype(np.float64)  # longer floats, which PyTorch does not know
    # PyTorch warns of memory that may not be written to, and takes no negative strides.
    return torch.from_numpy(np.require(video, requirements=("C", "W")))


def _channels_first(tensor: Tensor) -> Tensor:
    """``[3, T, H, W]`` or ``[B, 3, T, H, W]`` of a tensor that is laid out so or like an array."""
    if tensor.ndim in (4, 5):
        if tensor.shape[-1] == 3 and (tensor.dtype == torch.uint8 or tensor.shape[-4] != 3):
            return tensor.movedim(-1, -4)
        if tensor.shape[-4] == 3:
            return tensor
    raise UsageError(
        f"a video tensor must be [3, T, H, W] or [B, 3, T, H, W], not {list(tensor.shape)}"
        f"{_tensor_hint(tensor)}"
    )


def _array_hint(video: NDArray[Any]) -> str:
    """What a video of this shape may be, and how to make it right."""
    shape = video.shape
    if len(shape) == 3 and shape[-1] in (1, 3):
        return ": that is one picture; a video has frames"
    if len(shape) == 3:
        return ": grey frames are np.stack([video] * 3, axis=-1)"
    if len(shape) not in (4, 5):
        return ""
    if shape[-1] == 1:
        return ": grey frames are np.repeat(video, 3, axis=-1)"
    if shape[-1] == 4:
        return ": without the alpha channel it is video[..., :3]"
    if shape[-3] == 3:
        return ": with channels last it is np.moveaxis(video, -3, -1)"
    if shape[-4] == 3:
        return ": with channels last it is np.moveaxis(video, -4, -1)"
    return ""


def _tensor_hint(video: Tensor) -> str:
    """Likewise."""
    shape = video.shape
    if len(shape) == 3 and (shape[0] in (1, 3) or shape[-1] in (1, 3)):
        return ": that is one picture; a video has frames"
    if len(shape) == 3:
        return ": grey frames are video.expand(3, -1, -1, -1)"
    if len(shape) not in (4, 5):
        return ""
    if shape[-3] == 3:
        return ": with channels before time it is video.movedim(-3, -4)"
    if shape[-4] == 1:
        return ": grey frames are video.repeat_interleave(3, dim=-4)"
    return ""


def _in_range(tensor: Tensor, value_range: ValueRange | None) -> Tensor:
    """Floating-point values of a stated range, in [−1, 1]."""
    if not tensor.is_floating_point():
        raise UsageError(
            f"a video tensor must be uint8 or floating point, not {tensor.dtype}; of whole numbers from 0 "
            "to 255 it is video.to(torch.uint8)"
        )
    check_finite_pixels(tensor)
    if not isinstance(value_range, str) or value_range not in _TO_UNIT:
        wrong = "" if value_range is None else f", not {_said(value_range)}"
        raise UsageError(
            f"say what range the values are in: {_RANGES}{wrong} ({_extremes(tensor)})"
        )
    check_range(tensor.detach(), value_range)
    scale, shift = _TO_UNIT[value_range]
    tensor = tensor if tensor.dtype == torch.float64 else tensor.float()
    return tensor if (scale, shift) == (1.0, 0.0) else tensor * scale + shift


def check_finite_pixels(video: Tensor) -> None:
    """Raise ``UsageError`` for a video that holds infinity, or what is no number."""
    if not video.detach().isfinite().all():
        raise UsageError("the video contains NaN or infinity")


def check_range(tensor: Tensor, stated: ValueRange, told: str = "", advice: str = "") -> None:
    """Refuse values far outside the range that is said to be theirs; warn of what is only odd.

    Args:
        tensor: The video.
        stated: The range.
        told: The range, in words; by default the argument ``value_range``.
        advice: What to do, where it is not that argument that says it.

    Raises:
        UsageError: values far outside.
    """
    told = told or f'value_range="{stated}"'
    low, high = (float(value) for value in stated.split(","))
    least, most = float(tensor.min()), float(tensor.max())
    outside = max(low - least, most - high) / (high - low)
    found = _extremes(tensor)
    if outside > _FAR_OUTSIDE:
        fitting = next(
            (
                other
                for other in ("0,1", "-1,1", "0,255")
                if _fits(least, most, other) and other != stated
            ),
            None,
        )
        perhaps = f'; perhaps it is value_range="{fitting}"' if fitting else ""
        raise UsageError(f"{found}, far outside {told}{advice or perhaps}")
    if outside > _OVERSHOOT:
        warnings.warn(f"{found}, outside {told}", VideoWarning, stacklevel=3)
    elif stated == "0,255" and 0 < most <= 1:
        warnings.warn(
            f'{found}: nearly black for {told}; perhaps it is value_range="0,1"',
            VideoWarning,
            stacklevel=3,
        )


def _fits(least: float, most: float, stated: str) -> bool:
    low, high = (float(value) for value in stated.split(","))
    slack = _OVERSHOOT * (high - low)
    return low - slack <= least and most <= high + slack


def _extremes(tensor: Tensor) -> str:
    least, most = float(tensor.detach().min()), float(tensor.detach().max())
    return f"the values of the video go from {least:.4g} to {most:.4g}"


def _said(value_range: object) -> str:
    """What was passed for a range, as it is written."""
    return f'"{value_range}"' if isinstance(value_range, str) else str(value_range)


def _told(thing: Any) -> str:
    shape = getattr(thing, "shape", None)
    return f"a {type(thing).__name__}" + ("" if shape is None else f" {list(shape)}")
