"""Which frames to take: arithmetic on frame numbers and times, without any decoding."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from wmreward.errors import UsageError
from wmreward.video.types import SourceFrame

# Matroska rounds times to a millisecond. Of two frames equally near a wanted time, the choice must
# not hang on that rounding, so the later one has to be nearer by more than this.
_TIE_S = Fraction(1, 1000)

MOST_REPEATS, MOST_REPEATS_IN_ALL = 10_000, 100_000
"""How often one frame is taken at most, and how many frames of a video are repeats at most: a time stamp may
lie years ahead."""


Chooser = Callable[[Iterable[SourceFrame], Fraction], Iterator[tuple[SourceFrame, int]]]
"""Takes frames at a rate: each that is chosen, and how often it is taken."""


class GapError(ValueError):
    """A frame would have to be repeated too often; says how long the gap after it is."""


def uniform_indices(num_frames: int, max_frames: int = 49) -> NDArray[np.int64]:
    """Frame numbers spread evenly over a whole video, as the released scorer picks them.

    That is floor(linspace(0, num_frames - 1, M)) with M = min(max_frames, num_frames); both ends
    are included, and steps may alternate (1, 2, 2, ... for 81 frames).

    Returns:
        int64 [M], increasing.

    Raises:
        UsageError: if either number is below 1.
    """
    if num_frames < 1 or max_frames < 1:
        raise UsageError(f"cannot pick {max_frames=} of {num_frames=}: both must be 1 or more")
    count = min(max_frames, num_frames)
    return np.linspace(0, num_frames - 1, count).astype(np.int64)


def exact_rate(fps: float | Fraction) -> Fraction:
    """A positive frame rate as a fraction; 29.97 and 23.976 become the NTSC rates they stand for.

    Raises:
        UsageError: if `fps` is not a number above 0.
    """
    if not 0 < float(fps) < 1e6:
        raise UsageError(f"fps must be a number above 0, got {fps}")
    if isinstance(fps, Fraction):
        return fps
    ntsc = Fraction(round(fps * 1001 / 1000) * 1000, 1001)
    if ntsc and round(fps) != fps and abs(ntsc - Fraction(fps)) < Fraction(1, 200):
        return ntsc
    return Fraction(fps).limit_denominator(max(10_000, math.ceil(10_000 / fps)))


def nearest_to_clock(
    frames: Iterable[SourceFrame], fps: float | Fraction
) -> Iterator[tuple[SourceFrame, int]]:
    """For the times k / fps from the first frame to the last, choose the nearest frame.

    Of two equally near frames the earlier is taken. A rate above the source's repeats frames.

    Args:
        frames: in display order with increasing times; at most two are held at a time.
        fps: times per second.

    Yields:
        (frame, repeats): each chosen frame and how many of the times fall to it (1 or more).

    Raises:
        GapError: above `MOST_REPEATS` times fall to one frame, or too many to all.
    """
    rate = exact_rate(fps)
    repeated, step = 0, 1 / rate
    held: SourceFrame | None = None
    wanted = Fraction(0)
    for frame in frames:
        if held is not None:
            gap = frame.time - held.time
            # Nearer to `held` up to half way, and a little beyond for the sake of ties.
            boundary = held.time + gap / 2 + min(_TIE_S, gap / 10) / 2
            repeats = _times_up_to(boundary, wanted, step)
            wanted += repeats * step
            repeated += max(0, repeats - 1)
            _check_gap(held, gap, rate, repeats, repeated)
            if repeats:
                yield held, repeats
        held = frame
    if held is not None:
        # Rounded times must not lose the last frame either.
        repeats = _times_up_to(held.time + min(_TIE_S, step / 10), wanted, step)
        if repeats:
            yield held, repeats


def by_rounded_times(
    frames: Iterable[SourceFrame], fps: float | Fraction
) -> Iterator[tuple[SourceFrame, int]]:
    """Choose frames as FFmpeg's filter ``fps`` does, which the released generator takes videos with.

    A frame's time is rounded to a whole number of 1 / fps, half a one up. Of frames with the same number
    the last is taken, and a number without a frame repeats the one before it. The last frame lasts as
    long as the one before.

    Arguments, results and errors are those of `nearest_to_clock`.
    """
    rate = exact_rate(fps)
    repeated, gap = 0, 1 / rate
    held: SourceFrame | None = None
    for frame in frames:
        if held is not None:
            gap = frame.time - held.time
            repeats = _rounded(frame.time * rate) - _rounded(held.time * rate)
            repeated += max(0, repeats - 1)
            _check_gap(held, gap, rate, repeats, repeated)
            if repeats:
                yield held, repeats
        held = frame
    if held is not None:
        repeats = _rounded((held.time + gap) * rate) - _rounded(held.time * rate)
        if repeats:
            yield held, repeats


def _rounded(number: Fraction) -> int:
    return math.floor(number + Fraction(1, 2))


def _check_gap(
    held: SourceFrame, gap: Fraction, rate: Fraction, repeats: int, repeated: int
) -> None:
    if repeats > MOST_REPEATS or repeated > MOST_REPEATS_IN_ALL:
        raise GapError(
            f"has a gap of {float(gap):.6g} s after frame {held.index}: at {float(rate):g} frames a second "
            f"that frame would come {repeats} times; cut the video there, or take fewer"
        )


def _times_up_to(end: Fraction, first: Fraction, step: Fraction) -> int:
    """How many of first, first + step, first + 2 step, ... are not beyond `end`."""
    return max(0, (end - first) // step + 1)
