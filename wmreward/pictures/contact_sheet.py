"""Candidates under one another: a row of frames for each, its scores above it, the winner framed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np

from wmreward.errors import UsageError
from wmreward.pictures.colors import BACKGROUND, FAINT, INK, WINNER
from wmreward.pictures.extra import check_pictures
from wmreward.pictures.text import draw_text, line_height, text_width
from wmreward.video.resize import resize_frames
from wmreward.video.types import UInt8Array
from wmreward.video_io import read_uniform, write_png

GAP, TEXT = 8, 15
"""Pixels around things, and of letters."""
MOST_ROWS = 64
"""Candidates on a sheet; the best ones, if there are more."""


@dataclass(frozen=True)
class SheetRow:
    """One candidate.

    Attributes:
        label: Its name, written above its frames.
        scores: Written behind the name.
        frames: uint8 ``[T, H, W, 3]``, any number and size; None where the video is gone.
        wins: Whether it is marked as the winner.
    """

    label: str
    scores: str = ""
    frames: UInt8Array | None = None
    wins: bool = False


def sheet_frames(video: Path, columns: int = 8, height: int = 96) -> UInt8Array | None:
    """Frames of a video for a sheet, evenly over its length; None if it is not there any more."""
    if not video.exists():
        return None

    def small(frame: UInt8Array) -> UInt8Array:
        return scaled(frame[None], height)[0]

    return read_uniform(video, columns, reduction=small).frames


def scaled(frames: UInt8Array, height: int) -> UInt8Array:
    """Frames at another height, the aspect ratio kept."""
    width = max(1, round(frames.shape[2] * height / frames.shape[1]))
    return resize_frames(frames, height, width)


def contact_sheet(rows: Sequence[SheetRow], *, title: str = "", height: int = 96) -> UInt8Array:
    """One picture, uint8 ``[H, W, 3]``.

    Args:
        rows: From top to bottom; frames are scaled to one height.
        title: Above all rows.
        height: Of a frame in pixels.

    Raises:
        UsageError: there is no row, or the extra ``plot`` is missing.
    """
    check_pictures("a contact sheet")
    if not rows:
        raise UsageError("a contact sheet needs candidates")
    strips = [_title(title)] if title else []
    strips += [_strip(row, height) for row in rows[:MOST_ROWS]]
    width = max(strip.shape[1] for strip in strips)
    sheet = np.full((sum(map(len, strips)), width, 3), BACKGROUND, np.uint8)
    top = 0
    for strip in strips:
        sheet[top : top + len(strip), : strip.shape[1]] = strip
        top += len(strip)
    return sheet


def write_contact_sheet(
    path: str | PathLike[str], rows: Sequence[SheetRow], *, title: str = ""
) -> None:
    """The same as a PNG; raises ``WMRewardError`` if it cannot be written."""
    write_png(path, contact_sheet(rows, title=title))


def _title(title: str) -> UInt8Array:
    size = line_height(TEXT) + 2 * GAP, text_width(title, TEXT) + 2 * GAP
    strip = np.full((*size, 3), BACKGROUND, np.uint8)
    draw_text(strip, title, GAP, GAP, TEXT, INK)
    return strip


def _strip(row: SheetRow, height: int) -> UInt8Array:
    """A label over frames in a row, within a margin that is coloured for the winner."""
    frames = [] if row.frames is None else list(scaled(row.frames, height))
    words = [
        (row.label, WINNER if row.wins else INK),
        ("winner" if row.wins else "", WINNER),
        (row.scores, FAINT),
        ("" if frames else "video not kept", FAINT),
    ]
    words = [(text, color) for text, color in words if text]
    line = line_height(TEXT) + 2 * GAP
    taken = len(frames) * (frames[0].shape[1] + 2) if frames else 0
    written = sum(text_width(text, TEXT) + 2 * GAP for text, _ in words)
    size = line + (height + GAP if frames else 0), max(taken, written) + 2 * GAP
    strip = np.full((*size, 3), BACKGROUND, np.uint8)
    left = GAP
    for text, color in words:
        draw_text(strip, text, GAP, left, TEXT, color)
        left += text_width(text, TEXT) + 2 * GAP
    for column, frame in enumerate(frames):
        left = GAP + column * (frame.shape[1] + 2)
        strip[line : line + height, left : left + frame.shape[1]] = frame
    if row.wins:
        strip[:2] = strip[-2:] = strip[:, :2] = strip[:, -2:] = WINNER
    return strip
