"""SIGTERM and Ctrl-C: what is being made is finished or dropped, then the process leaves.

SIGTERM (pre-emption, the end of a SLURM allocation, `torchrun` that lost a process) leaves `grace_s` to
finish; Ctrl-C does not, also after SIGTERM. A second SIGTERM changes nothing: SLURM and `torchrun` each
send one. What is going to happen is said at once. A process that hangs in a collective call beyond that is
ended from a thread.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

GRACE_S = 20.0
"""`torchrun` and SLURM kill 30 s after SIGTERM."""
_CLEANUP_S = 3.0
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Interrupted(BaseException):
    """Drop what is being made. No error of a candidate, so nothing but the runner catches it."""


class Stopping:
    """Notices signals while its context lasts; in a thread other than the main one it does nothing.

    Args:
        grace_s: Time to finish what is being made after SIGTERM.
        at_worst: Called before a process that does not react is ended.
        say: Told in words what a signal does, when it comes; on another thread.

    Attributes:
        signal: Which one came, or None.
    """

    def __init__(
        self,
        grace_s: float = GRACE_S,
        at_worst: Callable[[], object] = lambda: None,
        say: Callable[[str], object] = lambda _: None,
    ) -> None:
        self.grace_s, self.at_worst, self.say = grace_s, at_worst, say
        self.signal: int | None = None
        self._making = self._due = False
        self._end: float | None = None
        self._closed = threading.Event()

    @property
    def exit_code(self) -> int:
        """As shells have it: 143 after SIGTERM, 130 after Ctrl-C, else 0."""
        return 0 if self.signal is None else 128 + self.signal

    def left_s(self) -> float:
        """Seconds until the process will be ended; without a signal, without end."""
        return float("inf") if self._end is None else self._end - time.monotonic()

    def __enter__(self) -> Stopping:
        self._active = threading.current_thread() is threading.main_thread()
        if self._active:
            self._reading, self._writing = socket.socketpair()
            self._writing.setblocking(False)
            # The wake-up file is written from C, also while Python waits for a collective call.
            self._old_file = signal.set_wakeup_fd(self._writing.fileno(), warn_on_full_buffer=False)
            self._old: dict[int, Any] = {
                number: signal.signal(number, self._handle)
                for number in (*_SIGNALS, signal.SIGALRM)
            }
            self._thread = threading.Thread(target=self._listen, daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if not self._active:
            return
        self._closed.set()
        signal.set_wakeup_fd(self._old_file)
        for number, handler in self._old.items():
            signal.signal(number, handler)
        self._writing.send(b"\0")
        self._thread.join()
        self._reading.close()
        self._writing.close()

    @contextmanager
    def making(self) -> Iterator[None]:
        """In here the process may be interrupted by :class:`Interrupted`."""
        self._making = True
        try:
            if self._due:
                raise Interrupted
            yield
        finally:
            self._making = False

    def _handle(self, number: int, _: FrameType | None) -> None:
        if number == signal.SIGALRM and self._making:
            self._making = False
            raise Interrupted

    def _listen(self) -> None:
        first = self._next(_SIGNALS)
        if first is None:
            return
        grace = self.grace_s if first == signal.SIGTERM else 0.0
        self._end = time.monotonic() + grace + _CLEANUP_S
        self.signal = first
        with suppress(Exception):  # a stream that is gone must not keep the process from leaving
            self.say(_told(first, grace))
        if grace and self._next((signal.SIGINT,), grace) == signal.SIGINT:
            self._end = time.monotonic() + _CLEANUP_S
        if self._closed.is_set():
            return
        self._due = True
        main = threading.main_thread().ident
        assert main is not None
        signal.pthread_kill(main, signal.SIGALRM)
        if not self._closed.wait(_CLEANUP_S):
            self.at_worst()
            os._exit(self.exit_code)

    def _next(self, wanted: Collection[int], within_s: float | None = None) -> int | None:
        """The next signal of these; None when the context is left, or the time is over."""
        latest = None if within_s is None else time.monotonic() + within_s
        while not self._closed.is_set():
            left = None if latest is None else latest - time.monotonic()
            if left is not None and left <= 0:
                return None
            self._reading.settimeout(left)
            with suppress(TimeoutError):
                if (number := self._reading.recv(1)[0]) in wanted:
                    return number
        return None


def _told(number: int, grace_s: float) -> str:
    what = "Ctrl-C" if number == signal.SIGINT else "SIGTERM"
    if not grace_s:
        return f"{what}: leaving at once; what was finished is kept"
    return f"{what}: the video at work has {grace_s:g} s to be finished (--grace_s); Ctrl-C leaves at once"
