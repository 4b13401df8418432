"""Means over jobs with their intervals, and what choosing among more candidates brings."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wmreward.report.run_data import Entry, best, first
from wmreward.tables.mean import Mean


@dataclass(frozen=True)
class Group:
    """Scores of some jobs.

    Attributes:
        single: By variant, of each job's first seed: what one gets without choosing.
        chosen: Of each job's best candidate.
        gain: Of the best candidate over the first seed of the first variant, job by job.
        most: Candidates that a job was chosen from, at most.
    """

    single: dict[str, Mean | None]
    chosen: Mean | None
    gain: Mean | None
    most: int

    @classmethod
    def of(cls, jobs: Iterable[Sequence[Entry]], variants: Sequence[str]) -> Group:
        """From the candidates of each job."""
        single: dict[str, list[float]] = {variant: [] for variant in variants}
        chosen: list[float] = []
        gains: list[float] = []
        most = 0
        for entries in jobs:
            most = max(most, sum(entry.score is not None for entry in entries))
            scores = {name: _score(first(entries, name)) for name in variants}
            for name, score in scores.items():
                if score is not None:
                    single[name].append(score)
            if (top := _score(best(entries))) is None:
                continue
            chosen.append(top)
            if (base := scores[variants[0]]) is not None:
                gains.append(top - base)
        means = {name: Mean.of(values) for name, values in single.items()}
        return cls(means, Mean.of(chosen), Mean.of(gains), most)


def _score(entry: Entry | None) -> float | None:
    return None if entry is None else entry.score


def best_of_n(jobs: Iterable[Sequence[Entry]], variant: str) -> list[float]:
    """Expected score of the best of n = 1, 2, … candidates of a variant, mean over jobs.

    Over all subsets of size n: of N scores in rising order, the i-th is the largest of a subset with
    probability C(i−1, n−1) / C(N, n). n goes as far as every job has candidates.
    """
    scores = [
        np.sort([e.score for e in entries if e.variant == variant and e.score is not None])
        for entries in jobs
    ]
    scores = [values for values in scores if len(values)]
    least = min(map(len, scores), default=0)
    return [
        float(np.mean([_weights(len(values), n) @ values for values in scores]))
        for n in range(1, least + 1)
    ]


def _weights(count: int, n: int) -> NDArray[np.float64]:
    return np.array([math.comb(i - 1, n - 1) / math.comb(count, n) for i in range(1, count + 1)])


def paired(ours: dict[str, float], theirs: dict[str, float]) -> Mean | None:
    """Mean difference over what both have a number for."""
    return Mean.of([ours[name] - theirs[name] for name in ours if name in theirs])


def ranks(entries: Sequence[Entry]) -> dict[str, int]:
    """Rank of each judged candidate within its job, by name; the best is 1, equal ones in their order."""
    judged = [entry for entry in entries if entry.score is not None]
    ordered = sorted(judged, key=lambda entry: -(entry.score or 0.0))
    return {entry.name: rank for rank, entry in enumerate(ordered, 1)}
