"""Which part of a run a launch works on: all of it, or its part in a SLURM array."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from wmreward.errors import UsageError, named

T = TypeVar("T")


@dataclass(frozen=True)
class Share:
    """Part ``number`` of ``of`` equal ones, counted from 1.

    Raises:
        UsageError: there is no such part.
    """

    number: int = 1
    of: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.of:
            raise UsageError(
                f"{named('share', f'{self.number}/{self.of}')}: parts are counted from 1 to {self.of}"
            )

    @classmethod
    def parse(cls, text: str) -> Share:
        """From ``2/4``, or ``2-of-4`` as in names of files."""
        match = re.fullmatch(r"([0-9]{1,9})(?:/|-of-)([0-9]{1,9})", text)
        if match is None:
            raise UsageError(f"{named('share', text)} must look like 2/4")
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"{self.number}-of-{self.of}"

    @property
    def is_all(self) -> bool:
        return self.of == 1

    def overlaps(self, other: Share) -> bool:
        """Whether both may hold the same candidate."""
        return self.of != other.of or self.number == other.number

    def deal(self, items: Sequence[T]) -> list[T]:
        """The items of this part: as in a card game."""
        return list(items[self.number - 1 :: self.of])
