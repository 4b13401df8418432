"""The processes of a `torchrun`: who scores what, and how they agree. One process needs none of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import distributed

from wmreward.errors import WMRewardError

T = TypeVar("T")

# Ranks wait for the slowest one, which may have hours of video more to score than the others.
_PATIENCE = timedelta(days=30)


@dataclass(frozen=True)
class Ranks:
    """One of ``world`` processes.

    Attributes:
        rank: Its number.
        world: How many there are.
        local: Its number on this machine.
    """

    rank: int = 0
    world: int = 1
    local: int = 0

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def share(self, items: Sequence[T]) -> list[tuple[int, T]]:
        """What this rank works on, with the place of each in the whole."""
        return list(enumerate(items))[self.rank :: self.world]

    def device(self, name: str) -> str:
        """The GPU of this rank, where ``name`` does not say which one."""
        if self.world > 1 and name in ("auto", "cuda") and torch.cuda.is_available():
            return f"cuda:{self.local % torch.cuda.device_count()}"
        return name

    def gather(self, value: T) -> list[T]:
        """The values of all ranks, on every rank."""
        if self.world == 1:
            return [value]
        values: list[Any] = [None] * self.world
        distributed.all_gather_object(values, value)
        return values

    def agree(self, error: WMRewardError | None) -> None:
        """Raise the first error of any rank on all of them, so that none waits for one that gave up."""
        if self.world == 1:
            if error is not None:
                raise error
            return
        for found in self.gather(None if error is None else (str(error), error.exit_code)):
            if found is not None:
                together = WMRewardError(found[0])
                together.exit_code = found[1]
                raise together from error

    def on_first(self, function: Callable[[], object]) -> None:
        """Call ``function`` on the first rank while the rest wait; its error is raised on all."""
        error = None
        if self.is_first:
            try:
                function()
            except WMRewardError as raised:
                error = raised
        self.agree(error)

    def in_turn(self, function: Callable[[], T]) -> T:
        """Call ``function`` on the first rank, then on the rest; an error on one is raised on all.

        So a download or a conversion that the first call makes is there for the others.
        """
        value: T | None = None
        for turn in (self.is_first, not self.is_first):
            error = None
            if turn:
                try:
                    value = function()
                except WMRewardError as raised:
                    error = raised
            self.agree(error)
        return value  # type: ignore[return-value]


@contextmanager
def joined() -> Iterator[Ranks]:
    """Meet the other processes if `torchrun` started this one."""
    world = int(os.environ.get("WORLD_SIZE", "1")) if "RANK" in os.environ else 1
    if world == 1:
        yield Ranks()
        return
    distributed.init_process_group("gloo", timeout=_PATIENCE)
    try:
        yield Ranks(distributed.get_rank(), world, int(os.environ.get("LOCAL_RANK", "0")))
    finally:
        distributed.destroy_process_group()
