"""The video that shows where and when a world model is surprised: the original beside its heat map."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from wmreward.errors import UsageError
from wmreward.pictures.colors import BACKGROUND, FAINT, INK, color_table
from wmreward.pictures.extra import check_pictures
from wmreward.pictures.heat import Floats, checked_maps, levels, overlay
from wmreward.pictures.text import draw_text, line_height, shortened, text_width
from wmreward.video.types import UInt8Array
from wmreward.video_io import write_video

_CURSOR = (255, 255, 255)
_MIN_HEIGHT = 256
_TEXT = 15


@dataclass(frozen=True)
class MapScale:
    """What the brightest colour and the highest point of the time line stand for.

    Videos that are to be compared need one scale: on a scale of its own every video has a brightest spot.

    Attributes:
        token: Surprise of a token; above it all look alike.
        frame: Mean surprise of a frame.
    """

    token: float
    frame: float

    @classmethod
    def of(cls, maps: Iterable[Floats]) -> MapScale:
        """The largest of some videos, each float ``[T, h, w]`` with NaN where nothing is known."""
        token = frame = 0.0
        for values in maps:
            known = values[np.isfinite(values)]
            token = max(token, float(known.max(initial=0.0)))
            frame = max(frame, float(np.nan_to_num(mean_curve(values)).max(initial=0.0)))
        return cls(token, frame)


def mean_curve(maps: Floats) -> Floats:
    """Mean surprise of every frame ``[T]``; NaN where nothing is known."""
    known = np.isfinite(maps)
    count = known.sum(axis=(1, 2))
    total = np.where(known, maps, 0.0).sum(axis=(1, 2))
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def surprise_map_video(
    path_out: str | os.PathLike[str],
    frames: Iterable[UInt8Array],
    maps: Floats,
    fps: float,
    *,
    scale: MapScale | None = None,
    title: str = "",
    alpha: float = 0.85,
) -> None:
    """Write a video of the original beside its heat map, over a time line of the mean surprise.

    To the right stands the colour scale with its numbers, from 0 up; a cursor on the time line marks the
    frame shown. Videos lower than 256 pixels are enlarged by a whole factor.

    Args:
        path_out: Ends in .mp4, .mov or .mkv.
        frames: T frames, uint8 ``[H, W, 3]``, RGB; an array of them or one after the other.
        maps: float ``[T, h, w]``, NaN where nothing is known.
        fps: Frames per second of the video written.
        scale: Of colours and time line; this video's own by default.
        title: Above the pictures.
        alpha: Opacity of the highest colour, 0 to 1.

    Raises:
        UsageError: shapes do not fit, ``alpha`` is out of range, or the extra ``plot`` is missing.
        WMRewardError: the video cannot be written.
    """
    check_pictures("a map video")
    if not 0 <= alpha <= 1:
        raise UsageError(f"alpha must lie between 0 and 1, got {alpha}")
    write_video(path_out, _pages(frames, maps, scale or MapScale.of([maps]), title, alpha), fps)


def _pages(
    frames: Iterable[UInt8Array], maps: Floats, scale: MapScale, title: str, alpha: float
) -> Iterator[UInt8Array]:
    """The finished pictures, one by one, so that long videos fit in memory."""
    page, count = None, 0
    for count, frame in enumerate(frames, 1):
        checked_maps(frame[None], maps[count - 1 : count])
        if page is None:
            page = _Page(frame.shape[0], frame.shape[1], scale, maps, title, alpha)
        yield page.filled(frame, count - 1)
    if count != len(maps):
        raise UsageError(f"need as many frames as maps, got {count} and {len(maps)}")


class _Page:
    """The layout: title, original and map beside the scale, time line below."""

    def __init__(
        self, height: int, width: int, scale: MapScale, maps: Floats, title: str, alpha: float
    ) -> None:
        self.scale, self.maps, self.alpha = scale, maps, alpha
        self.factor = -(-_MIN_HEIGHT // height)
        self.height, self.width = height * self.factor, width * self.factor
        self.gap = max(6, self.height // 48)
        self.numbers = [_short(scale.token), _short(scale.token / 2), "0"]
        bar = max(10, self.height // 28)
        right = bar + 6 + max(text_width(number, _TEXT) for number in self.numbers)
        self.line = 2 * self.width + 2 * self.gap + right
        self.top = 2 * self.gap + line_height(_TEXT)
        self.strip = max(48, self.height // 5)
        rows = self.top + self.height + self.strip + 2 * self.gap + line_height(_TEXT)
        self.empty = np.full((rows, self.line + 2 * self.gap, 3), BACKGROUND, np.uint8)
        draw_text(self.empty, shortened(title, _TEXT, self.line), self.gap, self.gap, _TEXT, INK)
        self._draw_bar(bar)
        below = f"mean surprise of each frame, 0 to {_short(scale.frame)}; lower is more plausible"
        bottom = rows - self.gap - line_height(_TEXT)
        draw_text(self.empty, shortened(below, _TEXT, self.line), bottom, self.gap, _TEXT, FAINT)
        self.time_line = time_line(mean_curve(maps), scale.frame, self.line, self.strip)

    def _draw_bar(self, thickness: int) -> None:
        left = self.gap + 2 * (self.width + self.gap)
        colors = color_table()[np.linspace(255, 0, self.height).round().astype(np.intp)]
        self.empty[self.top : self.top + self.height, left : left + thickness] = colors[:, None]
        room = self.height - line_height(_TEXT)
        for place, number in enumerate(self.numbers):
            top = self.top + place * room // (len(self.numbers) - 1)
            draw_text(self.empty, number, top, left + thickness + 6, _TEXT, INK)

    def filled(self, frame: UInt8Array, index: int) -> UInt8Array:
        """The picture of one frame."""
        page = self.empty.copy()
        rows = slice(self.top, self.top + self.height)
        large = frame.repeat(self.factor, axis=0).repeat(self.factor, axis=1)
        heat = overlay(large, levels(self.maps[index], 0.0, self.scale.token), self.alpha)
        page[rows, self.gap : self.gap + self.width] = large
        second = 2 * self.gap + self.width
        page[rows, second : second + self.width] = heat
        below = self.top + self.height + self.gap
        line = _with_cursor(self.time_line, index, len(self.maps))
        page[below : below + self.strip, self.gap : -self.gap] = line
        return page


def _short(value: float) -> str:
    return f"{value:.2g}"


def time_line(curve: Floats, high: float, width: int, height: int) -> UInt8Array:
    """A curve from 0 to ``high`` as a filled area coloured by height, uint8 ``[height, width, 3]``."""
    known = np.isfinite(curve)
    background = np.array(BACKGROUND, dtype=np.float64) + 12
    strip = np.broadcast_to(background, (height, width, 3)).copy()
    if not known.any():
        return strip.round().astype(np.uint8)
    at = (np.arange(width) + 0.5) * len(curve) / width - 0.5
    frame = np.clip(at.round().astype(np.intp), 0, len(curve) - 1)
    level = np.interp(at, np.flatnonzero(known), levels(curve[known], 0.0, high))
    # The lowest value keeps a foot of its own, so that "low" and "unknown" look different.
    tall = np.where(known[frame], height * (0.06 + 0.88 * level), 0.0)
    rows = np.arange(height)[::-1, None]
    coverage = np.clip(tall - rows, 0.0, 1.0)[..., None]  # a soft upper edge
    colors = color_table()[(60 + 180 * level).astype(np.intp)]
    return (strip + (colors - strip) * coverage).round().astype(np.uint8)


def _with_cursor(strip: UInt8Array, index: int, count: int) -> UInt8Array:
    """What is still to come is dimmed; a line stands at the frame shown."""
    height, width = strip.shape[:2]
    center = (index + 0.5) * width / count
    thickness = max(2, height // 24)
    left = int(np.clip(center - thickness / 2, 0, width - thickness))
    marked = strip.copy()
    future = marked[:, left:].astype(np.float64)
    marked[:, left:] = (np.array(BACKGROUND) + 0.4 * (future - BACKGROUND)).clip(0, 255)
    marked[:, left : left + thickness] = _CURSOR
    return marked
