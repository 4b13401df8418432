"""Opening what somebody named: a regular file with content, and never a wait.

A pipe or a device in the place of a file would be read for ever.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

Refusal = Callable[[Path, str], Exception]
"""Makes the error to raise from the path and what is wrong with it."""

_LFS_POINTER = b"version https://git-lfs"
_WEB_PAGES = (b"<!doctype html", b"<html")  # what a link says that has expired or needs a login
_HEAD = 64
_LARGEST_POINTER = 1024  # by the specification of Git LFS
_BINARY = getattr(os, "O_BINARY", 0)  # only Windows knows text files

_KINDS = (
    (stat.S_ISDIR, "is a folder; give the name of a file"),
    (stat.S_ISFIFO, "is not a regular file but a pipe (FIFO); save its content to a file first"),
    (stat.S_ISSOCK, "is not a regular file but a socket; give the name of a file"),
    (stat.S_ISCHR, "is not a regular file but a device; give the name of a file"),
    (stat.S_ISBLK, "is not a regular file but a device; give the name of a file"),
)

_UNREADABLE = {
    errno.ENOENT: "no such file; check the spelling and the folder",
    errno.ENOTDIR: "no such file: something in its path is not a folder",
    errno.EACCES: "permission denied; make it readable (chmod u+r)",
    errno.EPERM: "permission denied; make it readable (chmod u+r)",
    errno.ELOOP: "is a symbolic link that leads in circles",
    errno.ENAMETOOLONG: "no such file: the name is longer than a file name can be",
}


def open_regular(path: str | os.PathLike[str], *, empty: bool = False, refuse: Refusal) -> BinaryIO:
    """Open a file that a user named, for reading bytes; it never waits.

    Args:
        path: The file. Symbolic links are followed.
        empty: Whether a file of 0 bytes will do.
        refuse: Makes the error, such as ``VideoError``.

    Raises:
        Exception: the error that ``refuse`` makes, for what is missing, unreadable, empty, a folder, a
            pipe, a device, a socket, or a pointer of Git LFS or a web page in place of the content.
    """
    path = Path(path)
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116, takes every name
    except OSError as error:
        raise refuse(path, unreadable(error)) from error
    except ValueError as error:  # a null byte, or half a character
        raise refuse(path, "no such file: no file can have this name") from error
    _check_kind(
        path, mode, refuse
    )  # before it is opened, which may already do something to a device
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | _BINARY)
    except OSError as error:
        raise refuse(path, unreadable(error)) from error
    file = os.fdopen(descriptor, "rb")
    try:
        found = os.fstat(descriptor)
        _check_kind(path, found.st_mode, refuse)
        start = file.read(_HEAD)
        if not start and not empty:
            raise refuse(path, "is empty (0 bytes); copy or download it again")
        if start.startswith(_LFS_POINTER) and found.st_size <= _LARGEST_POINTER:
            raise refuse(
                path,
                "is a pointer of Git LFS, not the file itself; fetch it with: git lfs pull",
            )
        if start.lstrip(b"\xef\xbb\xbf \r\n\t").lower().startswith(_WEB_PAGES):
            raise refuse(path, "is a web page, not the file itself; download it again")
        file.seek(0)
    except OSError as error:
        file.close()
        raise refuse(path, unreadable(error)) from error
    except BaseException:
        file.close()
        raise
    return file


def check_regular(path: str | os.PathLike[str], *, empty: bool = False, refuse: Refusal) -> None:
    """Raise what `open_regular` raises; for files that a library opens by name."""
    open_regular(path, empty=empty, refuse=refuse).close()


def _check_kind(path: Path, mode: int, refuse: Refusal) -> None:
    if not stat.S_ISREG(mode):
        reasons = (reason for is_kind, reason in _KINDS if is_kind(mode))
        raise refuse(path, next(reasons, "is not a regular file; give the name of a file"))


def unreadable(error: OSError) -> str:
    """Why a file cannot be opened or read, in words."""
    return _UNREADABLE.get(error.errno or 0) or f"cannot be read ({error.strerror or error})"
