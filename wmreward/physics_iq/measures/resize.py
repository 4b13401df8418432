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
_BAND_BYTES = 1 << 16  # of the result that are worked on at once: they fit the processor's cache


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
        rows, shares = _positions(source[0], target[0])
        self._rows = np.stack([rows, rows + 1]).clip(0, source[0] - 1)
        self._row_weights = _weights(shares)
        columns, shares = _positions(source[1], target[1])
        last = source[1] - 1
        # Of columns only: rows keep theirs at an edge.
        shares[(columns < 0) | (columns >= last)] = 0
        columns = columns.clip(0, last)
        self._columns = np.stack([columns, np.minimum(columns + 1, last)])
        self._column_weights = _weights(shares)

    def reached(self, first: int, stop: int) -> slice:
        """The rows of the result that look at rows ``first`` to ``stop`` (exclusive) of a picture."""
        rows = np.flatnonzero((self._rows[1] >= first) & (self._rows[0] < stop))
        return slice(int(rows[0]), int(rows[-1]) + 1) if len(rows) else slice(0, 0)

    def __call__(self, picture: UInt8Array, rows: slice | None = None) -> UInt8Array:
        """uint8 [H, W] or [H, W, C] → uint8 of the target size, or just these ``rows`` of it."""
        wanted = range(self.target[0])[rows or slice(None)]
        if picture.shape[:2] != self.source:
            raise UsageError(f"a picture of {self.source} was expected, got {picture.shape}")
        if self.source == self.target:
            return picture[wanted.start : wanted.stop]
        lines = picture.reshape(self.source[0], -1)
        channels = lines.shape[1] // self.source[1]
        # Columns of bytes: gathering single bytes is faster than gathering short pixels.
        columns = (self._columns[..., None] * channels + np.arange(channels)).reshape(2, -1)
        weights = self._column_weights.repeat(channels, axis=1)
        small = np.empty((len(wanted), columns.shape[1]), np.uint8)
        band = max(1, _BAND_BYTES // columns.shape[1])
        scratch = np.empty((3, band, columns.shape[1]), np.int32)
        for top in range(0, len(small), band):
            out = small[top : top + band]
            total, sums, share = scratch[:, : len(out)]
            total.fill(2)
            worked = slice(wanted.start + top, wanted.start + top + len(out))
            for row, b in zip(self._rows[:, worked], self._row_weights[:, worked], strict=True):
                line = lines.take(row, axis=0)
                # `out` serves for the bytes of a column: allocating would cost more than the sums.
                line.take(columns[0], axis=1, out=out, mode="clip")
                np.multiply(out, weights[0], out=sums)
                line.take(columns[1], axis=1, out=out, mode="clip")
                np.multiply(out, weights[1], out=share)
                sums += share
                sums >>= 4
                sums *= b[:, None]
                sums >>= 16
                total += sums
            total >>= 2
            np.copyto(out, total, casting="unsafe")
        return small.reshape(len(wanted), self.target[1], *picture.shape[2:])


def _positions(size: int, wanted: int) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Along one axis: the source index before each output pixel, and how far it lies beyond, both [wanted].

    Rounded to float32 before it is split, as in OpenCV: else weights differ by one where neither size
    divides the other.
    """
    scale = 1 / (wanted / size)
    position = ((np.arange(wanted) + 0.5) * scale - 0.5).astype(np.float32)
    first = np.floor(position)
    return first.astype(np.intp), position - first


def _weights(shares: NDArray[np.float32]) -> NDArray[np.int32]:
    """Of both neighbours, in 11 bits, [2, wanted]."""
    return np.rint(_ONE * np.stack([1 - shares, shares])).astype(np.int32)
