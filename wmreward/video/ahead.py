"""Decoding ahead of the scorer: PyAV works outside the interpreter lock, so threads are enough."""

from __future__ import annotations

import atexit
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, suppress
from itertools import islice
from pathlib import Path
from queue import Full, Queue
from threading import Event, Thread
from time import monotonic
from typing import Any, Generic, TypeVar
from weakref import WeakSet

from wmreward.errors import VideoError, WMRewardError, named
from wmreward.video.types import Clip

Plan = TypeVar("Plan")

_END = object()
_PATIENCE = 3.0
"""Seconds that the end of the process waits for threads that decode."""


class Feed(Generic[Plan]):
    """One video, prepared and decoded by a thread of its own.

    The thread runs at most one clip ahead: one waits in the queue and one in its hands. It is a daemon
    because nothing can stop FFmpeg in the middle of a long video, and Ctrl-C must not wait for that.

    Args:
        path: The video.
        plan: What to know before decoding, such as the hash of the file.
        clips: Given the plan, the clips to decode; none if there is nothing to do.
    """

    def __init__(
        self,
        path: Path,
        plan: Callable[[Path], Plan],
        clips: Callable[[Path, Plan], Generator[Clip, None, None]],
    ) -> None:
        self.path = path
        self._make_plan, self._make_clips = plan, clips
        self._queue: Queue[Any] = Queue(maxsize=1)
        self._stopped = Event()
        self._thread = Thread(target=self._work, daemon=True, name=f"decode {path.name}")
        self._thread.start()
        _feeds.add(self)

    def plan(self) -> Plan:
        """Wait for the plan; call once, before `clips`."""
        plan: Plan = self._take()
        return plan

    def clips(self) -> Iterator[Clip]:
        """The clips as they are decoded. Raises `VideoError`, also for what no one expected of a file."""
        while (clip := self._take()) is not _END:
            yield clip

    def close(self) -> None:
        """Let the thread end after the clip it is decoding."""
        self._stopped.set()

    def wait(self, seconds: float) -> None:
        """Until the thread has ended, but not for longer."""
        self._thread.join(max(0.0, seconds))

    def _take(self) -> Any:
        item = self._queue.get()
        if isinstance(item, BaseException):
            raise item
        return item

    def _put(self, item: Any) -> None:
        placed = False
        while not placed and not self._stopped.is_set():
            with suppress(Full):
                self._queue.put(item, timeout=0.1)
                placed = True

    def _work(self) -> None:
        try:
            plan = self._make_plan(self.path)
            self._put(plan)
            with closing(self._make_clips(self.path, plan)) as clips:
                for clip in clips:
                    self._put(clip)
                    if self._stopped.is_set():
                        return
            self._put(_END)
        except WMRewardError as error:
            self._put(error)
        except OSError as error:
            self._put(VideoError(self.path, f"cannot be read ({error.strerror or error})"))
        except MemoryError:
            self._put(
                VideoError(
                    self.path, f"too large for the memory; try a smaller {named('max_frames')}"
                )
            )
        except Exception as error:
            found = VideoError(self.path, f"cannot be decoded ({type(error).__name__}: {error})")
            found.__cause__ = error
            self._put(found)


_feeds: WeakSet[Feed[Any]] = WeakSet()


@atexit.register
def end_all() -> None:
    """Let all threads end before the interpreter does.

    It throws daemon threads out of what they are at, and one that is in PyTorch's C++ then takes the process
    with it: a run that ended with an error of one line would say that it was aborted, too.
    """
    feeds = list(_feeds)
    for feed in feeds:
        feed.close()
    latest = monotonic() + _PATIENCE
    for feed in feeds:
        feed.wait(latest - monotonic())


def decode_ahead(
    paths: Iterable[Path],
    plan: Callable[[Path], Plan],
    clips: Callable[[Path, Plan], Generator[Clip, None, None]],
    workers: int,
) -> Iterator[Feed[Plan]]:
    """Videos in order, while up to ``workers`` more are being prepared and decoded."""
    waiting = iter(paths)
    started: deque[Feed[Plan]] = deque()
    try:
        while True:
            new = islice(waiting, workers + 1 - len(started))
            started.extend(Feed(path, plan, clips) for path in new)
            if not started:
                return
            yield started[0]
            started.popleft().close()
    finally:
        for feed in started:
            feed.close()
