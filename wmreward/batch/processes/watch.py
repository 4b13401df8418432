"""The first process's second thread: one bar for the whole run, and the heartbeat of its lock."""

from __future__ import annotations

import sys
import threading
import time
from contextlib import suppress
from typing import Any

from tqdm import tqdm

import wmreward.records.lock as locks
from wmreward.batch.processes.queue import Queue
from wmreward.batch.processes.team import LostContact
from wmreward.records.lock import Lock

_LOOK_S = 0.5
_QUIET_S = 60.0
"""Between two lines of progress in a log file."""


class Watch:
    """Works as long as its context lasts.

    Args:
        queue: Tells how far the run is, and to whom a lost lock is told.
        lock: What is kept alive.
        before: Candidates that were there already.
        failed: Those of an earlier attempt that count as failed.
        shown: Whether there is a bar.
    """

    def __init__(
        self, queue: Queue, lock: Lock, *, before: int, failed: int, shown: bool = True
    ) -> None:
        self.queue, self.lock, self.failed = queue, lock, failed
        self._before = before + failed
        self._closed = threading.Event()
        self._bar: tqdm[Any] = tqdm(
            total=self._before + len(queue.pending),
            initial=self._before,
            unit="video",
            file=sys.stderr,
            disable=not shown,
            mininterval=_LOOK_S if sys.stderr.isatty() else _QUIET_S,
        )
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        self._thread.join()
        with suppress(LostContact):
            self._show()
        self._bar.close()

    def _work(self) -> None:
        beaten = time.monotonic()
        with suppress(LostContact):  # the main thread notices too
            try:
                while not self._closed.wait(_LOOK_S):
                    self._show()
                    if time.monotonic() - beaten > locks.BEAT_S:
                        beaten = time.monotonic()
                        self.lock.beat()
            except LostContact:
                raise
            except Exception as error:
                self.queue.stop(error)

    def _show(self) -> None:
        if failures := self.failed + self.queue.failed():
            self._bar.set_postfix_str(f"{failures} failed", refresh=False)
        self._bar.update(self._before + self.queue.done() - self._bar.n)
