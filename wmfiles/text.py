"""Text that users wrote: UTF-8, with or without a byte order mark, of any system's line ends."""

from __future__ import annotations

import codecs
import os
from pathlib import Path
from typing import Any

from wmfiles.opening import Refusal, open_regular, unreadable

MOST_BYTES = 256 * 2**20
"""Of a list or table; a million jobs take less."""

_BLOCK = 2**20

_OTHER_ENCODINGS = (
    codecs.BOM_UTF32_LE,
    codecs.BOM_UTF32_BE,
    codecs.BOM_UTF16_LE,
    codecs.BOM_UTF16_BE,
)


def read_text(path: str | os.PathLike[str], *, refuse: Refusal, most: int = MOST_BYTES) -> str:
    """The text of a file that a user named, without a byte order mark; it may be empty.

    Args:
        path: The file.
        refuse: Makes the error from the path and what is wrong.
        most: Bytes; a larger file is refused before it is read.

    Raises:
        Exception: what ``refuse`` makes; see `open_regular`; also for what is not UTF-8 text or too large.
    """
    path = Path(path)
    with open_regular(path, empty=True, refuse=refuse) as file:
        try:
            size = os.fstat(file.fileno()).st_size
            data = bytearray()  # by parts: files may grow, or not know their size
            while size <= most and (block := file.read(_BLOCK)):
                data += block
                size = max(size, len(data))
        except OSError as error:
            raise refuse(path, unreadable(error)) from error
    if size > most:
        raise refuse(
            path, f"has {size} bytes, more than the {most} that are read; is it the right file?"
        )
    return _decoded(path, bytes(data), refuse)


def _decoded(path: Path, data: bytes, refuse: Refusal) -> str:
    if data.startswith(_OTHER_ENCODINGS):
        raise refuse(path, "is text in UTF-16 or UTF-32; save it as UTF-8")
    try:
        text = data.removeprefix(codecs.BOM_UTF8).decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        byte = data[error.start] if error.start < len(data) else 0
        raise refuse(
            path, f"is not UTF-8 text (byte 0x{byte:02x} in line {line}); save it as UTF-8"
        ) from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise refuse(path, f"is not text (a null byte in line {line})")
    return text


def split_lines(text: str) -> list[str]:
    """Lines without their ends: those of Unix, Windows and old Macs, and no other.

    `str.splitlines` would also split at U+2028 and relatives, which JSON and names of files may hold.
    """
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def short(value: Any, width: int = 80) -> str:
    """A value as it stands in a message: on one line, and not longer than it helps."""
    if isinstance(value, str):
        text = repr(value[: width + 1])  # an enormous text is not quoted whole first
    elif isinstance(value, list | tuple | dict) and len(value) > width:
        kind = "an object" if isinstance(value, dict) else "a list"
        return f"{kind} of {len(value)}"
    else:
        text = repr(value)
    return text if len(text) <= width else f"{text[: width - 1]}…"
