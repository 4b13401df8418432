"""Bilinear scaling of 8-bit pictures in the integer arithmetic that Physics-IQ's numbers rest on.

OpenCV's ``INTER_LINEAR``: pixel centres are aligned, nothing is averaged beyond the four neighbours
(no antialiasing), weights have 11 bits. Where half of the weight is on, a mask of 0 and 255 becomes
128 and not 127, which decides whether the pixel counts as moving.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wmreward.errors import UsageError
from wmreward.video.types import UInt8Array

_ONE = 2048  # 1.0 in the 11 bits of a weight


def target_size(height: int, width: int) -> tuple[int, int]:
    """The size (height, width) at which a scenario is compared: a quarter of the first real take.

    Raises:
        UsageError: if a side has fewer than 4 pixels.
    """
    if min(height, width) < 4:
        raise UsageError(f"frames of {width} x {height} are too small: 4 x 4 pixels at least")
    return height // 4, width // 4


class Bilinear:
    """Scales pictures of one size to another; the aspect ratio is not kept.

    Args:
        source: height and width of the pictures, in pixels.
        target: height and width wanted; larger and smaller both work.
    """

    def __init__(self, source: tuple[int, int], target: tuple[int, int]) -> None:
        self.source, self.target = source, target
        self._rows, self._row_weights = _neighbours(source[0], target[0])
        self._columns, self._column_weights = _neighbours(source[1], target[1])

    def __call__(self, picture: UInt8Array) -> UInt8Array:
        """uint8 [H, W] or [H, W, C] → uint8 of the target size."""
        if picture.shape[:2] != self.source:
            raise UsageError(f"a picture of {self.source} was expected, got {picture.shape}")
        if self.source == self.target:
            return picture
        channels = picture.reshape(*self.source, -1).shape[2]
        # Columns of bytes: gathering single bytes is faster than gathering short pixels.
        left, right = (
            (index[:, None] * channels + np.arange(channels)).ravel() for index in self._columns
        )
        a0, a1 = (np.repeat(weight, channels) for weight in self._column_weights)
        lines = picture.reshape(self.source[0], -1)
        total = np.full((self.target[0], left.size), 2, np.int32)
        for row, b in zip(self._rows, self._row_weights, strict=True):
            line = lines[row]
            across = line[:, left] * a0
            across += line[:, right] * a1
            across >>= 4
            across *= b[:, None]
            across >>= 16
            total += across
        total >>= 2
        return total.astype(np.uint8).reshape(*self.target, *picture.shape[2:])


def _neighbours(
    size: int, wanted: int
) -> tuple[NDArray[np.intp], tuple[NDArray[np.int32], NDArray[np.int32]]]:
    """Along one axis: the two source indices [2, wanted] of each output pixel and their weights."""
    position = (np.arange(wanted) + 0.5) * (size / wanted) - 0.5
    first = np.floor(position).astype(np.intp)
    fraction = position - first
    outside = (first < 0) | (first >= size - 1)
    first, fraction = first.clip(0, size - 1), np.where(outside, 0.0, fraction)
    weights = tuple(np.rint(_ONE * part).astype(np.int32) for part in (1 - fraction, fraction))
    return np.stack([first, np.minimum(first + 1, size - 1)]), (weights[0], weights[1])
