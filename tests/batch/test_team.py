"""Processes that agree before they work together: none waits for one that has ended."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from torch import distributed

from wmreward.batch.processes.team import LostContact, Team
from wmreward.errors import UsageError, WMRewardError


def on_all(*works: Callable[[], Any]) -> list[Any]:
    """What `together` returns or raises on processes, which are threads here."""
    store = distributed.HashStore()

    def one(rank: int) -> Any:
        try:
            return Team(rank, len(works), 1, 0, store).together("set up", works[rank])
        except Exception as error:
            return error

    with ThreadPoolExecutor(len(works)) as pool:
        return list(pool.map(one, range(len(works))))


def fail() -> None:
    raise UsageError("no such file: list.jsonl")


def test_each_has_its_own_result() -> None:
    assert on_all(lambda: "a", lambda: "b") == ["a", "b"]


@pytest.mark.parametrize("works", [(fail, lambda: 1, lambda: 2), (lambda: 1, lambda: 2, fail)])
def test_what_fails_on_one_is_raised_on_all(works: tuple[Callable[[], Any], ...]) -> None:
    for error in on_all(*works):
        assert isinstance(error, WMRewardError) and error.exit_code == 2
        assert str(error) == "no such file: list.jsonl"


def test_also_what_nobody_foresaw() -> None:
    one, other = on_all(lambda: 1 // 0, lambda: 1)
    assert isinstance(one, ZeroDivisionError)
    assert str(other).startswith("integer division or modulo by zero (unforeseen, test_team.py")


def test_nobody_waits_for_a_process_that_failed() -> None:
    store = distributed.HashStore()
    first, second = (Team(rank, 2, 1, 0, store) for rank in range(2))
    with pytest.raises(UsageError), first.failing():
        fail()
    with pytest.raises(WMRewardError, match="no such file"):
        second.await_told("plan")
    store = distributed.HashStore()
    with pytest.raises(LostContact), Team(0, 2, 1, 0, store).failing():
        raise LostContact("gone")
    assert Team(1, 2, 1, 0, store).told("failed process") is None  # it is started again


def test_groups() -> None:
    assert Team(0, 4).in_groups(2).groups == 2
    assert Team().in_groups(8).size == 1
    with pytest.raises(UsageError, match="3 processes are not a multiple of the 2"):
        Team(0, 3).in_groups(2)
