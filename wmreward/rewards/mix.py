"""Rewards for videos that a generator makes: surprise, consensus, users' own, and their combinations.

reward = RewardMix.parse(["surprise", "consensus=0.5"], surprise=scorer, how="rank")
judged = [reward.judge(video) for video in candidates]     # one by one, can be stored
totals = reward.totals(judged)                             # of the set; the highest wins
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from wmreward.errors import UsageError, named
from wmreward.factories import find_factory, is_import_path, make
from wmreward.protocols import ContinuationReward, Reward, RewardScores, SetReward
from wmreward.rewards.checks import check_finite, checked, checked_set
from wmreward.rewards.world import OF_STRIDE, Consensus, SeamReward, SurpriseReward
from wmreward.surprise.scorer import SurpriseScorer

How = Literal["sum", "rank"]


@dataclass(frozen=True)
class Judged:
    """What is kept of one candidate.

    Attributes:
        scores: Of each reward that judges by itself.
        parts: What explains them.
        embeddings: ``[D]`` for each reward that compares candidates.
    """

    scores: dict[str, float]
    parts: dict[str, float]
    embeddings: dict[str, Tensor]


OWN: dict[str, Callable[[SurpriseScorer], Reward | SetReward]] = {
    reward.name: reward for reward in (SurpriseReward, SeamReward, Consensus)
}
"""Rewards of the world model, by name."""


def parse_weights(entries: Sequence[str]) -> dict[str, float]:
    """Names and weights of ``NAME[=WEIGHT]``; what is to be imported is looked up, but not made.

    Raises:
        UsageError: see :meth:`RewardMix.parse`.
    """
    weights: dict[str, float] = {}
    for entry in entries:
        name, equals, number = entry.partition("=")
        if name in weights:
            raise UsageError(f"reward {name!r} is given twice")
        if name not in OWN:
            if not is_import_path(name):
                raise UsageError(
                    f"unknown reward {name!r}: use {', '.join(OWN)} or package.module:factory"
                )
            find_factory(name, "reward")
        weights[name] = _weight(entry, number) if equals else 1.0
    return weights


class RewardMix:
    """Rewards with weights.

    Args:
        rewards: By name; the order is that of tables.
        weights: Of each.
        how: ``sum``: weighted scores are added, differentiable if every reward is. ``rank``: the weighted
            ranks of the candidates are, so that rewards of any scale mix; needs a set.
    """

    def __init__(
        self,
        rewards: Mapping[str, Reward | SetReward],
        weights: Mapping[str, float],
        how: How = "sum",
    ) -> None:
        if not rewards:
            raise UsageError("no reward is given")
        if how not in get_args(How):
            raise UsageError(f"rewards are combined by {' or '.join(get_args(How))}, not {how!r}")
        self.rewards, self.weights, self.how = dict(rewards), dict(weights), how

    @classmethod
    def parse(
        cls, entries: Sequence[str], *, surprise: SurpriseScorer | None = None, how: How = "sum"
    ) -> RewardMix:
        """From a command line: ``surprise``, ``consensus`` or ``package.module:factory``, each with an
        optional ``=weight``. A factory takes no arguments and returns a reward. ``surprise`` is the scorer
        of the first two, where they are asked for.

        Raises:
            UsageError: an unknown name, a factory that cannot be imported or returns something else, a
                weight that is no number, a name given twice.
        """
        weights = parse_weights(entries)
        rewards: dict[str, Reward | SetReward] = {}
        for name in weights:
            if name in OWN:
                assert surprise is not None, "the world model's rewards need a scorer"
                rewards[name] = OWN[name](surprise)
            else:
                rewards[name] = _made(name)
        return cls(rewards, weights, how)

    @property
    def differentiable(self) -> bool:
        """Whether the weighted sum can guide: every reward judges by itself and passes gradients."""
        return all(getattr(reward, "differentiable", False) for reward in self.rewards.values())

    @property
    def min_frames(self) -> int:
        """Frames of the shortest video that all of them can judge, as far as they say."""
        return max(getattr(reward, "min_frames", 1) for reward in self.rewards.values())

    def judging(self) -> RewardMix:
        """Those of them that judge videos one by one, added up.

        Raises:
            UsageError: none does.
        """
        return self._only("judge a single video", callable)

    def guiding(self) -> RewardMix:
        """Those of them that can guide, added up.

        Raises:
            UsageError: none can.
        """
        return self._only(
            f"guide ({named('scale', 0, flag='guidance_scale')} goes without)",
            lambda reward: callable(reward) and getattr(reward, "differentiable", False),
        )

    def _only(self, what: str, able: Callable[[Reward | SetReward], bool]) -> RewardMix:
        chosen = {name: reward for name, reward in self.rewards.items() if able(reward)}
        if not chosen:
            raise UsageError(f"none of the rewards {', '.join(self.rewards)} can {what}")
        return RewardMix(chosen, {name: self.weights[name] for name in chosen})

    def __call__(self, videos: Tensor) -> RewardScores:
        """The weighted sum over videos ``[B, 3, T, H, W]``, for guidance.

        Raises:
            UsageError: a reward that compares candidates cannot judge one video.
        """
        total, parts = torch.zeros((), device=videos.device), {}
        for name, reward in self.rewards.items():
            if not callable(reward):
                raise UsageError(f"reward {name!r} compares candidates: it cannot guide")
            scores, own = checked(name, reward, reward(videos), videos)
            total = total + self.weights[name] * scores
            parts.update({f"{name}.{part}": value for part, value in own.items()})
        return RewardScores(total, parts)

    @torch.no_grad()
    def judge(self, video: Tensor, given: int = 0) -> Judged:
        """One candidate, ``[3, T, H, W]`` in [−1, 1], of which the first ``given`` frames were given."""
        scores, parts, embeddings = {}, {}, {}
        for name, reward in self.rewards.items():
            if callable(reward):
                if isinstance(reward, ContinuationReward):
                    found = reward.after(video[None], given)
                else:
                    found = reward(video[None])
                judged = checked(name, reward, found, video[None])
                scores[name] = judged.scores[0].item()
                parts.update({f"{name}.{k}": v[0].item() for k, v in judged.parts.items()})
            else:
                embedding = reward.embed(video[None])[0]
                check_finite(name, reward, embedding, video, "an embedding with ")
                embeddings[name] = embedding.cpu()
        return Judged(scores, parts, embeddings)

    def totals(self, candidates: Sequence[Judged]) -> Tensor:
        """Scores ``[N]`` of a set of candidates; the highest is the winner."""
        total = torch.zeros(len(candidates), dtype=torch.float64)
        for name, scores in self.table(candidates).items():
            values = _ranks(scores) if self.how == "rank" else scores
            total += self.weights[name] * values
        return total

    def table(self, candidates: Sequence[Judged]) -> dict[str, Tensor]:
        """Scores ``[N]`` of every reward, those that compare candidates included.

        Raises:
            UsageError: candidates of different lengths cannot be compared.
        """
        out = {}
        for name, reward in self.rewards.items():
            if callable(reward):
                scores = self._of_single(name, candidates)
            else:
                embeddings = [c.embeddings[name] for c in candidates]
                if len({embedding.shape for embedding in embeddings}) > 1:
                    raise UsageError(f"reward {name!r} compares videos of equal length only")
                compared = reward.compare(torch.stack(embeddings))
                scores = checked_set(name, compared, len(candidates)).cpu()
            out[name] = scores.double()
        return out

    def _of_single(self, name: str, candidates: Sequence[Judged]) -> Tensor:
        """Scores ``[N]`` of a reward that judges by itself; of several frame strides each counts alike.

        The strides differ in how much their surprise varies, so in a plain mean one would decide. By sum,
        each is scaled to their mean standard deviation over the candidates; by rank, their ranks are added.
        """
        scores = torch.tensor([c.scores[name] for c in candidates], dtype=torch.float64)
        prefix = f"{name}.{OF_STRIDE}"
        parts = [{key for key in c.parts if key.startswith(prefix)} for c in candidates]
        if not parts[0] or any(own != parts[0] for own in parts):
            return scores
        by_stride = torch.tensor(
            [[-c.parts[key] for c in candidates] for key in sorted(parts[0])], dtype=torch.float64
        )
        if self.how == "rank":
            return torch.stack([_ranks(stride) for stride in by_stride]).mean(dim=0)
        centred = by_stride - by_stride.mean(dim=1, keepdim=True)
        spread = centred.square().mean(dim=1, keepdim=True).sqrt()
        even = centred / spread.clamp_min(torch.finfo(torch.float64).tiny) * spread.mean()
        return scores.mean() + even.mean(dim=0)


def _ranks(scores: Tensor) -> Tensor:
    """Rank of each, 0 for the lowest; equal scores share the mean of their ranks."""
    below = (scores[:, None] > scores).sum(dim=1)
    equal = (scores[:, None] == scores).sum(dim=1)
    return (below + (equal - 1) / 2).double()


def _weight(entry: str, number: str) -> float:
    try:
        weight = float(number)
    except ValueError:
        weight = math.nan
    if not math.isfinite(weight):
        raise UsageError(f"reward {entry!r}: {number!r} is not a weight")
    return weight


def _made(path: str) -> Reward | SetReward:
    made = make(path, "reward")
    if not callable(made) and not (hasattr(made, "embed") and hasattr(made, "compare")):
        raise UsageError(
            f"reward {path!r} is a {type(made).__name__}, which can neither judge videos nor compare them"
        )
    reward: Reward | SetReward = made
    return reward
