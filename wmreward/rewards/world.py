"""Rewards of a world model: surprise, surprise where given frames end, nearness to other candidates.

Also the nearness in the space of another encoder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from wmreward.protocols import RewardCurve, RewardScores, VideoFacts
from wmreward.rewards.features import Trajectory
from wmreward.rewards.names import CONSENSUS, SEAM, SURPRISE
from wmreward.surprise.aggregate import WindowScores, aggregate
from wmreward.surprise.rules import reach
from wmreward.surprise.scorer import SurpriseScorer
from wmreward.surprise.tokens import normalised
from wmreward.surprise.windows import Window, cut_windows

OF_STRIDE = "frame_stride_"
"""Parts of this name are the surprise at one of several frame strides."""


class SurpriseReward:
    """The negative surprise of a world model: plausible videos score high.

    Args:
        scorer: World model, windows and rule.

    The parts are the surprise by every rule and what copying the last context latent would get
    (how much really changed), from the same forward passes.
    """

    name = SURPRISE
    differentiable = True

    def __init__(self, scorer: SurpriseScorer) -> None:
        self.scorer = scorer

    @property
    def network(self) -> object:
        """What judges; a module unless it is somebody else's world model."""
        return self.scorer.model

    @property
    def min_frames(self) -> int:
        """Frames of the shortest video that it can judge."""
        return self.scorer.config.min_frames

    def __call__(self, videos: Tensor) -> RewardScores:
        """``[B, 3, T, H, W]`` in [−1, 1]; raises ``UsageError`` for videos shorter than a window."""
        return self._of(videos, None)

    def windows(
        self, videos: Tensor, which: Sequence[Window] | None = None
    ) -> Mapping[str, WindowScores]:
        """Per window and per token, by every rule and for the copy; of all windows, or of some."""
        with torch.no_grad():
            return self.scorer.score_rules(videos, which)

    def _of(self, videos: Tensor, which: Sequence[Window] | None) -> RewardScores:
        """By all windows of the videos, or by the mean of some."""
        if videos.requires_grad and torch.is_grad_enabled():
            surprise = self.scorer.score(videos, which)[0]
            return RewardScores(-surprise, {"surprise": surprise.detach()})
        windows = self.windows(videos, which)
        mode = self.scorer.config.mode if which is None else "mean"
        parts = {name: scores.pooled(mode) for name, scores in windows.items()}
        rule = self.scorer.config.score
        strides = windows[rule].by_stride()
        if len(strides) > 1:
            parts |= {f"{OF_STRIDE}{step}": aggregate(v, mode) for step, v in strides.items()}
        over_time = RewardCurve(
            windows[rule].values, [self._place(w) for w in windows[rule].windows]
        )
        return RewardScores(-parts[rule], {"surprise": parts[rule], **parts}, over_time)

    def _place(self, window: Window) -> float:
        """The middle of what a window predicts."""
        predicted = self.scorer.target_offset, self.scorer.config.window_size - 1
        return window.start + window.frame_stride * sum(predicted) / 2


class SeamReward(SurpriseReward):
    """Surprise of the windows whose context was given and whose future is new.

    Only there is what the model expects known to follow from the truth; further on, what a video has got
    wrong is consistent with itself. There is one such window for each phase of each frame stride; the larger
    the stride, the further it looks. For choosing among continuations of a video; guides as surprise does.
    """

    name = SEAM

    @property
    def min_frames(self) -> int:
        """Those of the smallest frame stride: the others are left out where they do not fit."""
        return self.scorer.config.shortest

    def __call__(self, videos: Tensor) -> RewardScores:
        """Plain surprise of ``[B, 3, T, H, W]`` in [−1, 1], at those frame strides that fit."""
        config, frames = self.scorer.config, videos.shape[2]
        if frames >= config.min_frames or frames < config.shortest:
            return self._of(videos, None)  # raises where nothing fits
        strides = [k for k in config.frame_strides if reach(config.window_size, k) <= frames]
        return self._of(videos, cut_windows(frames, config.window_size, config.stride, strides))

    def told(self, videos: Tensor, facts: VideoFacts) -> RewardScores:
        """The same as :meth:`after` what was given."""
        return self.after(videos, facts.given)

    def after(self, videos: Tensor, given: int) -> RewardScores:
        """``[B, 3, T, H, W]`` in [−1, 1], of which the first ``given`` frames were given.

        Where no such window fits, with fewer given frames than its context, the score is plain surprise.
        """
        which = self.scorer.seam(videos.shape[2], given)
        return self._of(videos, which) if which else self(videos)


class Consensus:
    """How close a candidate is to the others in the world model's latent space: the medoid wins.

    Distance is 1 − cos between normalised latents of the observed futures, averaged over tokens and
    windows; a score is minus the mean distance to the other candidates.
    """

    name = CONSENSUS

    def __init__(self, scorer: SurpriseScorer) -> None:
        self.scorer = scorer

    @property
    def network(self) -> object:
        """What describes videos."""
        return self.scorer.model

    @torch.no_grad()
    def embed(self, videos: Tensor) -> Tensor:
        """A unit vector for every token, ``[B, windows · tokens · features]`` in half precision."""
        latents = self.scorer.observed_latents(videos)  # [B, W, t, n, D]
        return F.normalize(normalised(latents), dim=-1).flatten(1).half()

    def compare(self, embeddings: Tensor) -> Tensor:
        """``[N, D]`` → ``[N]``; see :func:`nearness`."""
        return nearness(embeddings)


class EncoderConsensus(Consensus):
    """The same in the space of another encoder: by the tokens of all pieces of a video."""

    def __init__(self, trajectory: Trajectory) -> None:
        self.trajectory = trajectory

    @property
    def network(self) -> object:
        return self.trajectory.encoder.model

    @torch.no_grad()
    def embed(self, videos: Tensor) -> Tensor:
        """A unit vector for every token, ``[B, pieces · tokens · features]`` in half precision."""
        tokens = self.trajectory.tokens(videos)
        return F.normalize(normalised(tokens), dim=-1).flatten(1).half()


def nearness(embeddings: Tensor) -> Tensor:
    """Minus the mean of 1 − cos between each of ``[N, D]`` and the others, ``[N]``; 0 for a single one."""
    count = len(embeddings)
    if count < 2:
        return torch.zeros(count)
    unit = F.normalize(embeddings.float(), dim=1)
    similar = (unit @ unit.t()).double()
    # Made symmetric: of two, both score exactly the same.
    similar = ((similar + similar.t()) / 2).fill_diagonal_(0)
    return similar.sum(dim=1) / (count - 1) - 1
