"""Flags that were given and have no effect: each is named, as its user may wait for what it does.

They are no mistake to stop at: one command line with other scales or counts often has some of them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Iterable
from dataclasses import dataclass

NO_TABLE = "--json prints no table"
"""Why --format has no effect."""


@dataclass(frozen=True)
class Use:
    """What some flags are for.

    Attributes:
        flags: Names of theirs.
        there: Whether it is there.
        missing: Why not, and what brings it.
    """

    flags: frozenset[str]
    there: bool
    missing: str


def without_effect(given: frozenset[str], uses: Iterable[Use]) -> list[str]:
    """A line for each thing that is not there, with the flags that were given for it."""
    return [
        f"{_listed(vain)} without effect: {use.missing}"
        for use in uses
        if not use.there and (vain := sorted(given & use.flags))
    ]


def tell(lines: Collection[str]) -> None:
    """Each as a note on standard error, once if several processes run."""
    if os.environ.get("RANK", "0") == "0":
        for line in lines:
            print(f"note: {line}", file=sys.stderr)


def _listed(names: list[str]) -> str:
    *first, last = [f"--{name}" for name in names]
    return f"{', '.join(first)} and {last} are" if first else f"{last} is"
