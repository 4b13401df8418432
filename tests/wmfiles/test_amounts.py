"""Amounts are told in a unit that they fill."""

from __future__ import annotations

import pytest

from wmfiles.amounts import BYTES, LONG, NUMBERS, SECONDS, Units, amount, counted


@pytest.mark.parametrize(
    ("value", "units", "text"),
    [
        (44.59 * 2**30, BYTES, "44.59 GiB"),
        (2**30, BYTES, "1.00 GiB"),
        (12.3 * 2**20, BYTES, "12.30 MiB"),
        (5, BYTES, "5.00 B"),
        (0, BYTES, "0.00 B"),
        (26_900_000, NUMBERS, "26.90 M"),
        (7, NUMBERS, "7.00"),
        (0.0123, SECONDS, "12.30 ms"),
        (90, SECONDS, "90.00 s"),
        (90, LONG, "1.50 min"),
        (7200, LONG, "2.00 h"),
    ],
)
def test_amounts(value: float, units: Units, text: str) -> None:
    assert amount(value, units) == text


def test_one_thing_is_no_plural() -> None:
    told = [counted(n, "chunk") for n in (0, 1, 2)]
    assert told == ["0 chunks", "1 chunk", "2 chunks"]
    assert [counted(n, "process", "processes") for n in (1, 2)] == ["1 process", "2 processes"]
