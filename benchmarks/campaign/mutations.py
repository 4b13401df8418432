"""What is done to the bytes of a file. Each mutation is decided by its seed alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from benchmarks.campaign.text_mutations import text_mutations

Random = np.random.Generator


def _flip(data: bytearray, random: Random) -> None:
    """A few single bits."""
    for _ in range(int(random.integers(1, 9))):
        data[int(random.integers(len(data)))] ^= 1 << int(random.integers(8))


def _noise(data: bytearray, random: Random) -> None:
    """A run of random bytes, as a bad sector or a bad line leaves."""
    start, stop = _run(data, random)
    data[start:stop] = random.integers(0, 256, stop - start, dtype=np.uint8).tobytes()


def _zeros(data: bytearray, random: Random) -> None:
    """A run of zeros, as a download that was resumed at the wrong place leaves."""
    start, stop = _run(data, random)
    data[start:stop] = bytes(stop - start)


def _cut(data: bytearray, random: Random) -> None:
    """The end is missing."""
    del data[int(random.integers(len(data))) :]


def _drop(data: bytearray, random: Random) -> None:
    """A run is missing in the middle."""
    start, stop = _run(data, random)
    del data[start:stop]


def _repeat(data: bytearray, random: Random) -> None:
    """A run comes twice."""
    start, stop = _run(data, random)
    data[start:start] = data[start:stop]


def _number(data: bytearray, random: Random) -> None:
    """Four bytes become a number that breaks arithmetic."""
    value = int(random.choice([0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFF]))
    start = int(random.integers(max(1, min(len(data), 2048) - 4)))  # headers are in front
    order = "big" if random.integers(2) else "little"
    data[start : start + 4] = value.to_bytes(4, order)  # type: ignore[arg-type]


MUTATIONS: dict[str, Callable[[bytearray, Random], None]] = {
    "flip": _flip,
    "noise": _noise,
    "zeros": _zeros,
    "cut": _cut,
    "drop": _drop,
    "repeat": _repeat,
    "number": _number,
}


def mutate(data: bytes, seed: int, name: str = "") -> tuple[str, bytes]:
    """A kind of mutation and the mutant; the same seed gives the same mutant.

    Args:
        data: the intact file.
        seed: of all choices.
        name: of the file; text has kinds of its own.
    """
    random = np.random.default_rng(seed)
    kinds = MUTATIONS | text_mutations(name)
    kind = str(random.choice(list(kinds)))
    mutant = bytearray(data)
    kinds[kind](mutant, random)
    return kind, bytes(mutant)


def _run(data: bytearray, random: Random) -> tuple[int, int]:
    """From where to where: up to a tenth of the file."""
    length = int(random.integers(1, max(2, len(data) // 10)))
    start = int(random.integers(max(1, len(data) - length)))
    return start, start + length
