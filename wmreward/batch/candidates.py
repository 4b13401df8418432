"""What a run is made of: candidates, and that which makes them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from wmreward.prompts.jobs import BatchJob


@dataclass(frozen=True)
class Candidate:
    """One video to make.

    Attributes:
        job: What it shows.
        variant: How it is made, such as ``plain`` or ``guided``.
        seed: Of its noise.
    """

    job: BatchJob
    variant: str
    seed: int

    @property
    def name(self) -> str:
        """Of its folder; unique in a run."""
        return f"{self.job.id}.{self.variant}.{self.seed}"


class Unfit(Exception):
    """The process cannot make any more and has to be started again, as after an error on its GPU."""


class Maker(Protocol):
    """Makes candidates, one after the other, with models that stay loaded."""

    def __call__(self, candidate: Candidate, folder: Path) -> dict[str, Any]:
        """Make a candidate's files.

        Called on every process of those that share the candidate; the first of them writes.

        Args:
            candidate: What to make.
            folder: Where the files go. Hidden ones (``.name``) are for the maker: an attempt that was
                interrupted finds there again what it left, and they are gone in the end.

        Returns:
            What the manifest is to say beside what the runner knows, as JSON has it: ``score``,
            ``guidance``, ``peak_memory_bytes``, …

        Raises:
            Unfit: this candidate failed, and so will all others in this process.
            Exception: this candidate failed.
        """
        ...


def candidates_of(jobs: Iterable[BatchJob], variants: Sequence[str]) -> list[Candidate]:
    """Every job with every variant and seed."""
    return [
        Candidate(job, variant, seed) for job in jobs for variant in variants for seed in job.seeds
    ]
