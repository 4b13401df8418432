"""How fields of a configuration are refused: by name and value, and by other names to who typed a flag."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any, NoReturn

from magi1.errors import MagiUsageError


class FieldError(MagiUsageError):
    """A field that cannot have its value.

    Args:
        section: Of the configuration.
        field: Its name.
        values: Of all fields of the section.
        why: What it must be; other fields of the section stand in it as ``{name}``.
        fits: Values near by that would do, where that can be said.
    """

    def __init__(
        self, section: str, field: str, values: Mapping[str, Any], why: str, fits: Sequence[int]
    ) -> None:
        self.field, self.values, self.why, self.fits = field, values, why, tuple(fits)
        super().__init__(
            f"{section}.{self.told(lambda name, value: f'{name}={shown(value)}')}",
        )

    def told(self, named: Callable[[str, Any], str]) -> str:
        """The same line, with fields called what ``named(field, value)`` says."""
        why = re.sub(r"{(\w+)}", lambda found: named(found[1], self.values[found[1]]), self.why)
        line = f"{named(self.field, self.values[self.field])} {why}"
        if not self.fits:
            return line
        *others, last = map(str, self.fits)
        return f"{line}; " + (f"{', '.join(others)} and {last} fit" if others else f"{last} fits")


class Refusal:
    """Refuses fields of a section, a dataclass."""

    def __init__(self, section: str, values: Any) -> None:
        self.section = section
        self.values = {field.name: getattr(values, field.name) for field in fields(values)}

    def __call__(self, name: str, why: str, fits: Sequence[int] = ()) -> NoReturn:
        raise FieldError(self.section, name, self.values, why, fits)

    def unless_positive(self, *names: str) -> None:
        for name in names:
            if not self.values[name] > 0:
                self(name, "must be above 0")

    def unless_in(self, name: str, allowed: Mapping[Any, object] | tuple[Any, ...]) -> None:
        if self.values[name] not in allowed:
            self(name, f"must be one of {', '.join(map(str, allowed))}")

    def unless_multiple(self, name: str, unit: int, why: str, *, least: int = 1) -> None:
        """``why`` says what it must be; the multiples of ``unit`` beside it, from ``least`` on, are told."""
        value = self.values[name]
        if value % unit or value < least:
            below = value // unit * unit
            self(name, why, [near for near in (below, below + unit) if near >= least] or [least])


def shown(given: object) -> str:
    """A value as part of a message, of bounded length."""
    text = json.dumps(given, default=str)
    return text if len(text) <= 80 else f"{text[:79]}…"
