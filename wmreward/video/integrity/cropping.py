"""The part of a frame that a container wants shown: PyAV does not tell of it."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from wmreward.errors import VideoError
from wmreward.files import open_regular
from wmreward.video.integrity.evidence import MOST_STEPS
from wmreward.video.integrity.matroska import elements

Part = tuple[Any, int, int]
"""Of a file: its name, and where its content begins and ends."""
Walk = Callable[[BinaryIO, int, int], Iterator[Part]]

_TO_ENTRIES = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd")
_SAMPLE_ENTRY = (
    78  # bytes of a video sample entry before the boxes in it (ISO/IEC 14496-12, 12.1.3)
)
_TO_VIDEO = (0x18538067, 0x1654AE6B, 0xAE, 0xE0)  # segment, tracks, track, video
_DOWN, _ACROSS = (0x54AA, 0x54BB), (0x54CC, 0x54DD)  # PixelCrop at bottom and top, left and right


def cropped_size(path: Path, width: int, height: int) -> tuple[int, int] | None:
    """What is shown of frames of ``width`` x ``height``; None for all of it, or where nothing is said.

    By the clean aperture of an MP4 or MOV, or the crop of a Matroska file.
    """
    with open_regular(path, refuse=VideoError) as file:
        size = file.seek(0, 2)
        file.seek(0)
        is_matroska = file.read(4) == b"\x1aE\xdf\xa3"
        if is_matroska:
            shown = _of_tracks(file, size, width, height)
        else:
            shown = _of_boxes(file, size, width)
    if shown is None or not (0 < shown[0] <= width and 0 < shown[1] <= height):
        return None
    return None if shown == (width, height) else shown


def _of_boxes(file: BinaryIO, size: int, width: int) -> tuple[int, int] | None:
    for _, start, end in _below(file, size, _TO_ENTRIES, _boxes):
        for _, begin, stop in _boxes(file, start + 8, end):
            file.seek(begin)
            entry = file.read(_SAMPLE_ENTRY)
            if int.from_bytes(entry[24:26], "big") >= width:  # else of sound, or of other frames
                boxes = _boxes(file, begin + _SAMPLE_ENTRY, stop)
                if place := next((at for name, at, _ in boxes if name == b"clap"), None):
                    return _aperture(file, place)
    return None


def _aperture(file: BinaryIO, place: int) -> tuple[int, int] | None:
    file.seek(place)
    if len(data := file.read(16)) < 16:
        return None
    across, of, down, to = struct.unpack(">4I", data)
    return round(across / max(1, of)), round(down / max(1, to))


def _of_tracks(file: BinaryIO, size: int, width: int, height: int) -> tuple[int, int] | None:
    for _, start, end in _below(file, size, _TO_VIDEO, elements):
        numbers = {}
        for name, begin, stop in elements(file, start, end):
            file.seek(begin)
            numbers[name] = int.from_bytes(file.read(min(8, stop - begin)), "big")
        across = sum(numbers.get(name, 0) for name in _ACROSS)
        down = sum(numbers.get(name, 0) for name in _DOWN)
        if across or down:
            return width - across, height - down
    return None


def _below(file: BinaryIO, size: int, path: Sequence[Any], walk: Walk) -> list[Part]:
    """All parts to which a path of names leads."""
    parts: list[Part] = [(None, 0, size)]
    for name in path:
        parts = [part for _, *place in parts for part in walk(file, *place) if part[0] == name]
    return parts


def _boxes(file: BinaryIO, position: int, end: int) -> Iterator[Part]:
    for _ in range(MOST_STEPS):
        if position + 8 > end:
            return
        file.seek(position)
        length, name = struct.unpack(">I4s", file.read(8).ljust(8, b"\0"))
        start = position + 8
        if length == 1:
            length, start = int.from_bytes(file.read(8), "big"), position + 16
        stop = position + length if length else end
        if stop < start:
            return
        yield name, start, min(stop, end)
        position = stop
