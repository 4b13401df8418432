"""Judged candidates of one set → a score of each. Nothing is loaded: all that is needed stands in records.

    Comparison({"surprise": 1.0, "geometry": 0.5}, "rank", compare=comparing).totals(judged)

So a finished set can be compared by another mix of rewards as often as one likes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from wmreward.errors import UsageError
from wmreward.protocols import RewardCurve
from wmreward.rewards.checks import blamed, checked_set
from wmreward.rewards.geometry import SIGNALS, GeometryReward
from wmreward.rewards.world import OF_STRIDE

How = Literal["sum", "rank"]
Compare = Callable[[Tensor], Tensor]
Recorded = Mapping[str, Sequence[float]]
"""A curve as records have it: ``frames``, the places, and the ``values`` there."""
DROWNED = 20
"""A reward whose scores spread so many times as widely as another's leaves it nothing to decide."""
_DIGITS = 6
"""Significant digits of a recorded curve: as many as float32 has."""


@dataclass(frozen=True)
class Judged:
    """What is kept of one candidate.

    Attributes:
        scores: Of each reward that judges by itself.
        parts: What explains them.
        embeddings: ``[D]`` for each reward that compares candidates.
        curves: Of each reward that has one, see :func:`recorded`.
    """

    scores: dict[str, float]
    parts: dict[str, float]
    embeddings: dict[str, Tensor]
    curves: dict[str, Recorded] = field(default_factory=dict)


def recorded(curve: RewardCurve) -> Recorded:
    """The curve of a single video for its record: ``frames``, the places, and the ``values`` there."""
    values = [float(f"{value:.{_DIGITS}g}") for value in curve.values[0].tolist()]
    return {"frames": list(curve.places), "values": values}


def in_source(curves: Mapping[str, Recorded], indices: Sequence[int]) -> dict[str, Recorded]:
    """Curves of a sampled video, at frames of its file.

    Args:
        curves: At places among the sampled frames, which may lie between two of them.
        indices: Frame number in the file of each sampled frame.
    """
    sampled = np.arange(len(indices))
    return {
        name: {**curve, "frames": np.interp(curve["frames"], sampled, indices).tolist()}
        for name, curve in curves.items()
    }


class Comparison:
    """How a set of candidates is compared.

    Args:
        weights: Of each reward; the order is that of tables.
        how: ``sum``: weighted scores are added. ``rank``: the weighted ranks of the candidates are, so that
            rewards of any scale mix.
        compare: How a reward of this name compares embeddings: ``[N, D]`` → scores ``[N]``. It is looked up
            where candidates have embeddings of it.
    """

    def __init__(
        self,
        weights: Mapping[str, float],
        how: How = "sum",
        *,
        compare: Callable[[str], Compare],
    ) -> None:
        if how not in get_args(How):
            raise UsageError(f"rewards are combined by {' or '.join(get_args(How))}, not {how!r}")
        self.weights, self.how, self.compare = dict(weights), how, compare

    def totals(self, candidates: Sequence[Judged]) -> Tensor:
        """Scores ``[N]`` of a set of candidates; the highest is the winner."""
        total = torch.zeros(len(candidates), dtype=torch.float64)
        for name, scores in self.table(candidates).items():
            values = ranks(scores) if self.how == "rank" else scores
            total += self.weights[name] * values
        return total

    def table(self, candidates: Sequence[Judged]) -> dict[str, Tensor]:
        """Scores ``[N]`` of every reward, those that compare candidates included.

        Raises:
            UsageError: candidates of different lengths cannot be compared.
        """
        return {name: self._scores(name, candidates).double() for name in self.weights}

    def _scores(self, name: str, candidates: Sequence[Judged]) -> Tensor:
        if any(name in candidate.embeddings for candidate in candidates):
            embeddings = [c.embeddings[name] for c in candidates]
            if len({embedding.shape for embedding in embeddings}) > 1:
                raise UsageError(f"reward {name!r} compares videos of equal length only")
            compare = self.compare(name)
            with blamed(name, compare):
                compared = compare(torch.stack(embeddings))
            return checked_set(name, compared, len(candidates)).cpu()
        scores = torch.tensor([c.scores[name] for c in candidates], dtype=torch.float64)
        if name == GeometryReward.name:
            return self._by_signals(name, scores, candidates)
        return self._by_strides(name, scores, candidates)

    def _by_signals(self, name: str, alone: Tensor, candidates: Sequence[Judged]) -> Tensor:
        """The mean rank by five signals, from 0 (last by all) to 1 (first by all).

        They differ in unit and spread, so their values cannot be added. Of a single candidate, which has no
        rank, it is the score alone.
        """
        if len(candidates) < 2:
            return alone
        places = [ranks(-_part(candidates, f"{name}.{signal}")) for signal in SIGNALS]
        return torch.stack(places).mean(dim=0) / (len(candidates) - 1)

    def _by_strides(self, name: str, scores: Tensor, candidates: Sequence[Judged]) -> Tensor:
        """Scores of a reward that judges by itself; of several frame strides each counts alike.

        The strides differ in how much their surprise varies, so in a plain mean one would decide. By sum,
        each is scaled to their mean standard deviation over the candidates; by rank, their ranks are added.
        Two candidates have no spread but their difference: where strides disagree both would be equal, so
        the plain mean decides.
        """
        if len(candidates) < 3:
            return scores
        prefix = f"{name}.{OF_STRIDE}"
        parts = [{key for key in c.parts if key.startswith(prefix)} for c in candidates]
        if not parts[0] or any(own != parts[0] for own in parts):
            return scores
        by_stride = torch.stack([-_part(candidates, key) for key in sorted(parts[0])])
        if self.how == "rank":
            return torch.stack([ranks(stride) for stride in by_stride]).mean(dim=0)
        centred = by_stride - by_stride.mean(dim=1, keepdim=True)
        spread = centred.square().mean(dim=1, keepdim=True).sqrt()
        even = centred / spread.clamp_min(torch.finfo(torch.float64).tiny) * spread.mean()
        return scores.mean() + even.mean(dim=0)


def sums_evenly(weights: Mapping[str, float], how: How) -> bool:
    """Whether rewards are added as they are, with weights of nobody's asking: then one may drown another."""
    return how == "sum" and all(weight == 1 for weight in weights.values())


def drowned(table: Mapping[str, Sequence[float]]) -> tuple[list[str], list[str]]:
    """Rewards that decide a sum with the weight 1 for each, and those that hardly count in it.

    Args:
        table: Scores of every reward, ``[N]`` each. One by which all candidates are equal counts as neither.

    Returns:
        The names of both; all that count decide where none spreads far more widely than another.
    """
    spread = {name: max(values) - min(values) for name, values in table.items()}
    widest = max(spread.values())
    small = [name for name, own in spread.items() if 0 < own * DROWNED < widest]
    return [name for name, own in spread.items() if own > 0 and name not in small], small


def ranks(scores: Tensor) -> Tensor:
    """Rank of each, 0 for the lowest; equal scores share the mean of their ranks."""
    below = (scores[:, None] > scores).sum(dim=1)
    equal = (scores[:, None] == scores).sum(dim=1)
    return (below + (equal - 1) / 2).double()


def _part(candidates: Sequence[Judged], key: str) -> Tensor:
    return torch.tensor([c.parts[key] for c in candidates], dtype=torch.float64)
