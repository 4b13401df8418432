"""What the words after flags may be: numbers in a range, names of a list, seeds, places. Nothing heavy.

A kind is called with a word and returns its value; what is wrong with it is an ``ArgumentTypeError`` that
says what would be right. All numbers are finite and within the range that the kind states.
"""

from __future__ import annotations

import re
from argparse import ArgumentTypeError
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import TypeVar

from wmreward.errors import did_you_mean

_Value = TypeVar("_Value", int, float)

MODELS = (
    *("tiny", "referee", "vitl", "vith", "vitg", "vitg384", "vitgac"),
    *("vitb21", "vitl21", "vitg21", "vitG21"),
)
"""The world models of `vjepa2.MODELS`, which loads PyTorch; a test holds it to them."""
LARGEST_SEED = 2**63 - 1
MOST_SEEDS = 100_000
"""Seeds of one list: more are a slip of the keyboard, and a range of them would fill the memory."""

_WHOLE = re.compile(r"[+-]?[0-9]{1,40}")
# Python's own float() also reads 1_000, and digits of other scripts.
_DECIMAL = re.compile(r"[+-]?([0-9]{1,400}\.?|[0-9]{0,400}\.[0-9]{1,400})([eE][+-]?[0-9]{1,4})?")
_SEEDS = re.compile(r"([0-9]{1,20})(?:\s*-\s*([0-9]{1,20}))?")
_RULE = re.compile(
    r"mean|max|median|topk[1-9][0-9]{0,8}|topp(?!0*(\.0*)?$)(100(\.0*)?|[0-9]{1,2}(\.[0-9]+)?)"
)
_DEVICE = re.compile(r"auto|(cpu|cuda|mps|xpu)(:[0-9]{1,3})?")
_SHOWN = 40


@dataclass(frozen=True)
class Whole:
    """A whole number from ``low`` to ``high``, both included."""

    low: int = 0
    high: int = 1_000_000

    def __call__(self, word: str) -> int:
        value = int(word) if _WHOLE.fullmatch(word.strip()) else None
        if value is None or not self.low <= value <= self.high:
            raise ArgumentTypeError(f"must be {self}, not {quoted(word)}")
        return value

    def __str__(self) -> str:
        return f"a whole number from {self.low} to {self.high}"


@dataclass(frozen=True)
class Number:
    """A finite number from ``low`` to ``high``, both included; ``above``: greater than ``low``."""

    low: float = -1e9
    high: float = 1e9
    above: bool = False

    def __call__(self, word: str) -> float:
        value = float(word) if _DECIMAL.fullmatch(word.strip()) else float("nan")
        if not isfinite(value) or not self.low <= value <= self.high:
            raise ArgumentTypeError(f"must be {self}, not {quoted(word)}")
        if self.above and value == self.low:
            raise ArgumentTypeError(f"must be {self}, not {quoted(word)}")
        return value

    def __str__(self) -> str:
        low, high = (
            f"{end:.0f}" if end == round(end) else str(end) for end in (self.low, self.high)
        )
        return (
            f"a number above {low}, up to {high}"
            if self.above
            else f"a number from {low} to {high}"
        )


@dataclass(frozen=True)
class OneOf:
    """One of a few names."""

    names: tuple[str, ...]

    def __call__(self, word: str) -> str:
        if word not in self.names:
            hint = did_you_mean(word, self.names)
            raise ArgumentTypeError(f"must be {self}, not {quoted(word)}{hint}")
        return word

    def __str__(self) -> str:
        if len(self.names) < 3:
            return " or ".join(self.names)
        return f"{', '.join(self.names[:-1])} or {self.names[-1]}"


def rule(word: str) -> str:
    """How windows are aggregated: ``mean``, ``max``, ``median``, ``topk3``, ``topp50``."""
    if not _RULE.fullmatch(word):
        hint = did_you_mean(word, ("mean", "max", "median"))
        raise ArgumentTypeError(
            f"must be mean, max, median, topkK or toppP (with a number K, or P up to 100), not "
            f"{quoted(word)}{hint}"
        )
    return word


def model(word: str) -> str:
    """The name of a world model: one of ours, or ``package.module:factory``."""
    if word not in MODELS and ":" not in word:
        raise ArgumentTypeError(
            f"must be {OneOf((*MODELS, 'package.module:factory'))}, not {quoted(word)}"
            f"{did_you_mean(word, MODELS)}"
        )
    return word


def device(word: str) -> str:
    """The name of a device; whether it is there shows when it is used."""
    if not _DEVICE.fullmatch(word):
        raise ArgumentTypeError(f"must be auto, cpu, cuda or cuda:N, not {quoted(word)}")
    return word


def place(word: str) -> str:
    """The name of a file or folder."""
    if not word.strip() or "\0" in word:
        raise ArgumentTypeError(f"must name a file or folder, not {quoted(word)}")
    return word


def seed_range(word: str) -> tuple[int, ...]:
    """Whole numbers and ranges of them, both ends included: ``0-3,8`` → 0, 1, 2, 3, 8."""
    wrong = ArgumentTypeError(
        f"must be whole numbers and ranges, such as 0,1,5 or 0-15, not {quoted(word)}"
    )
    seeds: list[int] = []
    for part in word.split(","):
        found = _SEEDS.fullmatch(part.strip())
        if not found:
            raise wrong
        low, high = int(found[1]), int(found[2] or found[1])
        if low > high:
            raise wrong
        if high > LARGEST_SEED or len(seeds) + high - low >= MOST_SEEDS:
            raise ArgumentTypeError(
                f"may be up to {LARGEST_SEED}, and {MOST_SEEDS} of them, not {quoted(word)}"
            )
        seeds += range(low, high + 1)
    return tuple(seeds)


def all_different(lists: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """The seeds of all words of a flag, in their order."""
    seeds = [seed for part in lists for seed in part]
    if len(set(seeds)) < len(seeds):
        twice = Counter(seeds).most_common(1)[0][0]
        raise ArgumentTypeError(f"names {twice} twice: every candidate needs a seed of its own")
    return tuple(seeds)


def different(values: Sequence[_Value]) -> tuple[_Value, ...]:
    """The values of all words of a flag, each given once."""
    if len(set(values)) < len(values):
        twice = next(value for value in values if values.count(value) > 1)
        raise ArgumentTypeError(f"names {twice:g} twice")
    return tuple(values)


def named_once(entries: Sequence[str]) -> list[str]:
    """Words ``NAME`` or ``NAME=VALUE`` of a flag, each name given once."""
    names = [entry.partition("=")[0] for entry in entries]
    if len(set(names)) < len(names):
        twice = Counter(names).most_common(1)[0][0]
        raise ArgumentTypeError(f"names {quoted(twice)[1:-1]} twice")
    return list(entries)


def quoted(word: str) -> str:
    """A user's word as part of a message, of bounded length."""
    return repr(word if len(word) <= _SHOWN else f"{word[: _SHOWN - 1]}…")
