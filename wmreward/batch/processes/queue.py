"""Which candidate comes next: numbers in torch.distributed's store, drawn by whoever is free."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence

from wmreward.batch.processes.team import LostContact, Team, error_of, told_error
from wmreward.errors import WMRewardError

ATTEMPTS = 2
"""A candidate that fails so often has failed."""
_LOOK_AGAIN_S = 0.1


class Queue:
    """The candidates still to be made, in the order in which they are drawn.

    Every process has one, of the same ``pending``; only leaders draw. What failed goes to another group
    where there is one.

    Args:
        team: The processes.
        pending: Numbers of candidates, the longest first.
    """

    def __init__(self, team: Team, pending: Sequence[int]) -> None:
        self.team, self.pending = team, pending
        self._round = 0
        self._settled: set[int] = set()  # entries of what failed that somebody has taken

    def draw(self, give_up: Callable[[], bool]) -> int | None:
        """The next candidate for this group, the same on all its processes; None when there is no more.

        Waits while others work on what may still come back. ``give_up`` ends that on the leader.
        """
        key = f"drawn/{self.team.group}/{self._round}"
        self._round += 1
        if not self.team.is_leader:
            drawn = int(self.team.await_told(key))
            return None if drawn < 0 else drawn
        number = self._draw(give_up)
        if self.team.size > 1:
            self.team.tell(key, str(-1 if number is None else number))
        return number

    def _draw(self, give_up: Callable[[], bool]) -> int | None:
        while not give_up() and self.stopped() is None:
            if (again := self._returned()) is not None:
                return again
            place = self.team.add("next") - 1
            if place < len(self.pending):
                return self.pending[place]
            if self.done() >= len(self.pending):
                return None
            time.sleep(_LOOK_AGAIN_S)
        return None

    def _returned(self) -> int | None:
        """One that failed in another group, or in this one if there is no other."""
        for entry in range(self.team.add("returned", 0)):
            if entry in self._settled:
                continue
            number, group = json.loads(self.team.await_told(f"returned/{entry}"))
            if group == self.team.group and self.team.groups > 1:
                continue
            self._settled.add(entry)
            if self.team.add(f"taken/{entry}") == 1:
                return int(number)
        return None

    def give_back(self, number: int) -> None:
        """It failed here: let another group try."""
        entry = self.team.add("given") - 1
        self.team.tell(f"returned/{entry}", json.dumps([number, self.team.group]))
        self.team.add("returned")

    def tries(self, number: int) -> int:
        """Count one more failure of a candidate; returns how many there are."""
        return self.team.add(f"tries/{number}")

    def finish(self, *, failed: bool) -> None:
        """One candidate is made, or has failed for good."""
        if failed:
            self.team.add("failed")
        self.team.add("done")

    def done(self) -> int:
        """How many are made or have failed."""
        return self.team.add("done", 0)

    def failed(self) -> int:
        """How many have failed."""
        return self.team.add("failed", 0)

    # --- stopping ---------------------------------------------------------------------------------------

    def stop(self, error: Exception) -> None:
        """Nobody shall draw any more, for this reason."""
        self.team.tell("stop", told_error(error))

    def stopped(self) -> WMRewardError | None:
        """Why nobody draws any more."""
        told = self.team.told("stop")
        return None if told is None else error_of(*json.loads(told))

    def agree(self, what: str, outcome: str, patience_s: float) -> list[str]:
        """What each process of the group says of something that all of them did since they drew.

        Raises:
            LostContact: one of them does not say it in time.
        """
        team, key = self.team, f"{what}/{self._round}"
        first = team.group * team.size
        team.tell(f"{key}/{team.rank}", outcome)
        latest = time.monotonic() + patience_s

        def in_time() -> None:
            if time.monotonic() > latest:
                raise LostContact("a process that shares a video with this one does not answer")

        return [team.await_told(f"{key}/{first + i}", in_time) for i in range(team.size)]
