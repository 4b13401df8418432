"""One run at a time in a folder (or in a share of it), also across machines and file servers.

The lock is a file that says who holds it, with a number that grows as long as its holder lives. On the
holder's own machine its processes are looked up; elsewhere the number is watched, so no two clocks are
compared.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from wmreward.batch.share import Share
from wmreward.errors import UsageError, WMRewardError
from wmreward.files import write_text

BEAT_S = 10.0
"""The number grows so often."""
PATIENCE_S = 60.0
"""Whose number stands still for so long is gone."""
_LOOK_AGAIN_S = 0.5


class InUse(UsageError):
    """Another run works in the folder."""


@dataclass(frozen=True)
class Process:
    """A process on some machine.

    Attributes:
        host: Its machine.
        pid: Its number there.
        started: When it was started, in ticks since the machine was, as numbers are used again; None
            where that cannot be told.
    """

    host: str
    pid: int
    started: int | None = None

    @classmethod
    def this(cls) -> Process:
        return cls(socket.gethostname(), os.getpid(), _started(os.getpid()))

    def is_gone(self) -> bool:
        """Whether it has ended; False for one on another machine."""
        if self.host != socket.gethostname():
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:  # somebody's
            pass
        return self.started is not None and _started(self.pid) != self.started


def _started(pid: int) -> int | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return int(stat.rpartition(")")[2].split()[19])


class Lock:
    """The right to write to a run folder.

    Args:
        folder: Where locks lie.
        share: The part of the run that is to be worked on.
    """

    def __init__(self, folder: Path, share: Share) -> None:
        self.path = folder / f"{share}.json"
        self.share = share
        self._content: dict[str, Any] = {"token": secrets.token_hex(8), "beat": 0}

    def acquire(
        self,
        processes: Sequence[Process],
        *,
        wait: bool = False,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Take it, from a holder that is gone if need be.

        Args:
            processes: All of this run.
            wait: The holder is known to be ending: wait for that.
            say: Told in words of a longer wait.

        Raises:
            InUse: the holder is alive.
        """
        self._content |= {
            "processes": [asdict(process) for process in processes],
            "since": time.strftime("%Y-%m-%d %H:%M:%S"),
            "slurm_job": os.environ.get("SLURM_JOB_ID"),
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        for other in self._others():
            self._outlive(other, wait, say)
        temporary = self.path.with_name(f".{self._content['token']}")
        write_text(temporary, json.dumps(self._content))
        try:
            os.link(temporary, self.path)  # unlike a rename, fails if there is one
        except FileExistsError:
            raise self._in_use(self.path, read(self.path) or {}) from None
        finally:
            temporary.unlink(missing_ok=True)
        # Two that begin at once see one another here.
        for other in self._others():
            if other != self.path:
                self.release()
                raise self._in_use(other, read(other) or {})

    def beat(self) -> None:
        """Show that the holder lives.

        Raises:
            InUse: somebody thought it was gone and holds the lock now.
        """
        content = read(self.path)
        if content is None or content["token"] != self._content["token"]:
            raise self._in_use(self.path, content or {})
        self._content["beat"] += 1
        write_text(self.path, json.dumps(self._content))

    def release(self) -> None:
        """Give it up, if it is still ours."""
        content = read(self.path)
        if content is not None and content["token"] == self._content["token"]:
            self.path.unlink(missing_ok=True)

    def _others(self) -> list[Path]:
        """Locks that this one cannot stand beside, an older one of the same name included."""
        paths = sorted(self.path.parent.glob("[!.]*.json"))
        return [path for path in paths if self.share.overlaps(Share.parse(path.stem))]

    def _outlive(self, other: Path, wait: bool, say: Callable[[str], None]) -> None:
        """Remove a lock whose holder is gone; find out whether it is."""
        seen = content = read(other)
        since = asked = time.monotonic()
        while content is not None and not is_gone(content):
            if not wait and (content != seen or _is_here(content)):
                raise self._in_use(other, content)
            if content != seen:
                seen, since = content, time.monotonic()
            if time.monotonic() - since > PATIENCE_S:
                break
            if asked == since:
                say(
                    f"{other}: looking for up to {PATIENCE_S:.0f} s whether {holder(content)} lives"
                )
                asked = 0
            time.sleep(_LOOK_AGAIN_S)
            content = read(other)
        if content is not None and read(other) == content:
            other.unlink(missing_ok=True)

    def _in_use(self, path: Path, content: dict[str, Any]) -> InUse:
        return InUse(
            f"{path.parents[1]} is in use by {holder(content)}; wait for its end or stop it, then start again"
        )


def read(path: Path) -> dict[str, Any] | None:
    """What a lock says; None if there is none.

    Raises:
        WMRewardError: it is no lock.
    """
    for _ in range(3):  # a file server may be between two states
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (ValueError, OSError):
            content = None
        if isinstance(content, dict) and {"token", "beat", "processes"} <= content.keys():
            return content
        time.sleep(0.1)
    raise WMRewardError(f"{path} is not a lock of a run; remove it if no run is at work")


def is_gone(content: dict[str, Any]) -> bool:
    """Whether all processes of a lock have ended, as far as can be told from here."""
    return all(Process(**process).is_gone() for process in content["processes"])


def _is_here(content: dict[str, Any]) -> bool:
    return all(process["host"] == socket.gethostname() for process in content["processes"])


def holder(content: dict[str, Any]) -> str:
    """Who holds a lock, in words."""
    processes = content.get("processes") or [{"host": "an unknown machine", "pid": 0}]
    job = f", SLURM job {content['slurm_job']}" if content.get("slurm_job") else ""
    return (
        f"process {processes[0]['pid']} on {processes[0]['host']}{job} "
        f"(since {content.get('since', 'an unknown time')})"
    )
