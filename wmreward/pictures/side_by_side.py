"""Videos next to each other in one, each under its name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from os import PathLike

import numpy as np

from wmreward.errors import UsageError
from wmreward.pictures.contact_sheet import BACKGROUND, INK
from wmreward.pictures.lettering import HEIGHT, draw_text
from wmreward.video.types import UInt8Array
from wmreward.video_io import write_video

LEAST_WIDTH = 192
"""Narrower videos are enlarged by a whole factor, so that their names fit."""
GAP, SCALE = 6, 2


def write_side_by_side(
    path: str | PathLike[str], videos: Mapping[str, UInt8Array], fps: float
) -> None:
    """Write videos of one size beside each other; shorter ones stand still at their end.

    Args:
        path: Ends in .mp4, .mov or .mkv.
        videos: uint8 ``[T, H, W, 3]`` by the names that stand above them.
        fps: Frames per second.

    Raises:
        UsageError: there are none, or they have different sizes.
        WMRewardError: it cannot be written.
    """
    if len({frames.shape[1:] for frames in videos.values()}) != 1:
        raise UsageError("videos side by side must have one size")
    write_video(path, _pages(videos), fps)


def _pages(videos: Mapping[str, UInt8Array]) -> Iterator[UInt8Array]:
    height, width = next(iter(videos.values())).shape[1:3]
    factor = max(1, -(-LEAST_WIDTH // width))
    height, width = height * factor, width * factor
    top = HEIGHT * SCALE + 2 * GAP
    empty = np.full((top + height, len(videos) * (width + GAP) - GAP, 3), BACKGROUND, np.uint8)
    for column, name in enumerate(videos):
        draw_text(empty, name, GAP, column * (width + GAP) + GAP, SCALE, INK)
    for time in range(max(map(len, videos.values()))):
        page = empty.copy()
        for column, frames in enumerate(videos.values()):
            frame = frames[min(time, len(frames) - 1)]
            left = column * (width + GAP)
            page[top:, left : left + width] = frame.repeat(factor, axis=0).repeat(factor, axis=1)
        yield page
