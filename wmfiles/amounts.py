"""Amounts for people, each in a unit that it fills: 12 MiB rather than 0.01 GiB."""

from __future__ import annotations

Units = tuple[tuple[float, str], ...]
"""Size and name of units of one quantity, the largest first."""

BYTES: Units = ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"), (1, "B"))
NUMBERS: Units = ((1e9, "B"), (1e6, "M"), (1e3, "k"), (1, ""))
OPERATIONS: Units = ((1e15, "PFLOP"), (1e12, "TFLOP"), (1e9, "GFLOP"), (1e6, "MFLOP"), (1, "FLOP"))
SECONDS: Units = ((1, "s"), (1e-3, "ms"), (1e-6, "µs"))
LONG: Units = ((3600, "h"), (60, "min"), *SECONDS)


def unit_of(value: float, units: Units) -> tuple[float, str]:
    """The largest unit that ``value`` fills; the smallest if it fills none."""
    return next((unit for unit in units if value >= unit[0]), units[-1])


def amount(value: float, units: Units, spec: str = ".2f") -> str:
    """``value`` in the unit that it fills, with its name: ``amount(3 * 2**20, BYTES)`` is ``3.00 MiB``."""
    size, name = unit_of(value, units)
    return f"{value / size:{spec}} {name}".rstrip()


def counted(count: int, one: str, many: str = "") -> str:
    """``1 chunk``, ``2 chunks``: a number of things; ``many`` where the name takes more than an s."""
    return f"{count} {one if count == 1 else many or one + 's'}"
