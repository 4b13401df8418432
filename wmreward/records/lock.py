"""One writer at a time, also across machines and file servers: for files of records and folders of runs.

The lock is a file that says who holds it, with a number that grows as long as its holder lives. On the
holder's own machine its processes are looked up; elsewhere the number is watched, so no two clocks are
compared. It needs no locks of the file system, which many shared ones lack or keep to one machine, and it
names its holder; that is why it is not one of a library.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wmfiles import Process, fitted, temporary_beside, tidy
from wmreward.errors import UsageError, WMRewardError
from wmreward.files import write_text

if TYPE_CHECKING:
    from wmreward.ranks import Ranks

BEAT_S = 10.0
"""The number grows so often."""
PATIENCE_S = 60.0
"""Whose number stands still for so long is gone."""
_LOOK_AGAIN_S = 0.5
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK)


class InUse(UsageError):
    """Somebody else writes there."""


class Lost(WMRewardError):
    """Somebody else took the lock while its holder did not beat."""

    exit_code = InUse.exit_code


class Lock:
    """The right to write to a file or a folder.

    Args:
        path: The lock itself.
        what: What may be written to, for messages.
    """

    def __init__(self, path: Path, what: Path) -> None:
        self.path, self.what = path, what
        self._content: dict[str, Any] = {"token": secrets.token_hex(8), "beat": 0}
        self._lost: WMRewardError | None = None

    @classmethod
    def of(cls, file: Path) -> Lock:
        """That of a file of records, beside it."""
        real = Path(os.path.realpath(file))  # under whatever name it is opened
        return cls(real.with_name(fitted(f".{real.name}", ".lock")), file)

    def acquire(
        self,
        processes: Sequence[Process],
        *,
        wait: bool = False,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Take it, from a holder that is gone if need be.

        Args:
            processes: All that are going to write.
            wait: The holder is known to be ending: wait for that.
            say: Told in words of a longer wait.

        Raises:
            InUse: the holder is alive.
            WMRewardError: the lock cannot be written.
        """
        self._content |= {
            "processes": [asdict(process) for process in processes],
            "since": time.strftime("%Y-%m-%d %H:%M:%S"),
            "slurm_job": os.environ.get("SLURM_JOB_ID"),
        }
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            tidy(self.path.parent)
            for other in self.rivals():
                self._outlive(other, wait, say)
            self._place()
        except OSError as error:
            is_file = isinstance(error, FileExistsError | NotADirectoryError)
            reason = "something in its path is a file" if is_file else error.strerror or error
            raise WMRewardError(f"{self.what}: cannot be written ({reason})") from error
        # Two that begin at once see one another here.
        for other in self.rivals():
            if other != self.path:
                self.release()
                raise self._in_use(other, read(other) or {})
        content = read(self.path)
        if content is None or content["token"] != self._content["token"]:
            raise self._in_use(self.path, content or {})

    def rivals(self) -> list[Path]:
        """Locks that this one cannot stand beside, an older one of the same name included."""
        return [self.path] if self.path.exists() else []

    def look(self) -> None:
        """See that it is still held.

        Raises:
            InUse: somebody thought its holder was gone and holds the lock now.
        """
        content = read(self.path)
        if content is None or content["token"] != self._content["token"]:
            raise self._in_use(self.path, content or {})

    def beat(self) -> None:
        """Show that the holder lives.

        Raises:
            InUse: as `look`.
        """
        self.look()
        self._content["beat"] += 1
        write_text(self.path, json.dumps(self._content))

    def share(self, ranks: Ranks) -> None:
        """Let all processes know the lock that the first has acquired; called by all."""
        self._content["token"] = ranks.gather(self._content["token"])[0]

    def release(self) -> None:
        """Give it up, if it is still ours."""
        try:
            content = read(self.path)
        except WMRewardError:  # not ours, whatever it is
            return
        if content is not None and content["token"] == self._content["token"]:
            self.path.unlink(missing_ok=True)

    @contextmanager
    def kept(self, *, beats: bool = True) -> Iterator[None]:
        """Beat in a thread while the block lasts, or just look; `check` tells if the lock was lost."""
        closed = threading.Event()
        work_once = self.beat if beats else self.look

        def work() -> None:
            try:
                while not closed.wait(BEAT_S):
                    work_once()
            except WMRewardError as error:
                self._lost = Lost(str(error))
            except OSError as error:
                self._lost = WMRewardError(f"{self.path}: {error.strerror or error}")

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        try:
            yield
        finally:
            closed.set()
            thread.join()

    def check(self) -> None:
        """Raise ``WMRewardError`` if it cannot be `kept`: `Lost` to somebody, or the disk fails."""
        if self._lost is not None:
            raise self._lost

    # --- taking it --------------------------------------------------------------------------------------

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
        if content is not None:
            self._remove(other, content)

    def _remove(self, other: Path, content: dict[str, Any]) -> None:
        """Remove a dead one's lock, and no other: somebody else may have been faster.

        Looking and removing are two steps, so only one at a time may do them; what keeps the others out
        is a lock again, and that of one who died in between is taken in the same way.
        """
        taking = Lock(other.with_name(fitted(f".{other.name}", ".taking")), self.what)
        taking.acquire([Process.this()])
        try:
            found = read(other)
            if found == content:
                other.unlink(missing_ok=True)
            elif found is not None:
                raise self._in_use(other, found)
        finally:
            taking.release()

    def _place(self) -> None:
        temporary = temporary_beside(self.path)
        write_text(temporary, json.dumps(self._content))
        try:
            _link(temporary, self.path)
        except FileExistsError:
            raise self._in_use(self.path, read(self.path) or {}) from None

    def _in_use(self, path: Path, content: dict[str, Any]) -> InUse:
        return InUse(
            f"{self.what} is in use by {holder(content)}; wait for its end or stop it, then start again"
        )


def _link(source: Path, target: Path) -> None:
    """Rename, but fail with ``FileExistsError`` where there is a target."""
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        with target.open("xb") as file:  # no links on this file system
            file.write(source.read_bytes())
    finally:
        source.unlink(missing_ok=True)


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
        except (ValueError, OSError, RecursionError):
            content = None
        if isinstance(content, dict) and {"token", "beat", "processes"} <= content.keys():
            return content
        time.sleep(0.1)
    raise WMRewardError(f"{path} is not a lock of a run; remove it if no run is at work")


def is_gone(content: dict[str, Any]) -> bool:
    """Whether all processes of a lock have ended, as far as can be told from here."""
    return all(Process(**process).is_gone() for process in content["processes"])


def _is_here(content: dict[str, Any]) -> bool:
    return all(Process(**process).is_here for process in content["processes"])


def holder(content: dict[str, Any]) -> str:
    """Who holds a lock, in words."""
    processes = content.get("processes") or [{"host": "an unknown machine", "pid": 0}]
    job = f", SLURM job {content['slurm_job']}" if content.get("slurm_job") else ""
    return (
        f"process {processes[0]['pid']} on {processes[0]['host']}{job} "
        f"(since {content.get('since', 'an unknown time')})"
    )


@contextmanager
def reserved(file: Path | None, ranks: Ranks) -> Iterator[Lock]:
    """Let nobody else write to a file while the block lasts; called by all processes of a run.

    Each of them notices by `Lock.check` if the lock was lost.

    Without a file there is nothing to reserve, and the lock that is given is never lost.

    Raises:
        InUse: somebody writes there already.
    """
    if file is None:
        yield Lock(Path(), Path())
        return
    lock, processes = Lock.of(file), ranks.gather(Process.this())
    ranks.on_first(lambda: lock.acquire(processes, say=_say))
    lock.share(ranks)
    try:
        with lock.kept(beats=ranks.is_first):
            yield lock
    finally:
        if ranks.is_first:
            lock.release()


def _say(text: str) -> None:
    print(text, file=sys.stderr)
