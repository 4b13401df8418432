"""Videos next to each other in one, each under its name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from os import PathLike

import numpy as np

from wmreward.errors import UsageError
from wmreward.pictures.colors import BACKGROUND, FAINT, GIVEN, INK, WINNER
from wmreward.pictures.extra import check_pictures
from wmreward.pictures.text import draw_text, line_height, shortened
from wmreward.video.types import UInt8Array
from wmreward.video_io import write_video

LEAST_WIDTH = 256
"""Narrower videos are enlarged by a whole factor, so that their names fit."""
GAP, TEXT = 8, 15


@dataclass(frozen=True)
class Side:
    """One of the videos.

    Attributes:
        name: Written above it.
        frames: uint8 ``[T, H, W, 3]``.
        note: A second line, such as seed and score.
        wins: Whether it is marked as the winner.
    """

    name: str
    frames: UInt8Array
    note: str = ""
    wins: bool = False


def write_side_by_side(
    path: str | PathLike[str], sides: Sequence[Side], fps: float, *, given: int = 0
) -> None:
    """Write videos of one size beside each other; shorter ones stand still at their end.

    Args:
        path: Ends in .mp4, .mov or .mkv.
        sides: The videos, from left to right.
        fps: Frames per second.
        given: The first frames that were given and not made: they are marked.

    Raises:
        UsageError: there are none, they have different sizes, or the extra ``plot`` is missing.
        WMRewardError: it cannot be written.
    """
    check_pictures("a video side by side")
    if len({side.frames.shape[1:] for side in sides}) != 1:
        raise UsageError("videos side by side must have one size")
    write_video(path, _pages(sides, given), fps)


def _pages(sides: Sequence[Side], given: int) -> Iterator[UInt8Array]:
    height, width = sides[0].frames.shape[1:3]
    factor = max(1, -(-LEAST_WIDTH // width))
    height, width = height * factor, width * factor
    top = 2 * line_height(TEXT) + 2 * GAP
    empty = np.full((top + height, len(sides) * (width + GAP) - GAP, 3), BACKGROUND, np.uint8)
    for column, side in enumerate(sides):
        left, room = column * (width + GAP) + GAP, width - 2 * GAP
        name = f"{side.name} · winner" if side.wins else side.name
        color = WINNER if side.wins else INK
        draw_text(empty, shortened(name, TEXT, room), GAP, left, TEXT, color)
        note = shortened(side.note, TEXT, room)
        draw_text(empty, note, GAP + line_height(TEXT), left, TEXT, FAINT)
    for time in range(max(len(side.frames) for side in sides)):
        page = empty.copy()
        for column, side in enumerate(sides):
            frame = side.frames[min(time, len(side.frames) - 1)]
            left = column * (width + GAP)
            page[top:, left : left + width] = frame.repeat(factor, axis=0).repeat(factor, axis=1)
            if time < given:
                page[top - 4 : top - 1, left : left + width] = GIVEN
        yield page
