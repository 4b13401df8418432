"""Rewards for videos that a generator makes, and their combinations.

reward = RewardMix.parse(["surprise", "consensus=0.5"], surprise=scorer, how="rank")
judged = [reward.judge(video) for video in candidates]     # one by one, can be stored
totals = reward.totals(judged)                             # of the set; the highest wins
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from vjepa2.world_model import WorldModel
from wmreward.errors import UsageError, named
from wmreward.protocols import (
    ContinuationReward,
    InformedReward,
    Reward,
    RewardScores,
    SetReward,
    VideoFacts,
)
from wmreward.rewards.checks import blamed, check_finite, checked, network_of
from wmreward.rewards.compare import Compare, Comparison, How, Judged, recorded
from wmreward.rewards.features import FrameEncoder, Trajectory
from wmreward.rewards.geometry import GeometryReward
from wmreward.rewards.known import AnyReward, Judges
from wmreward.rewards.names import parse_weights
from wmreward.rewards.world import SurpriseReward
from wmreward.surprise.reduce import as_floats, seen_by
from wmreward.surprise.scorer import SurpriseScorer
from wmreward.video_io import Reduction


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
        rewards: Mapping[str, AnyReward],
        weights: Mapping[str, float],
        how: How = "sum",
    ) -> None:
        if not rewards:
            raise UsageError("no reward is given")
        if weights.keys() != rewards.keys():
            raise UsageError(
                f"each reward needs a weight: rewards {', '.join(rewards)}, weights of "
                f"{', '.join(weights) or 'none'}"
            )
        self.rewards, self.weights, self.how = dict(rewards), dict(weights), how
        self.comparison = Comparison(weights, how, compare=self._compare)

    @classmethod
    def parse(
        cls,
        entries: Sequence[str],
        *,
        surprise: SurpriseScorer | None = None,
        encoder: FrameEncoder | None = None,
        how: How = "sum",
    ) -> RewardMix:
        """From a command line: ``surprise``, ``geometry`` … or ``package.module:factory``, each with an
        optional ``=weight``. A factory takes no arguments and returns a reward.

        Args:
            entries: The rewards.
            surprise: The scorer of the world model's rewards, where they are asked for.
            encoder: Whose features geometry and consensus go by; the world model's by default.
            how: As above.

        Raises:
            UsageError: an unknown name, a factory that cannot be imported or returns something else, a
                weight that is no number, a name given twice.
        """
        features = None if encoder is None else Trajectory(encoder)
        return cls.of(parse_weights(entries), Judges(surprise, features), how)

    @classmethod
    def of(cls, weights: Mapping[str, float], judges: Judges, how: How = "sum") -> RewardMix:
        """The rewards of these names; see :meth:`parse`."""
        return cls({name: judges.reward(name) for name in weights}, weights, how)

    @property
    def differentiable(self) -> bool:
        """Whether the weighted sum can guide: every reward judges by itself and passes gradients."""
        return all(getattr(reward, "differentiable", False) for reward in self.rewards.values())

    @property
    def min_frames(self) -> int:
        """Frames of the shortest video that all of them can judge, as far as they say."""
        return max(getattr(reward, "min_frames", 1) for reward in self.rewards.values())

    @property
    def networks(self) -> list[nn.Module]:
        """What rewards of ours judge by, each once."""
        found = [network_of(reward) for reward in self.rewards.values()]
        return list({id(network): network for network in found if network is not None}.values())

    def reduction(self) -> Reduction:
        """What is kept of a frame while a video is decoded for them: what the one V-JEPA that judges sees of
        it, or all of it if something else judges, too."""
        judges = {network_of(reward) for reward in self.rewards.values()}
        model = judges.pop() if len(judges) == 1 else None
        if not isinstance(model, WorldModel):
            return as_floats
        return seen_by(model.config.crop, model.device)

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

    def _compare(self, name: str) -> Compare:
        reward = self.rewards[name]
        assert isinstance(reward, SetReward), f"{name} has made embeddings"
        return reward.compare

    def _only(self, what: str, able: Callable[[AnyReward], bool]) -> RewardMix:
        chosen = {name: reward for name, reward in self.rewards.items() if able(reward)}
        if not chosen:
            raise UsageError(f"none of the rewards {', '.join(self.rewards)} can {what}")
        continues = any(isinstance(reward, ContinuationReward) for reward in chosen.values())
        kind = ContinuationMix if continues else RewardMix
        return kind(chosen, {name: self.weights[name] for name in chosen})

    def __call__(self, videos: Tensor) -> RewardScores:
        """The weighted sum over videos ``[B, 3, T, H, W]``, for guidance.

        Raises:
            UsageError: a reward that judges finished videos only cannot guide.
        """
        return self._summed(videos, None)

    def _summed(self, videos: Tensor, given: int | None) -> RewardScores:
        """Of whole videos, or of those whose first ``given`` frames were given."""
        total, parts = torch.zeros((), device=videos.device), {}
        for name, reward in self.rewards.items():
            if not callable(reward):
                raise UsageError(f"reward {name!r} judges finished videos: it cannot guide")
            with blamed(name, reward, videos):
                found = _after(reward, videos, given) if given is not None else reward(videos)
            own = checked(name, reward, found, videos)
            total = total + self.weights[name] * own.scores
            parts.update({f"{name}.{part}": value for part, value in own.parts.items()})
        return RewardScores(total, parts)

    @torch.no_grad()
    def judge(
        self,
        video: Tensor,
        facts: VideoFacts | None = None,
        only: Collection[str] | None = None,
    ) -> Judged:
        """One candidate.

        Args:
            video: ``[3, T, H, W]`` in [−1, 1].
            facts: What else is known of it.
            only: The rewards that are wanted; all by default.
        """
        scores, parts, embeddings, curves = {}, {}, {}, {}
        for name, reward in self.rewards.items():
            if only is not None and name not in only:
                continue
            one = video[None]
            with blamed(name, reward, one):
                if isinstance(reward, InformedReward):
                    found = reward.told(one, facts or VideoFacts())
                elif callable(reward):
                    found = reward(one)
                else:
                    embedding = reward.embed(one)[0]
                    check_finite(name, reward, embedding, one, "an embedding with ")
                    embeddings[name] = embedding.cpu()
                    continue
            judged = checked(name, reward, found, one)
            scores[name] = judged.scores[0].item()
            parts.update({f"{name}.{k}": v[0].item() for k, v in judged.parts.items()})
            if judged.curve is not None:
                curves[name] = recorded(judged.curve)
        return Judged(scores, parts, embeddings, curves)

    def totals(self, candidates: Sequence[Judged]) -> Tensor:
        """Scores ``[N]`` of a set of candidates; the highest is the winner."""
        return self.comparison.totals(candidates)

    def table(self, candidates: Sequence[Judged]) -> dict[str, Tensor]:
        """Scores ``[N]`` of every reward, those that compare candidates included.

        Raises:
            UsageError: candidates of different lengths cannot be compared.
        """
        return self.comparison.table(candidates)


class ContinuationMix(RewardMix):
    """Rewards of which some want to know where given frames end."""

    def after(self, videos: Tensor, given: int) -> RewardScores:
        """The weighted sum over ``[B, 3, T, H, W]``, of which the first ``given`` frames were given."""
        return self._summed(videos, given)


def _after(reward: Reward, videos: Tensor, given: int) -> RewardScores:
    return reward.after(videos, given) if isinstance(reward, ContinuationReward) else reward(videos)


def cutters_of(rewards: Iterable[object]) -> list[SurpriseScorer | Trajectory]:
    """What cuts videos into pieces to differentiate them, each once: rewards may share it.

    Its ``batch_size`` and ``grad_batch_size`` say how many are worked on at once.
    """
    found: dict[int, SurpriseScorer | Trajectory] = {}
    for reward in rewards:
        if isinstance(reward, SurpriseReward):
            found[id(reward.scorer)] = reward.scorer
        elif isinstance(reward, GeometryReward):
            found[id(reward.trajectory)] = reward.trajectory
    return list(found.values())
