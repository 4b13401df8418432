"""What is done to files of text, and to the text in front of weights files, beside what `mutations` does.

Random bytes hardly ever make text that a reader takes. These keep most of it as it was.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Random = np.random.Generator

TOKENS = (
    *(b"[" * 5000, b"{" * 70, b'"', b"'", b",", b"\\", b"\n", b"\r\n", b"\r", b"\0", b"\x1a"),
    *(b"NaN", b"-Infinity", b"1e999", b"9" * 5000, b"-0", b"0.5", b"true", b"null", b"[]", b"{}"),
    *(b"\\ud800", b"\\udcff", b"\\u0000", b"\xff", b"\xef\xbb\xbf", b"\xff\xfe", b"\xe2\x80\xa8"),
    *(b"~nosuchuser/", b"../", b"/dev/zero", b"x" * 300, b"$x$", b"=1+1", b"a" * 140_000),
)
"""What readers of text have tripped over."""

_TEXT = (".json", ".jsonl", ".csv", ".txt")


def _insert(data: bytearray, random: Random) -> None:
    """Something awkward in between."""
    place = int(random.integers(len(data) + 1))
    data[place:place] = _token(random)


def _replace(data: bytearray, random: Random) -> None:
    """Something awkward in the place of a few characters."""
    place = int(random.integers(len(data)))
    data[place : place + int(random.integers(1, 20))] = _token(random)


def _swap(data: bytearray, random: Random) -> None:
    """Two lines change places."""
    lines = bytes(data).splitlines(keepends=True)
    one, other = random.integers(len(lines), size=2)
    lines[one], lines[other] = lines[other], lines[one]
    data[:] = b"".join(lines)


def _double(data: bytearray, random: Random) -> None:
    """A line comes twice."""
    lines = bytes(data).splitlines(keepends=True)
    place = int(random.integers(len(lines)))
    data[:] = b"".join([*lines[: place + 1], *lines[place:]])


def _header(data: bytearray, random: Random) -> None:
    """Something awkward in the header of a weights file, whose length is told as it is then."""
    length = int.from_bytes(data[:8], "little")
    header, values = data[8 : 8 + length], data[8 + length :]
    (_insert, _replace)[int(random.integers(2))](header, random)
    data[:] = len(header).to_bytes(8, "little") + header + values


def text_mutations(name: str) -> dict[str, Callable[[bytearray, Random], None]]:
    """Those for a file of this name, by their own names."""
    if name.endswith(_TEXT):
        return {"insert": _insert, "replace": _replace, "swap": _swap, "double": _double}
    return {"header": _header} if name.endswith(".safetensors") else {}


def _token(random: Random) -> bytes:
    return TOKENS[int(random.integers(len(TOKENS)))]
