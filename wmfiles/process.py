"""Which process on which machine, and whether it has ended: for locks, and for what killed processes left."""

from __future__ import annotations

import functools
import os
import socket
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Process:
    """A process on some machine.

    Attributes:
        host: Its machine.
        pid: Its number there.
        started: When it was started, in ticks since the machine was, as numbers are used again; None
            where that cannot be told.
        space: Where the number counts: one start of a machine, and one container on it. Names of machines
            are not unique. None where that cannot be told.
    """

    host: str
    pid: int
    started: int | None = None
    space: str | None = None

    @classmethod
    def this(cls) -> Process:
        pid = os.getpid()
        return cls(socket.gethostname(), pid, _started(pid), _space())

    @property
    def is_here(self) -> bool:
        """Whether it can be looked up from here."""
        known = self.space is None or self.space == _space()
        return known and self.host == socket.gethostname()

    def is_gone(self) -> bool:
        """Whether it has ended; False for one elsewhere."""
        if not self.is_here:
            return False
        if self.pid == os.getpid():
            return self.started is not None and _started(self.pid) != self.started
        if os.name == "nt":  # os.kill would end it there
            return False
        try:
            os.kill(self.pid, 0)
        except (ProcessLookupError, OverflowError):
            return True
        except PermissionError:  # somebody's
            pass
        return self.started is not None and _started(self.pid) != self.started


def _started(pid: int) -> int | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return int(stat.rpartition(")")[2].split()[19])


@functools.cache
def _space() -> str | None:
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}/{Path('/proc/self/ns/pid').readlink()}"
    return None
