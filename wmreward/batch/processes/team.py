"""The processes of a run and the store through which they agree.

Groups of ``size`` neighbours share a candidate. All speak through torch.distributed's store, which
`torchrun` provides; a process that was started alone keeps one to itself.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, TypeVar

from torch import distributed

from wmreward.errors import UsageError, WMRewardError, in_words

T = TypeVar("T")

_PATIENCE = timedelta(minutes=10)
_LOOK_AGAIN_S = 0.05
_FAILED = "failed process"


class LostContact(WMRewardError):
    """Another process is gone, or the store: this process cannot go on; restarted ones can."""

    exit_code = 75


@dataclass(frozen=True)
class Team:
    """This process among the others.

    Attributes:
        rank, world: Its number, and how many there are.
        size: How many share a candidate.
        restarts: How often `torchrun` has started all of them again.
        store: Through which they agree.
    """

    rank: int = 0
    world: int = 1
    size: int = 1
    restarts: int = 0
    store: Any = field(default_factory=lambda: distributed.HashStore())

    @classmethod
    def joined(cls, size: int = 1) -> Team:
        """The processes that `torchrun` started, or this one alone.

        Raises:
            UsageError: their number is not a multiple of ``size``.
        """
        world = int(os.environ.get("WORLD_SIZE", "1")) if "RANK" in os.environ else 1
        restarts = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))
        if world == 1:
            return cls(restarts=restarts)
        store, rank, _ = next(distributed.rendezvous("env://", timeout=_PATIENCE))
        # torchrun that starts all processes again may keep its store, with what was told in it.
        store = distributed.PrefixStore(f"wmreward/batch/{restarts}", store)
        return cls(rank, world, 1, restarts, store).in_groups(size)

    def in_groups(self, size: int) -> Team:
        """The same processes, of which ``size`` share a candidate; one alone stays alone.

        Raises:
            UsageError: their number is not a multiple of ``size``.
        """
        if self.world == 1:
            return self
        if self.world % size:
            raise UsageError(
                f"{self.world} processes are not a multiple of the {size} that share a video"
            )
        return replace(self, size=size)

    @property
    def is_first(self) -> bool:
        """The one that opens the run and tells of it."""
        return self.rank == 0

    @property
    def is_leader(self) -> bool:
        """The one of its group that draws, writes and records."""
        return self.rank % self.size == 0

    @property
    def group(self) -> int:
        return self.rank // self.size

    @property
    def groups(self) -> int:
        return self.world // self.size

    @property
    def host(self) -> str:
        return socket.gethostname()

    # --- the store --------------------------------------------------------------------------------------

    def add(self, key: str, amount: int = 1) -> int:
        """Add to a number that all share; returns it."""
        return int(self._ask(lambda: self.store.add(key, amount)))

    def tell(self, key: str, text: str) -> None:
        self._ask(lambda: self.store.set(key, text))

    def told(self, key: str) -> str | None:
        """What was told, or None so far."""
        if not self._ask(lambda: self.store.check([key])):
            return None
        return bytes(self._ask(lambda: self.store.get(key))).decode()

    def await_told(self, key: str, on_wait: Callable[[], None] = lambda: None) -> str:
        """Wait until it is told. ``on_wait`` may raise to give up.

        Raises:
            WMRewardError: meanwhile another process failed, and would never tell it; see :meth:`failing`.
        """
        while (text := self.told(key)) is None:
            if (failure := self.told(_FAILED)) is not None:
                raise error_of(*json.loads(failure))
            on_wait()
            time.sleep(_LOOK_AGAIN_S)
        return text

    def together(self, what: str, work: Callable[[], T]) -> T:
        """Do something on every process before any goes on; what fails on one is raised on all.

        Else the others would wait for one that has ended.

        Args:
            what: Names it; each name once.
            work: Done here.
        """
        value, error = None, None
        try:
            value = work()
        except Exception as raised:
            error = raised
        if self.world > 1:
            self.tell(f"{what}/{self.rank}", told_error(error))
            for rank in range(self.world):
                found = self.await_told(f"{what}/{rank}")
                if found and error is None:
                    error = error_of(*json.loads(found))
        if error is not None:
            raise error
        return value  # type: ignore[return-value]

    @contextmanager
    def failing(self) -> Iterator[None]:
        """What fails in here fails for all that wait for this process."""
        try:
            yield
        except LostContact:  # they notice, or are told nothing any more
            raise
        except Exception as error:
            self.tell(_FAILED, told_error(error))
            raise

    def _ask(self, question: Callable[[], Any]) -> Any:
        try:
            return question()
        except (RuntimeError, OSError) as error:  # DistNetworkError and relatives
            reason = str(error).partition("\n")[0]
            raise LostContact(f"contact with the other processes is lost: {reason}") from error


def told_error(error: Exception | None) -> str:
    """An error as text for `error_of`; empty for none."""
    return "" if error is None else json.dumps([in_words(error), getattr(error, "exit_code", 1)])


def error_of(text: str, exit_code: int) -> WMRewardError:
    """An error of another process."""
    error = WMRewardError(text)
    error.exit_code = exit_code
    return error
