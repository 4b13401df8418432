"""Judges the candidates of a batch, and keeps the surprise of every window that a score is made of."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from wmreward.generation.steering import LoadedRewards, LoadedSteering
from wmreward.protocols import VideoFacts
from wmreward.rewards.compare import Judged
from wmreward.rewards.mix import RewardMix
from wmreward.rewards.world import SurpriseReward
from wmreward.search.best_of_n import FileJudge
from wmreward.surprise.aggregate import WindowScores
from wmreward.surprise.scorer import SurpriseScorer
from wmreward.surprise.windows import Window
from wmweights import write_state

EMBEDDINGS = "embeddings.safetensors"
DIGITS = 6
"""Significant digits of recorded surprises: as many as float32 has. More would double the manifest."""


@dataclass(frozen=True)
class JudgedWindows(Judged):
    """What is kept of one candidate, and of its windows.

    Attributes:
        per_window: Surprise of each window, from the forward passes of the score.
        windows: Where they lie, in frames of the video that was judged: ``starts`` of all of them, the
            first predicted frame from there (``target``), and their length (``size``), both in frames of a
            window; ``frame_strides`` of all of them where not every frame of the video is one of the window.
    """

    per_window: list[float] = field(default_factory=list)
    windows: Mapping[str, Any] = field(default_factory=dict)

    def facts(self, given: int) -> dict[str, Any]:
        """For a record, where the first ``given`` frames that were judged are not in the video's file.

        Frames are counted from the first one of the file, so that windows may start below 0.
        """
        starts = [start - given for start in self.windows["starts"]]
        return {"per_window": self.per_window, "windows": {**self.windows, "starts": starts}}


class BatchRewards(LoadedRewards):
    """Rewards whose judgement also tells of windows, where a surprise is among them."""

    def verdict(self, video: Path, prompt: str, given: Tensor | None = None) -> dict[str, Any]:
        """What the manifest says of a video file, judged as what follows ``given`` frames.

        Embeddings go into a file beside it.

        Raises:
            VideoError: it cannot be read or is too short.
        """
        judged = FileJudge(self, self.device, before=given, prompt=prompt)(video)
        if judged.embeddings:
            write_state(judged.embeddings, video.with_name(EMBEDDINGS))
        facts: dict[str, Any] = {"scores": judged.scores, "parts": judged.parts}
        if isinstance(judged, JudgedWindows):
            facts |= judged.facts(0 if given is None else len(given))
        if judged.scores:
            weights = self.mix.weights
            facts["score"] = sum(weights[name] * score for name, score in judged.scores.items())
        return facts

    def judge(
        self,
        video: Tensor,
        facts: VideoFacts | None = None,
        only: Collection[str] | None = None,
    ) -> Judged:
        rewards = self.mix.rewards
        found = [(n, reward) for n, reward in rewards.items() if isinstance(reward, SurpriseReward)]
        if not found:
            return super().judge(video, facts, only)
        name, surprise = found[0]
        keeping, scorer = copy(surprise), _Keeping(surprise.scorer)
        keeping.scorer = scorer
        with self._visiting.here():
            kept = RewardMix({**rewards, name: keeping}, self.mix.weights)
            judged = kept.judge(video, facts, only)
        windows: dict[str, Any] = {
            "starts": [window.start for window in scorer.kept],
            "target": scorer.target_offset,
            "size": scorer.config.window_size,
        }
        if scorer.config.frame_strides != (1,):
            windows["frame_strides"] = [window.frame_stride for window in scorer.kept]
        return JudgedWindows(
            **vars(judged),
            per_window=[float(f"{value:.{DIGITS}g}") for value in scorer.per_window],
            windows=windows,
        )


class BatchSteering(BatchRewards, LoadedSteering):
    """The same, with a guidance for each candidate of MAGI-1."""


class _Keeping(SurpriseScorer):
    """A scorer like another one, which keeps what it says of the windows of a video."""

    def __init__(self, scorer: SurpriseScorer) -> None:
        super().__init__(
            scorer.model,
            scorer.config,
            batch_size=scorer.batch_size,
            grad_batch_size=scorer.grad_batch_size,
        )
        self.per_window: list[float] = []
        self.kept: Sequence[Window] = ()

    def score_rules(
        self, video: Tensor, windows: Sequence[Window] | None = None
    ) -> dict[str, WindowScores]:
        rules = super().score_rules(video, windows)
        scores = rules[self.config.score]
        self.per_window, self.kept = scores.values[0].tolist(), scores.windows
        return rules
