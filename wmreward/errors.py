"""Errors meant for people: one clear line that says what was wrong, where, and what to do."""

from __future__ import annotations

import os
import re
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path

_NEAR = 0.61
_SIGNS = re.compile(r"[\W_]")
LONGEST = 1000
"""Characters of a line that is said: it should fit a screen."""


class WMRewardError(Exception):
    """Something a user can act on.

    `str(error)` is one line. Command-line tools print that line and leave with `exit_code`; a
    traceback is kept for mistakes of ours.
    """

    exit_code = 1


class UsageError(WMRewardError, ValueError):
    """A wrong argument: an unknown name, a number out of range, a path that is not there."""

    exit_code = 2


class FileError(WMRewardError):
    """A file that cannot be read or written.

    Attributes:
        path: the file or folder.
        reason: what is wrong with it and what to do, without the path.
    """

    def __init__(self, path: str | os.PathLike[str], reason: str) -> None:
        # Both arguments are handed on, so that the error survives pickling between processes.
        super().__init__(path, reason)
        self.path = Path(path)
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


class RewardError(WMRewardError):
    """A reward that fails, or says what is no score. Neither the video nor an argument is to blame."""


_of_flags = False


@contextmanager
def speaking_of_flags() -> Iterator[None]:
    """While a command line is at work, messages name its flags instead of the arguments of functions."""
    global _of_flags
    before, _of_flags = _of_flags, True
    try:
        yield
    finally:
        _of_flags = before


def named(argument: str, value: object = None, *, flag: str | None = None) -> str:
    """How a message names a setting: ``fps``, or ``--fps`` to who typed a command; ``fps=8`` and ``--fps 8``.

    Args:
        argument: Its name in Python.
        value: Of it, if that is told too.
        flag: Its name on the command line, where that is another.
    """
    if _of_flags:
        return f"--{flag or argument}" + ("" if value is None else f" {value}")
    return argument if value is None else f"{argument}={value!r}"


class VideoWarning(UserWarning):
    """Something is doubtful about a video that was read all the same."""


class VideoError(FileError):
    """A video or a picture that cannot be read or written."""


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """``; did you mean X?`` if something known is near, else nothing.

    Signs between letters do not count, and upper case only where it decides: ``ViT-g`` is near ``vitg``.
    """
    bare = _SIGNS.sub("", word)
    near = get_close_matches(bare, [_SIGNS.sub("", name) for name in known], n=1, cutoff=_NEAR)
    if near:
        return f"; did you mean {next(n for n in known if _SIGNS.sub('', n) == near[0])}?"
    lower = {_SIGNS.sub("", name).lower(): name for name in reversed(known)}
    near = get_close_matches(bare.lower(), lower, n=1, cutoff=_NEAR)
    return f"; did you mean {lower[near[0]]}?" if near else ""


def in_words(error: BaseException) -> str:
    """What is wrong, in one line for people, also where an error was not made for them.

    One that was has an attribute ``exit_code`` and says it itself. No class of Python is named: it says
    nothing to somebody who only uses the tool.
    """
    text = str(error).strip()
    if hasattr(error, "exit_code"):
        return one_line(text)
    if _is_out_of_memory(error):
        return "not enough memory"
    if isinstance(error, RecursionError):
        return "something is nested too deeply to be read"
    if isinstance(error, UnicodeError):
        return f"text that cannot be read or written: {one_line(text)}"
    if isinstance(error, OSError) and error.strerror:
        where = (
            f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
        )
        return one_line(f"{where}{error.strerror}")
    return one_line(f"{text or 'something failed without a reason'} (unforeseen, {_where(error)})")


def one_line(text: str) -> str:
    """``text`` without line breaks and control characters, cut in the middle where it is very long."""
    text = " ".join(text.split())
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    if len(text) <= LONGEST:
        return text
    return f"{text[: LONGEST // 2]} … {text[-LONGEST // 3 :]}"


def _is_out_of_memory(error: BaseException) -> bool:
    # PyTorch has a class of its own only for GPUs.
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or "allocate memory" in str(error)
    )


def _where(error: BaseException) -> str:
    """The place in the sources that an error comes from."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "place unknown"
