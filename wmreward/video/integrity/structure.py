"""What the bytes of a container say of its wholeness, without FFmpeg."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from wmreward.errors import VideoError
from wmreward.files import open_regular
from wmreward.video.integrity import boxes, broadcast, matroska
from wmreward.video.integrity.evidence import Evidence

Walk = Callable[[BinaryIO, int], Evidence]

_BY_MAGIC: tuple[tuple[int, bytes, Walk], ...] = (
    (0, b"RIFF", boxes.riff),
    (0, b"GIF8", boxes.gif),
    (0, b"\x1aE\xdf\xa3", matroska.matroska),
    (0, b"FLV", boxes.flv),
    (0, b"0&\xb2u\x8ef\xcf\x11", boxes.asf),
    (0, b"OggS", broadcast.ogg),
    (0, b"\x89PNG\r\n\x1a\n", boxes.png),
    (0, b"\xff\xd8\xff", boxes.jpeg),
    (0, b"BM", boxes.bmp),
    (0, b"\0\0\x01\xba", broadcast.programme_stream),
    (0, b"G", broadcast.transport_stream),
    (4, b"G", broadcast.transport_stream),
)


def walk(path: Path) -> Evidence:
    """Walk a file whose beginning is known; anything else is taken to be whole."""
    with open_regular(path, refuse=VideoError) as file:
        size = file.seek(0, 2)
        file.seek(0)
        start = file.read(12)
        for at, magic, walker in _BY_MAGIC:
            if start[at : at + len(magic)] == magic:
                file.seek(0)
                return walker(file, size)
        file.seek(0)
        return boxes.mp4(file, size)
