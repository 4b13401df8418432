"""Errors that concern the disk and not the candidate: to go on would fail with every other one too."""

from __future__ import annotations

import errno

_TROUBLE = {
    errno.ENOSPC: "the disk is full; free some space",
    errno.EDQUOT: "the disk quota is used up; free some space",
    errno.EFBIG: "a file grew larger than this file system or process (ulimit -f) may write",
    errno.EROFS: "the file system is read-only",
    errno.ESTALE: "the file server has lost a file (stale handle); see that the folder is mounted",
    errno.EIO: "the disk or file server does not answer properly (input/output error)",
    errno.ENOTCONN: "the file system is not mounted any more",
}


def disk_trouble(error: BaseException | None) -> str | None:
    """What is wrong with the disk, if that is what an error or one of its causes says."""
    seen = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in _TROUBLE:
            where = f"{seen.filename}: " if seen.filename else ""
            return f"{where}{_TROUBLE[seen.errno]}"
        seen = seen.__cause__ or seen.__context__
    return None
