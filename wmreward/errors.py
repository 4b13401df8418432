"""Errors meant for people: one clear line that says what was wrong, where, and what to do."""

from __future__ import annotations

import os
from pathlib import Path


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


class VideoWarning(UserWarning):
    """Something is doubtful about a video that was read all the same."""


class VideoError(FileError):
    """A video or a picture that cannot be read or written."""
