"""Standard input, output and error of a process, whatever its parent left of them."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, TextIO

_STANDARD = range(3)


def have_streams() -> None:
    """Open what is closed to nowhere; let no character and no lost terminal end the process.

    A stream that is closed (``2>&-``) is as with ``2>/dev/null``: Python has None for it, and the next file
    that is opened would get its number, and with it whatever a library writes there.
    """
    for number in _STANDARD:
        if not _is_open(number):
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: this one
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115
    if sys.stdout is None:
        sys.stdout = _Results(open(1, "wb", closefd=False), "utf-8")  # noqa: SIM115
    elif isinstance(sys.stdout, io.TextIOWrapper):
        encoding, by_line = sys.stdout.encoding, sys.stdout.line_buffering
        sys.stdout = _Results(sys.stdout.detach(), encoding, by_line)
    if sys.stderr is None:
        sys.stderr = _Talk(open(2, "wb", closefd=False), "utf-8")  # noqa: SIM115
    elif isinstance(sys.stderr, io.TextIOWrapper):
        encoding = sys.stderr.encoding
        sys.stderr = _Talk(sys.stderr.detach(), encoding)


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


class _Results(io.TextIOWrapper):
    """Standard output: any file name can be written, and an error says where it came from."""

    def __init__(self, buffer: BinaryIO, encoding: str, by_line: bool = False) -> None:
        super().__init__(buffer, encoding, "backslashreplace", line_buffering=by_line)

    def write(self, text: str) -> int:
        with _named():
            return super().write(text)

    def flush(self) -> None:
        with _named():
            super().flush()


@contextmanager
def _named() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        error.filename = "standard output cannot be written"
        raise


class _Talk(io.TextIOWrapper):
    """Standard error: what cannot be said, as its reader is gone or its disk full, costs no result."""

    def __init__(self, buffer: BinaryIO, encoding: str) -> None:
        super().__init__(buffer, encoding, "backslashreplace", line_buffering=True)

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except OSError:
            to_nowhere(self)
            return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError:
            to_nowhere(self)


def to_nowhere(stream: TextIO) -> None:
    """Drop what is written there from now on, and what it still holds."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
