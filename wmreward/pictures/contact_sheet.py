"""Candidates side by side: a row of frames for each, its scores above it, the winner framed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np

from wmreward.errors import UsageError
from wmreward.pictures.lettering import HEIGHT, draw_text, text_width
from wmreward.video.resize import resize_frames
from wmreward.video.types import UInt8Array
from wmreward.video_io import read_uniform, write_png

BACKGROUND, INK, WINNER = (17, 17, 20), (200, 200, 200), (250, 148, 7)
SCALE = 2
"""Size of letters, in pixels per dot."""
GAP = 6
MOST_ROWS = 64
"""Candidates on a sheet; the best ones, if there are more."""


@dataclass(frozen=True)
class SheetRow:
    """One candidate.

    Attributes:
        label: Written above its frames.
        frames: uint8 ``[T, H, W, 3]``, any number and size; None where the video is gone.
        wins: Whether it is marked.
    """

    label: str
    frames: UInt8Array | None
    wins: bool = False


def sheet_frames(video: Path, columns: int = 8, height: int = 96) -> UInt8Array | None:
    """Frames of a video for a sheet, evenly over its length; None if it is not there any more."""
    if not video.exists():
        return None
    return scaled(read_uniform(video, columns).frames, height)


def scaled(frames: UInt8Array, height: int) -> UInt8Array:
    """Frames at another height, the aspect ratio kept."""
    width = max(1, round(frames.shape[2] * height / frames.shape[1]))
    return resize_frames(frames, height, width)


def contact_sheet(rows: Sequence[SheetRow], *, height: int = 96) -> UInt8Array:
    """One picture, uint8 ``[H, W, 3]``.

    Args:
        rows: From top to bottom; frames are scaled to one height.
        height: Of a frame in pixels.

    Raises:
        UsageError: there is no row.
    """
    if not rows:
        raise UsageError("a contact sheet needs candidates")
    strips = [_strip(row, height) for row in rows[:MOST_ROWS]]
    width = max(strip.shape[1] for strip in strips)
    sheet = np.full((sum(map(len, strips)), width, 3), BACKGROUND, np.uint8)
    top = 0
    for strip in strips:
        sheet[top : top + len(strip), : strip.shape[1]] = strip
        top += len(strip)
    return sheet


def write_contact_sheet(path: str | PathLike[str], rows: Sequence[SheetRow]) -> None:
    """The same as a PNG; raises ``WMRewardError`` if it cannot be written."""
    write_png(path, contact_sheet(rows))


def _strip(row: SheetRow, height: int) -> UInt8Array:
    """A label over frames in a row, within a margin that is coloured for the winner."""
    frames = [] if row.frames is None else list(scaled(row.frames, height))
    label = row.label if frames else f"{row.label}  (video not kept)"
    line = HEIGHT * SCALE + 2 * GAP
    taken = len(frames) * (frames[0].shape[1] + 2) if frames else 0
    size = line + (height + GAP if frames else 0), max(taken, text_width(label, SCALE)) + 2 * GAP
    strip = np.full((*size, 3), BACKGROUND, np.uint8)
    draw_text(strip, label, GAP, GAP, SCALE, WINNER if row.wins else INK)
    for column, frame in enumerate(frames):
        left = GAP + column * (frame.shape[1] + 2)
        strip[line : line + height, left : left + frame.shape[1]] = frame
    if row.wins:
        strip[:2] = strip[-2:] = strip[:, :2] = strip[:, -2:] = WINNER
    return strip
