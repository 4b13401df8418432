"""The path of a video, from a file or a tensor to its result; see `VideoScorer.score_clips`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from vjepa2 import VJEPA2
from vjepa2.preprocess import from_uint8
from wmreward.errors import UsageError, VideoError
from wmreward.surprise.actions.motion import Motion
from wmreward.surprise.actions.scorer import ActionScorer
from wmreward.surprise.aggregate import WindowScores
from wmreward.surprise.config import SurpriseConfig
from wmreward.surprise.inputs import tensor_of
from wmreward.surprise.models import LoadedModel, ModelChoice, load
from wmreward.surprise.models.seen import seen_by
from wmreward.surprise.result import Clock, SurpriseBatch, SurpriseResult, results_of
from wmreward.surprise.sampling import Sampling
from wmreward.surprise.scorer import SurpriseScorer
from wmreward.surprise.windows import Layout
from wmreward.version import versions
from wmreward.video_io import Clip, Reduction


class ScoresWindows(Protocol):
    """The middle of the path: preprocess → windows → latents → surprise, by the rule of one kind of model."""

    @property
    def layout(self) -> Layout: ...

    def score(self, video: Tensor) -> tuple[Tensor, WindowScores]:
        """Videos ``[B, 3, T, H, W]`` in [−1, 1] → ``[B]``, and the windows that it comes from."""
        ...

    def score_parts(self, parts: Iterable[Tensor]) -> WindowScores:
        """The windows of one video ``[1, 3, t, H, W]`` that arrives in parts."""
        ...


class VideoScorer:
    """A world model with fixed settings, for many videos.

    Args:
        choice: The model.
        config: The surprise.
        sampling: Which frames of a file are used; ``vitgac`` always takes its own 4 a second.
        batch_size: Windows per forward pass.
    """

    def __init__(
        self,
        choice: ModelChoice,
        config: SurpriseConfig,
        sampling: Sampling | None = None,
        *,
        batch_size: int | None = None,
    ) -> None:
        choice.check_comparison(config)
        self.loaded: LoadedModel = load(choice)
        self.config = config
        model = self.loaded.model
        if batch_size is not None and batch_size < 1:
            raise UsageError(f"batch_size={batch_size} must be at least 1")
        self.batch_size = batch_size or (32 if model.device.type == "cuda" else 4)
        self.sampling = sampling or Sampling()
        self.scorer: SurpriseScorer | ActionScorer
        if isinstance(model, VJEPA2) and model.config.action_conditioned:
            self.scorer = ActionScorer(model, config)
            self.sampling = ActionScorer.sampling
        else:
            self.scorer = SurpriseScorer(model, config, batch_size=self.batch_size)

    @torch.no_grad()
    def score_clips(
        self, clips: Iterable[Clip], name: Path, motion: Motion | None = None
    ) -> SurpriseResult:
        """Score one video that arrives in parts; memory is bounded by the size of a part.

        Args:
            clips: Its frames, whole or what :meth:`reduction` leaves of them.
            name: The file that messages speak of.
            motion: What was done in it, for a model that knows actions.

        Raises:
            VideoError: it cannot be read, or is too short for the settings.
        """
        scorer, clock = self._scorer(motion), Clock()
        try:
            scores = scorer.score_parts(
                self._on_device(tensor_of(clip)[None]) for clip in clock.noting(clips)
            )
            score = scores.pooled(self.config.mode)
        except UsageError as error:
            raise VideoError(name, str(error)) from None
        return results_of(score, scores, scorer.layout, clock, self.settings, name)[0]

    def score_tensor(self, video: Tensor, motion: Motion | None = None) -> SurpriseBatch:
        """Score ``[B, 3, T, H, W]``, uint8 or in [−1, 1]; differentiable if it requires gradients."""
        scorer = self._scorer(motion)
        with torch.set_grad_enabled(video.requires_grad and torch.is_grad_enabled()):
            score, scores = scorer.score(self._on_device(video))
        return results_of(
            score, scores, scorer.layout, Clock.unknown(video.shape[2]), self.settings
        )

    def reduction(self) -> Reduction:
        """What is kept of each frame while a video is decoded, see `seen_by`."""
        model = self.loaded.model
        return seen_by(model.config.crop, model.device)

    @property
    def settings(self) -> dict[str, Any]:
        """Everything that determines a score, as it is recorded beside it."""
        return {
            **self.loaded.settings,
            **self.config.to_json(),
            "frame_strides": list(self.config.frame_strides),
            "sampling": asdict(self.sampling),
            "versions": versions(),
        }

    def _scorer(self, motion: Motion | None) -> ScoresWindows:
        """The branch: a model that knows actions needs those of the video, others take none."""
        if isinstance(self.scorer, ActionScorer):
            return self.scorer.given(motion)
        if motion is not None:
            name = self.loaded.model.config.name
            raise UsageError(f"model {name!r} takes no actions; use vitgac")
        return self.scorer

    def _on_device(self, video: Tensor) -> Tensor:
        """``[B, 3, T, H, W]``, uint8 or in [−1, 1], on any device → in [−1, 1] on the model's."""
        model = self.loaded.model
        video = video.to(model.device, non_blocking=True)
        return from_uint8(video, model.config.crop) if video.dtype == torch.uint8 else video
