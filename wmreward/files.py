"""Files that users name, with errors for people: the functions of `wmfiles` as wmreward uses them.

Every file that a user names is opened through `open_regular`, or looked at by `check_regular` where a
library opens it itself. Outputs are complete or absent, through `atomic_path`.
"""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import wmfiles
from wmfiles import flush_to_disk
from wmreward.errors import FileError, UsageError, WMRewardError

__all__ = [
    "Refusal",
    "atomic_path",
    "check_folder",
    "check_regular",
    "flush_to_disk",
    "misused",
    "open_regular",
    "user_path",
    "write_bytes",
    "write_text",
]

Refusal = Callable[[Path, str], WMRewardError]
"""Makes the error from the path and what is wrong with it."""

_REASONS = {
    errno.ENOSPC: "the disk is full; free some space or write somewhere else",
    errno.EDQUOT: "the disk quota is used up; free some space or write somewhere else",
    errno.EFBIG: "the file grew larger than this file system or process may write",
    errno.EROFS: "the file system is read-only; write somewhere else",
    errno.EACCES: "permission denied; write somewhere else",
    errno.EPERM: "permission denied; write somewhere else",
    errno.ENAMETOOLONG: "the file name is too long",
}


def open_regular(
    path: str | os.PathLike[str], *, empty: bool = False, refuse: Refusal = FileError
) -> BinaryIO:
    """`wmfiles.open_regular`, with an error of ours where the caller has none of its own."""
    return wmfiles.open_regular(path, empty=empty, refuse=refuse)


def check_regular(
    path: str | os.PathLike[str], *, empty: bool = False, refuse: Refusal = FileError
) -> None:
    """Raise what `open_regular` raises; for files that a library opens by name."""
    wmfiles.check_regular(path, empty=empty, refuse=refuse)


def check_folder(folder: Path) -> None:
    """Raise ``WMRewardError`` unless files can be written to ``folder``, which need not be there yet."""
    # Of a link that leads nowhere neither a file nor a folder can be made.
    there = next((place for place in (folder, *folder.parents) if os.path.lexists(place)), Path())
    if not there.is_dir():
        raise WMRewardError(f"{there} is not a folder: nothing can be written to {folder}")
    try:  # permissions say little: of root, of /proc, of what is mounted read-only
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        reason = _REASONS.get(error.errno or 0, "no files can be made there; write somewhere else")
        raise WMRewardError(f"{folder} cannot be written to: {reason}") from error


def misused(where: Path, reason: str) -> UsageError:
    """A file that a user should not have given, or one of its lines: ends in exit code 2."""
    return UsageError(f"{where}: {reason}")


def user_path(text: str | os.PathLike[str]) -> Path:
    """The path that a user wrote, with ``~`` for home folders; it need not exist.

    Raises:
        UsageError: no path can be like this.
    """
    try:
        return wmfiles.user_path(text)
    except wmfiles.NameProblem as error:
        raise UsageError(f"{wmfiles.short(os.fspath(text))}: {error}") from None


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary name beside `path`; on success the file written there becomes `path`.

    See `wmfiles.write_whole`: on any exception, Ctrl-C included, the temporary file is removed and an
    existing `path` stays as it was.

    Raises:
        WMRewardError: one line, for a full disk, a missing permission, a folder at `path`, or one that takes
            no files; the system's error is its cause.
    """
    target = made = Path(path)
    try:
        if target.is_dir():
            raise WMRewardError(f"{target}: is a folder; give the name of a file to write")
        with wmfiles.write_whole(target) as made:
            yield made
    except OSError as error:
        reason = _reason_about(error, target, made)
        if reason is None:
            raise
        raise WMRewardError(f"{target}: cannot write: {reason}") from error


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Write `data` to `path` through `atomic_path`."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write `text` to `path` as UTF-8 with Unix line ends, through `atomic_path`."""
    write_bytes(path, text.encode("utf-8"))


def _reason_about(error: OSError, target: Path, made: Path) -> str | None:
    """What to tell the user, or None for an error that has nothing to do with writing here.

    Args:
        error: What the system refused.
        target: The file that is to appear.
        made: The one that is written until it is complete.
    """
    if isinstance(error, FileNotFoundError):
        # As in /proc, or where the folder was removed meanwhile.
        ours = {str(place) for place in (made, target.parent, *target.parents)}
        missing = isinstance(error.filename, str | os.PathLike) and str(error.filename) in ours
        return "its folder takes no files; write somewhere else" if missing else None
    if isinstance(error, (FileExistsError, NotADirectoryError)):
        return f"{error.filename or target.parent} is not a folder"
    if error.errno in (errno.EACCES, errno.EPERM) and not _lies_in(error.filename, target.parent):
        return None  # the body of the with statement may have been refused another file
    return _REASONS.get(error.errno or 0)


def _lies_in(filename: object, folder: Path) -> bool:
    if not isinstance(filename, (str, os.PathLike)):
        return True
    found = Path(filename)
    return found.parent == folder or found in (folder, *folder.parents)
