"""What FFmpeg says while it reads. Half of all damage shows nowhere else.

PyAV keeps FFmpeg's log silent. It is opened here for as long as one call takes, and only what this thread
causes is heard, so several videos may be read at once. A decoder with threads of its own would speak
elsewhere, and could wait for ever for a lock that the caller holds: ours have one thread.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

import av.logging

_ERROR, _WARNING = av.logging.ERROR, av.logging.WARNING

# Warnings that are errors in all but name. Others speak of what is odd in sound files.
_TELLING = re.compile(
    r"corrupt|EOI missing|Invalid timestamps|CRC mismatch|discarding|undecodable|parsing NAL|"
    r"timescale not set",
    re.I,
)

# Errors about what surrounds a picture: it is whole without.
_HARMLESS = re.compile(r"exif|iccp|xmp|metadata", re.I)

LONGEST_MESSAGE = 80
"""Characters that are kept of a message."""


class Messages:
    """The errors that FFmpeg reported.

    Attributes:
        count: how many.
        first: the first of them, shortened; "" if there were none.
    """

    count = 0
    first = ""

    @contextmanager
    def heard(self) -> Iterator[list[tuple[int, str, str]]]:
        """Count what is said inside the block; gives all of it, for who wants to look."""
        with _listening(), av.logging.Capture() as logs:
            try:
                yield logs
            finally:
                for level, name, text in logs:
                    self._take(level, name, text)

    def _take(self, level: int, name: str, text: str) -> None:
        counts = level <= _ERROR or (level <= _WARNING and _TELLING.search(text))
        if not counts or _HARMLESS.search(text):
            return
        self.count += 1
        if not self.first:
            line = " ".join(text.split())
            line = "".join(character for character in line if character.isprintable())
            self.first = f"{name}: {line}"[:LONGEST_MESSAGE]


class _Log:
    """The log's settings belong to the whole process: opened by the first who listens, closed by the last."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._listeners = 0
        self._settings: tuple[int | None, bool] = (None, True)
        self._unheard = av.logging.Capture(local=False)

    def open(self) -> None:
        with self._lock:
            self._listeners += 1
            if self._listeners > 1:
                return
            level = av.logging.get_level()
            self._settings = level, bool(av.logging.get_skip_repeated())
            if level is None:
                # What other threads cause would go to Python's log, and so to the screen.
                self._unheard.__enter__()
            # "Repeated" would also mean: said of another video before.
            av.logging.set_skip_repeated(False)
            av.logging.set_level(_WARNING if level is None else max(level, _WARNING))

    def close(self) -> None:
        with self._lock:
            self._listeners -= 1
            self._unheard.logs.clear()
            if self._listeners:
                return
            level, skips = self._settings
            av.logging.set_level(level)
            av.logging.set_skip_repeated(skips)
            if level is None:
                self._unheard.__exit__(None, None, None)


_LOG = _Log()


@contextmanager
def _listening() -> Iterator[None]:
    _LOG.open()
    try:
        yield
    finally:
        _LOG.close()
