"""What FFmpeg says while it reads. Half of all damage shows nowhere else.

PyAV keeps FFmpeg's log silent. It is opened here for as long as one call takes, and only what this thread
causes is heard, so several videos may be read at once. A decoder with threads of its own would speak
elsewhere, and could wait for ever for a lock that the caller holds: ours have one thread.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from threading import Lock

import av
import av.logging

# PyAV hands what nobody captures to the log of Python, which would print it: as a process ends, a thread that
# still decodes may speak after the last listener has left.
logging.getLogger("libav").addHandler(logging.NullHandler())

_QUIET, _ERROR, _WARNING = -8, av.logging.ERROR, av.logging.WARNING

# Warnings about containers that are errors in all but name. Others speak of what is odd in sound files.
_TELLING = re.compile(
    r"corrupt|EOI missing|Invalid timestamps|CRC mismatch|discarding|undecodable|parsing NAL|"
    r"timescale not set|doctype|Missing key frame",
    re.I,
)

# What decoders of pictures warn of is what they had to guess, but for this, which sound files have.
_ODD = re.compile(
    r"packed B-frames|co located POCs|reorder buffer|deprecated|APP fields|\bSEI\b|user data|"
    r"timecode|closed caption",
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
        counts = level <= _ERROR or (level <= _WARNING and _is_telling(name, text))
        if not counts or _HARMLESS.search(text):
            return
        self.count += 1
        if not self.first:
            line = " ".join(text.split())
            line = "".join(character for character in line if character.isprintable())
            self.first = f"{name}: {line}"[:LONGEST_MESSAGE]


def _is_telling(name: str, text: str) -> bool:
    """Whether a warning tells of damage."""
    is_odd = _ODD.search(text) is not None
    return _TELLING.search(text) is not None or (_decodes_pictures(name) and not is_odd)


@cache
def _decodes_pictures(name: str) -> bool:
    try:
        return bool(av.Codec(name, "r").type == "video")
    except ValueError:  # not a codec
        return False


# Warnings and worse, by a number that nobody else would choose: it tells our setting from a user's.
_OURS = _WARNING + 1


class _Log:
    """The log's settings belong to the whole process: opened by the first who listens, closed by the last."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._listeners = 0
        self._level: int | None = None
        self._skips = True
        self._unheard = av.logging.Capture(local=False)

    def open(self) -> None:
        with self._lock:
            self._listeners += 1
            if self._listeners > 1:
                return
            self._level, self._skips = av.logging.get_level(), bool(av.logging.get_skip_repeated())
            # "Repeated" would also mean: said of another video before.
            av.logging.set_skip_repeated(False)
            if self._was_silent():
                # What other threads cause would go to Python's log, and so to the screen.
                self._unheard.__enter__()
                av.logging.set_level(_OURS)
            elif self._level is not None and self._level < _WARNING:
                av.logging.set_level(_WARNING)

    def close(self) -> None:
        with self._lock:
            self._listeners -= 1
            self._unheard.logs.clear()
            if self._listeners:
                return
            av.logging.set_skip_repeated(self._skips)
            if self._was_silent():
                # Not by set_level(None), which trips up a thread that is about to speak.
                av.logging.set_libav_level(_QUIET)
                av.logging.restore_default_callback()
                self._unheard.__exit__(None, None, None)
            elif self._level is not None and self._level < _WARNING:
                av.logging.set_level(self._level)

    def _was_silent(self) -> bool:
        return self._level in (None, _OURS)


_LOG = _Log()


@contextmanager
def _listening() -> Iterator[None]:
    _LOG.open()
    try:
        yield
    finally:
        _LOG.close()
