"""Output files that are either complete or absent, never half written, and nothing left of killed writers."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from wmfiles.names import LONGEST_NAME, cut
from wmfiles.process import Process

ABANDONED_S = 24 * 3600.0
"""What a process on another machine has not touched for so long is nobody's any more."""

_LEFTOVER = re.compile(r"\..*\.([0-9a-f]{8})-(\d+)-(\d+)-[0-9a-f]{8}\.part(\.\w+)?", re.DOTALL)
_tidied: set[Path] = set()


@contextmanager
def write_whole(path: Path) -> Iterator[Path]:
    """Give a temporary name beside ``path``; on success the file or folder written there becomes ``path``.

    The temporary file lies in the same folder (a rename is atomic only within one file system)
    and keeps the suffix (encoders choose the format by it). It is flushed to the disk before the
    rename, so a power cut leaves the old file or the new one. On any exception, Ctrl-C included,
    it is removed and an existing ``path`` stays as it was. Missing parent folders are made. What
    killed processes left in the folder is removed.

    Devices and pipes such as /dev/stdout are written directly, since a rename would replace them.

    Raises:
        OSError: as the system has it, errno included.
    """
    temporary = temporary_beside(path)
    try:
        if _is_special(path):
            yield path
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        tidy(path.parent)
        yield temporary
        flush_to_disk(temporary)
        temporary.replace(path)
        flush_to_disk(path.parent)
    finally:
        _remove(temporary)


def _remove(path: Path) -> None:
    with suppress(OSError):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _is_special(path: Path) -> bool:
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116, a name that is too long is an error, not absent
    except (FileNotFoundError, NotADirectoryError):
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def temporary_beside(path: Path) -> Path:
    """A name for what is to become ``path``; if this process is killed, a later one removes it."""
    this = Process.this()
    mark = f".{_machine(this)}-{this.pid}-{this.started or 0}-{secrets.token_hex(4)}.part"
    suffix = path.suffix if re.fullmatch(r"\.\w{1,20}", path.suffix) else ""
    stem = cut(path.name.removesuffix(suffix), LONGEST_NAME - len(mark) - len(suffix) - 2)
    return path.with_name(f".{stem}{mark}{suffix}")


def tidy(folder: Path) -> None:
    """Remove what dead processes were writing into a folder; done once by a process."""
    folder = folder.absolute()
    if folder in _tidied:
        return
    _tidied.add(folder)
    with suppress(OSError):
        found = [entry for entry in os.scandir(folder) if _LEFTOVER.fullmatch(entry.name)]
        for entry in found:
            if _is_abandoned(entry):
                _remove(Path(entry.path))


def _is_abandoned(entry: os.DirEntry[str]) -> bool:
    match = _LEFTOVER.fullmatch(entry.name)
    assert match is not None
    this = Process.this()
    if match[1] != _machine(this):
        return time.time() - entry.stat().st_mtime > ABANDONED_S
    return Process(this.host, int(match[2]), int(match[3]) or None, this.space).is_gone()


def _machine(process: Process) -> str:
    return hashlib.sha256(f"{process.host} {process.space}".encode()).hexdigest()[:8]


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
