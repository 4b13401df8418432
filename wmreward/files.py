"""Output files that are either complete or absent, never half written."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from wmreward.errors import WMRewardError

_REASONS = {
    errno.ENOSPC: "the disk is full; free some space or write somewhere else",
    errno.EDQUOT: "the disk quota is used up; free some space or write somewhere else",
    errno.EFBIG: "the file grew larger than this file system or process may write",
    errno.EROFS: "the file system is read-only; write somewhere else",
    errno.EACCES: "permission denied; write somewhere else",
    errno.EPERM: "permission denied; write somewhere else",
    errno.ENAMETOOLONG: "the file name is too long",
}


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
