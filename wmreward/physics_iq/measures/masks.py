"""Where something moves in a clip of a static camera: Physics-IQ's motion masks.

Each frame is turned to grey, blurred, and compared with a running average of the clip so far; pixels
that differ by more than 10 grey levels are on, and an opening and a closing tidy them up. Equal bit for
bit to the benchmark's OpenCV code, in plain NumPy.

Two properties matter to whoever reads the numbers. The kernels are 5 × 5 pixels at the clip's own
resolution, so a mask depends on it: at 64 × 64 the opening removes whatever is under 5 pixels wide, a
twelfth of the picture, where at 4K it removes specks. And the average takes a frame in before the
difference is taken, so a step has to be 15 levels high to show, and a moving thing leaves a ghost that
fades by 0.7 per frame: the same motion at another frame rate has another mask.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

from wmreward.errors import UsageError
from wmreward.video.types import UInt8Array

THRESHOLD = 10
"""Grey levels; a pixel is on beyond it."""

_KEPT, _TAKEN = 0.7, 0.3  # shares of the average so far and of the new frame
_GREY = np.array([9798, 19235, 3735], np.float32) / 32768  # of R, G, B; exact in float32
_BAND_PIXELS = 1 << 17  # frames are worked on in bands of rows that fit the processor's cache

BoolArray = NDArray[np.bool_]


class MotionMask:
    """The masks of one clip, frame after frame; remembers one average picture.

    Args:
        height: of all frames, in pixels.
        width: likewise.
    """

    def __init__(self, height: int, width: int) -> None:
        self.size = height, width
        self._band = max(1, min(height, _BAND_PIXELS // width))
        self._grey = np.empty((height + 4, width + 4), np.uint8)
        self._reflected = tuple(np.pad(np.arange(side), 2, mode="reflect") for side in self.size)
        self._average: NDArray[np.float64] | None = None
        self._scratch = _Scratch(self._band, width)

    def __call__(self, frame: UInt8Array) -> BoolArray:
        """The mask [H, W] of the next frame, uint8 [H, W, 3] RGB. The first is always empty."""
        if frame.shape != (*self.size, 3) or frame.dtype != np.uint8:
            raise UsageError(
                f"a frame must be uint8 {[*self.size, 3]}, got {frame.dtype} {list(frame.shape)}"
            )
        self._turn_grey(frame)
        mask = np.zeros(self.size, np.uint8)
        is_first = self._average is None
        if self._average is None:
            self._average = np.empty(self.size, np.float64)
        for top in range(0, self.size[0], self._band):
            rows = slice(top, min(top + self._band, self.size[0]))
            blurred = self._scratch.blur(self._grey[top : rows.stop + 4])
            if is_first:
                self._average[rows] = blurred
            else:
                self._scratch.moved(blurred, self._average[rows], out=mask[rows])
        return open_and_close(mask)

    def _turn_grey(self, frame: UInt8Array) -> None:
        """Fill the grey picture and its border of 2 pixels, mirrored about the outermost ones."""
        inside = self._grey[2:-2, 2:-2]
        for top in range(0, len(frame), self._band):
            rows = slice(top, top + self._band)
            self._scratch.grey(frame[rows], out=inside[rows])
        down, across = self._reflected
        for edge in (0, 1, -2, -1):
            self._grey[2:-2, edge] = inside[:, across[edge]]
        for edge in (0, 1, -2, -1):
            self._grey[edge] = self._grey[2 + down[edge]]


class _Scratch:
    """The arithmetic of one band of rows, in arrays that are used again and again."""

    def __init__(self, rows: int, width: int) -> None:
        self._rgb = np.empty((rows, width, 3), np.float32)
        self._float32 = np.empty((rows, width), np.float32)
        self._float64 = np.empty((rows, width), np.float64)
        self._wide = [np.empty((rows + 4) * (width + 4), np.uint16) for _ in range(2)]
        self._bytes = [np.empty((rows, width), np.uint8) for _ in range(3)]

    def grey(self, frame: UInt8Array, out: UInt8Array) -> None:
        """(9798 R + 19235 G + 3735 B + 16384) >> 15; all sums are below 2²⁴, so float32 is exact."""
        rgb, grey = self._rgb[: len(frame)], self._float32[: len(frame)]
        np.copyto(rgb, frame)
        np.dot(rgb.reshape(-1, 3), _GREY, out=grey.reshape(-1))
        grey += 0.5
        np.copyto(out, grey, casting="unsafe")

    def blur(self, grey: UInt8Array) -> UInt8Array:
        """[1, 4, 6, 4, 1] / 16 along both axes, rounded once; the border of 2 pixels is used up.

        The kernel is [1, 1] four times over, and the sums just fit 16 bits.
        """
        source: NDArray[np.uint16] = self._view(0, grey.shape)
        np.copyto(source, grey)
        for step in range(8):
            shift = (1, 0) if step < 4 else (0, 1)
            height, width = source.shape[0] - shift[0], source.shape[1] - shift[1]
            summed = self._view((step + 1) % 2, (height, width))
            np.add(source[:height, :width], source[shift[0] :, shift[1] :], out=summed)
            source = summed
        source += 128
        source >>= 8
        blurred = self._bytes[0][: len(source)]
        np.copyto(blurred, source, casting="unsafe")
        return blurred

    def _view(self, which: int, shape: tuple[int, ...]) -> NDArray[np.uint16]:
        return self._wide[which][: shape[0] * shape[1]].reshape(shape)

    def moved(self, blurred: UInt8Array, average: NDArray[np.float64], out: UInt8Array) -> None:
        """Take `blurred` into `average`; `out` becomes 1 where they then differ by more than 10."""
        rows = len(blurred)
        share, rounded = self._float64[:rows], self._float32[:rows]
        nearest, higher = self._bytes[1][:rows], self._bytes[2][:rows]
        average *= _KEPT
        np.multiply(blurred, _TAKEN, out=share)
        average += share
        # By way of float32, as the benchmark does: rounding the float64 gives other ties.
        np.copyto(rounded, average, casting="same_kind")
        np.rint(rounded, out=rounded)
        np.copyto(nearest, rounded, casting="unsafe")
        np.maximum(blurred, nearest, out=higher)
        np.minimum(blurred, nearest, out=nearest)
        higher -= nearest
        np.greater(higher, THRESHOLD, out=out.view(np.bool_))


def open_and_close(mask: UInt8Array) -> BoolArray:
    """Morphological opening, then closing, by squares of 5 × 5; what lies outside is left out.

    Works on 64 pixels at a time, packed into words with some bits to spare on either side, and on the rows
    where something is on and those that the squares reach from there.

    Args:
        mask: uint8 [H, W] of 0 and 1.
    """
    tidied = np.zeros(mask.shape, np.bool_)
    first, stop = rows_with_any(mask)
    reached = slice(max(0, first - _REACH), stop + _REACH)
    if first < stop:
        tidied[reached] = _open_and_close(mask[reached])
    return tidied


def rows_with_any(picture: UInt8Array) -> tuple[int, int]:
    """The first row of [H, W] with anything but 0, and the one after the last; (0, 0) if there is none."""
    rows = np.flatnonzero(picture.any(axis=1))
    return (int(rows[0]), int(rows[-1]) + 1) if len(rows) else (0, 0)


def _open_and_close(mask: UInt8Array) -> BoolArray:
    width = mask.shape[1]
    image, inside = _packed(mask), _packed(np.ones((1, width), np.uint8))
    # A dilation by 5 × 5 after another is one by 9 × 9.
    for size, erodes in ((5, True), (9, False), (5, True)):
        image = image | ~inside if erodes else image & inside
        combine: _Combine = np.bitwise_and if erodes else np.bitwise_or
        image = _down(_across(image, size, combine), size, combine)
    pixels = np.unpackbits(image.view(np.uint8), axis=1, bitorder="little")
    return pixels[:, _SPARE : _SPARE + width].view(np.bool_)


_Words = NDArray[np.uint64]
_Combine = Callable[[_Words, _Words], _Words]

_REACH = 4  # rows: an opening adds none, a closing's dilation 2, and its erosion looks 2 further
_SPARE = 8  # bits on either side of a row: as far as the squares reach beyond the image


def _packed(mask: UInt8Array) -> _Words:
    """Rows as words; pixel x is bit x + 8, counted from the lowest of the first word."""
    height, width = mask.shape
    words = np.zeros((height, -(-(width + 2 * _SPARE) // 64)), "<u8")
    bits = np.packbits(mask, axis=1, bitorder="little")
    words.view(np.uint8)[:, _SPARE // 8 : _SPARE // 8 + bits.shape[1]] = bits
    return words


def _across(image: _Words, size: int, combine: _Combine) -> _Words:
    """Combine the `size` (2ⁿ + 1) pixels around each along its row, by doubling."""
    result, covered = image, 1
    while 2 * covered <= size:
        result = combine(result, _ahead(result, covered))
        covered *= 2
    result = combine(result, _ahead(image, size - 1))  # of a pixel and those after it
    back, over = np.uint64(size // 2), np.uint64(64 - size // 2)
    centred = result << back
    centred[:, 1:] |= result[:, :-1] >> over
    return centred


def _ahead(image: _Words, pixels: int) -> _Words:
    """In the place of each pixel, the one so many further on."""
    shifted = image >> np.uint64(pixels)
    shifted[:, :-1] |= image[:, 1:] << np.uint64(64 - pixels)
    return shifted


def _down(image: _Words, size: int, combine: _Combine) -> _Words:
    """The same along the columns."""
    nothing = ~np.uint64(0) if combine is np.bitwise_and else np.uint64(0)
    margin = size // 2
    padded = np.pad(image, ((margin, margin), (0, 0)), constant_values=nothing)
    result, covered = padded, 1
    while 2 * covered <= size:
        result = combine(result[:-covered], result[covered:])
        covered *= 2
    return combine(result[:-1], padded[size - 1 :])


def motion_masks(frames: UInt8Array | Iterable[UInt8Array]) -> BoolArray:
    """The motion masks of a whole clip, at its own resolution.

    Args:
        frames: uint8 [T, H, W, 3] RGB, or an iterable of frames; all of them from the first on, since
            a mask depends on everything before it.

    Returns:
        bool [T, H, W]; the first is all False.

    Raises:
        UsageError: for no frames, or frames of another shape or type.
    """
    moving: MotionMask | None = None
    masks = []
    for frame in frames:
        moving = moving or MotionMask(*np.shape(frame)[:2])
        masks.append(moving(np.asarray(frame)))
    if not masks:
        raise UsageError("motion masks of a clip without frames")
    return np.stack(masks)
