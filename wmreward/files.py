"""Files that users name: inputs that are files and no more, outputs that are complete or absent.

Every file that a user names is opened through `open_regular`, or looked at by `check_regular` where a
library opens it itself. A pipe or a device in its place would be read for ever.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from wmreward.errors import FileError, WMRewardError

Refusal = Callable[[Path, str], WMRewardError]
"""Makes the error from the path and what is wrong with it."""

_LFS_POINTER = b"version https://git-lfs"
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
    """Open a file that a user named, for reading bytes; it never waits.

    Args:
        path: The file. Symbolic links are followed.
        empty: Whether a file of 0 bytes will do.
        refuse: Makes the error, such as ``VideoError``.

    Raises:
        WMRewardError: the error that ``refuse`` makes, for what is missing, unreadable, empty, a folder, a
            pipe, a device, a socket, or a pointer of Git LFS in place of the content.
    """
    path = Path(path)
    try:
        # By its kind first: to open a device may already do something.
        _check_kind(path, os.stat(path).st_mode, refuse)  # noqa: PTH116, takes every name
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | _BINARY)
    except OSError as error:
        raise refuse(path, _unreadable(error)) from error
    except ValueError as error:  # a null byte
        raise refuse(path, "no such file: no file name can hold a null byte") from error
    file = os.fdopen(descriptor, "rb")
    try:
        found = os.fstat(descriptor)
        _check_kind(path, found.st_mode, refuse)
        start = file.read(len(_LFS_POINTER))
        if not start and not empty:
            raise refuse(path, "is empty (0 bytes); copy or download it again")
        if start == _LFS_POINTER and found.st_size <= _LARGEST_POINTER:
            raise refuse(
                path,
                "is a pointer of Git LFS, not the file itself; fetch it with: git lfs pull",
            )
        file.seek(0)
    except OSError as error:
        file.close()
        raise refuse(path, _unreadable(error)) from error
    except BaseException:
        file.close()
        raise
    return file


def check_regular(
    path: str | os.PathLike[str], *, empty: bool = False, refuse: Refusal = FileError
) -> None:
    """Raise what `open_regular` raises; for files that a library opens by name."""
    open_regular(path, empty=empty, refuse=refuse).close()


def _check_kind(path: Path, mode: int, refuse: Refusal) -> None:
    if not stat.S_ISREG(mode):
        reasons = (reason for is_kind, reason in _KINDS if is_kind(mode))
        raise refuse(path, next(reasons, "is not a regular file; give the name of a file"))


def _unreadable(error: OSError) -> str:
    return _UNREADABLE.get(error.errno or 0) or f"cannot be read ({error.strerror or error})"


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary name beside `path`; on success the file written there becomes `path`.

    The temporary file lies in the same folder (a rename is atomic only within one file system)
    and keeps the suffix (encoders choose the format by it). It is flushed to the disk before the
    rename, so a power cut leaves the old file or the new one. On any exception, Ctrl-C included,
    it is removed and an existing `path` stays as it was. Missing parent folders are made.

    Devices and pipes such as /dev/stdout are written directly, since a rename would replace them.

    Raises:
        WMRewardError: one line, for a full disk, a missing permission, or a folder at `path`.
    """
    target = Path(path)
    temporary = target.with_name(f".{target.stem[:100]}.{secrets.token_hex(4)}{target.suffix}")
    try:
        if target.is_dir():
            raise WMRewardError(f"{target}: is a folder; give the name of a file to write")
        if target.exists() and not target.is_file():
            yield target
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        flush_to_disk(temporary)
        temporary.replace(target)
        flush_to_disk(target.parent)
    except OSError as error:
        reason = _reason_about(error, target)
        if reason is None:
            raise
        raise WMRewardError(f"{target}: cannot write: {reason}") from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Write `data` to `path` through `atomic_path`."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write `text` to `path` as UTF-8 with Unix line ends, through `atomic_path`."""
    write_bytes(path, text.encode("utf-8"))


def _reason_about(error: OSError, target: Path) -> str | None:
    """What to tell the user, or None for an error that has nothing to do with writing here."""
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


def flush_to_disk(path: Path) -> None:
    """fsync a file or, where the system allows it, a folder (so that the rename lasts too)."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        if path.is_dir():  # Windows cannot open folders
            return
        raise
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network and FUSE file systems have no fsync.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS):
            raise
    finally:
        os.close(descriptor)
