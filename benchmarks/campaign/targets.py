"""What is attacked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Protocol

TARGETS = {
    "videos": "benchmarks.campaign.videos",
    "lists": "benchmarks.campaign.lists",
    "weights": "benchmarks.campaign.weights",
}
"""Targets by name, and the module of each, which has a function ``target()``."""


@dataclass(frozen=True)
class Sample:
    """An intact input.

    Attributes:
        name: such as "h264.mp4"; its suffix is that of the mutants.
        data: its content.
    """

    name: str
    data: bytes


@dataclass(frozen=True)
class Reading:
    """What a reader made of a file that it did not refuse.

    Attributes:
        content: equal for equal results, such as a hash.
        warning: what the reader said is wrong with the file; None if it had no doubts.
    """

    content: str
    warning: str | None = None


class Target(Protocol):
    """A kind of file and its reader."""

    def samples(self) -> Sequence[Sample]:
        """Intact inputs."""

    def read(self, path: Path) -> Reading:
        """Read a file as the tool does. A refusal is a ``WMRewardError``; all else is a defect."""

    def is_legal(self, path: Path, intact: Reading, found: Reading) -> bool:
        """Whether a mutant that reads otherwise is a sound file, so that no reader can know better.

        The intact file lies at ``../intact/`` beside it.
        """


def load(name: str) -> Target:
    """A target by its name in ``TARGETS``, or by the name of its module."""
    found: Target = import_module(TARGETS.get(name, name)).target()
    return found
