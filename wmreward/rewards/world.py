"""Rewards of a world model: surprise, surprise where given frames end, nearness to other candidates."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from wmreward.errors import UsageError
from wmreward.protocols import RewardScores
from wmreward.surprise.aggregate import aggregate
from wmreward.surprise.scorer import SurpriseScorer, WindowScores
from wmreward.surprise.tokens import normalised


class SurpriseReward:
    """The negative surprise of a world model: plausible videos score high.

    Args:
        scorer: World model, windows and rule.

    The parts are the surprise by every rule and what copying the last context latent would get
    (how much really changed), from the same forward passes.
    """

    name = "surprise"
    differentiable = True

    def __init__(self, scorer: SurpriseScorer) -> None:
        self.scorer = scorer

    def __call__(self, videos: Tensor) -> RewardScores:
        """``[B, 3, T, H, W]`` in [−1, 1]; raises ``UsageError`` for videos shorter than a window."""
        if videos.requires_grad and torch.is_grad_enabled():
            surprise = self.scorer(videos)
            return RewardScores(-surprise, {"surprise": surprise.detach()})
        parts = self._parts(self.windows(videos))
        surprise = parts[self.scorer.config.score]
        return RewardScores(-surprise, {"surprise": surprise, **parts})

    def windows(self, videos: Tensor) -> Mapping[str, WindowScores]:
        """Per window and per token, by every rule and for the copy."""
        with torch.no_grad():
            return self.scorer.score_rules(videos)

    def _parts(self, windows: Mapping[str, WindowScores]) -> dict[str, Tensor]:
        mode = self.scorer.config.mode
        return {name: aggregate(scores.values, mode) for name, scores in windows.items()}


class SeamReward(SurpriseReward):
    """Surprise from the end of the given frames on, half of it that of the one window that is seen in given
    frames and predicted in new ones.

    Only there is what the model expects known to follow from the truth; further on, what a video has got
    wrong is consistent with itself. For choosing among continuations of a video; guides as surprise does.
    """

    name = "seam"

    def after(self, videos: Tensor, given: int) -> RewardScores:
        """``[B, 3, T, H, W]`` in [−1, 1], of which the first ``given`` frames were given.

        With fewer of them than a window's context, the score is plain surprise.
        """
        windows = self.windows(videos)
        parts, config = self._parts(windows), self.scorer.config
        surprise = parts[config.score]
        last = (given - self.scorer.target_offset) // config.stride
        if 0 <= last < (values := windows[config.score].values).shape[1]:
            surprise = (_pooled(values[:, last:], config.mode) + values[:, last]) / 2
        return RewardScores(-surprise, {"surprise": surprise, **parts})


def _pooled(later: Tensor, mode: str) -> Tensor:
    """Surprise of some of a video's windows by a mode that all of them satisfy."""
    try:
        return aggregate(later, mode)
    except UsageError:  # fewer than the K of topkK: then it is all of these
        return later.mean(dim=1)


class Consensus:
    """How close a candidate is to the others in the world model's latent space: the medoid wins.

    Distance is 1 − cos between normalised latents of the observed futures, averaged over tokens and
    windows; a score is minus the mean distance to the other candidates.
    """

    name = "consensus"

    def __init__(self, scorer: SurpriseScorer) -> None:
        self.scorer = scorer

    @torch.no_grad()
    def embed(self, videos: Tensor) -> Tensor:
        """A unit vector for every token, ``[B, windows · tokens · features]`` in half precision."""
        latents = self.scorer.observed_latents(videos)  # [B, W, t, n, D]
        return F.normalize(normalised(latents), dim=-1).flatten(1).half()

    def compare(self, embeddings: Tensor) -> Tensor:
        """``[N, D]`` → ``[N]``; a single candidate scores 0."""
        count = len(embeddings)
        if count < 2:
            return torch.zeros(count)
        unit = F.normalize(embeddings.float(), dim=1)
        similar = (unit @ unit.t()).double()
        similar = ((similar + similar.t()) / 2).fill_diagonal_(
            0
        )  # of two, both score exactly the same
        return similar.sum(dim=1) / (count - 1) - 1
