"""Work that one process does while others wait: held by a lock on a file, which ends with the process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


@contextmanager
def alone(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Hold the lock file ``path`` within the context; yields whether this process may do the work.

    Where there are no locks (by the system, or the file system) every process may: the work must come out
    right even then, only done more often than needed.

    Args:
        path: The lock file; stays.
        wait: Until the process that holds it lets go. Else False is yielded at once.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("ab")
    except OSError:
        yield True
        return
    with file:
        yield _locked(file.fileno(), wait)


def _locked(descriptor: int, wait: bool) -> bool:
    if fcntl is None:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return True
