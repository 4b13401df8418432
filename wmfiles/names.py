"""Names of files: as users write them, as they are derived from one another, as they are shown."""

from __future__ import annotations

import errno
import hashlib
import os
import re
from pathlib import Path

LONGEST_NAME = 255
"""Bytes of one name, on nearly every file system."""
LONGEST_PATH = 4096
"""Bytes of a path."""
_HASH = 8

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_HALF_CHARACTER = re.compile(r"[\ud800-\udfff]")


class NameProblem(ValueError):
    """What no path can be, in words."""


def user_path(text: str | os.PathLike[str]) -> Path:
    """The path that a user wrote, with ``~`` and ``~user`` for home folders; it need not exist.

    Raises:
        NameProblem: it is empty, no file system can hold it, the home folder is nobody's, or links lead in
            circles.
    """
    text = os.fspath(text)
    if not text.strip():
        raise NameProblem("a path is empty")
    if "\0" in text:
        raise NameProblem("a path holds a null byte")
    try:
        size = len(os.fsencode(text))
        longest = max(len(os.fsencode(part)) for part in Path(text).parts or ("",))
    except UnicodeEncodeError:
        raise NameProblem("a path holds half a character (an unpaired surrogate)") from None
    if longest > LONGEST_NAME or size > LONGEST_PATH:
        raise NameProblem(
            f"a path of {size} bytes, {longest} of them in one name, is longer than a path can be "
            f"({LONGEST_PATH} and {LONGEST_NAME})"
        )
    expanded = os.path.expanduser(text)  # noqa: PTH111, Path's own raises where there is no such user
    if text.startswith("~") and expanded == text and not os.path.lexists(text):
        raise NameProblem(f"there is no home folder {Path(text).parts[0]}")
    path = Path(expanded)
    try:
        os.stat(path)  # noqa: PTH116, as `Path.exists` calls a link in circles absent
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise NameProblem("a symbolic link that leads in circles") from None
    return path


def fitted(stem: str, tail: str) -> str:
    """``stem + tail`` as the name of a file; where that is too long, the stem is cut and a hash of it added.

    Args:
        stem: From the name of another file, or of anybody's making.
        tail: What tells this file from others; up to 100 bytes.
    """
    if len(os.fsencode(stem + tail)) <= LONGEST_NAME:
        return stem + tail
    digest = hashlib.sha256(os.fsencode(stem)).hexdigest()[:_HASH]
    room = LONGEST_NAME - len(os.fsencode(tail)) - _HASH - 1
    return f"{cut(stem, room)}-{digest}{tail}"


def cut(text: str, size: int) -> str:
    """The beginning of a text in at most ``size`` bytes, without half a character."""
    data = os.fsencode(text)
    if len(data) <= size:
        return text
    # A character has up to four bytes, and all but the first look alike.
    ends = (end for end in range(size, max(size - 4, -1), -1) if data[end] & 0xC0 != 0x80)
    return os.fsdecode(data[: next(ends, size)])


def printable(text: str) -> str:
    """A name as it can be shown anywhere: bytes that are not UTF-8 as U+FFFD, control characters escaped."""
    escaped = _CONTROL.sub(lambda found: repr(found[0])[1:-1], text)
    return _HALF_CHARACTER.sub("\ufffd", escaped)
