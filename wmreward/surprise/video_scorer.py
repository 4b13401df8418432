"""The path of a video, from a file or a tensor to its result; see `VideoScorer.score_clips`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

import vjepa2
from vjepa2.preprocess import from_uint8
from wmreward.errors import UsageError, VideoError, named
from wmreward.protocols import WorldModel
from wmreward.surprise.actions.motion import Motion, check_given
from wmreward.surprise.actions.scorer import ActionScorer
from wmreward.surprise.aggregate import WindowScores
from wmreward.surprise.config import SurpriseConfig
from wmreward.surprise.models import ModelChoice, load, taken
from wmreward.surprise.reduce import seen_by, tensor_of
from wmreward.surprise.result import Clock, SurpriseBatch, SurpriseResult, results_of
from wmreward.surprise.sampling import Sampling
from wmreward.surprise.scorer import SurpriseScorer
from wmreward.surprise.windows import Layout
from wmreward.version import versions
from wmreward.video_io import Clip, Reduction

_WHOLE_FRAMES = 8
"""Whole frames at once as floats."""


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
        model: Which model, or a world model of your own, which is taken as it is.
        config: The surprise.
        sampling: Which frames of a file are used; ``vitgac`` always takes its own 4 a second.
        batch_size: Windows per forward pass.
    """

    def __init__(
        self,
        model: ModelChoice | WorldModel,
        config: SurpriseConfig,
        sampling: Sampling | None = None,
        *,
        batch_size: int | None = None,
    ) -> None:
        if isinstance(model, ModelChoice):
            model.check(config)
            self.loaded = load(model)
        else:
            self.loaded = taken(model)
        self.config = config
        if batch_size is not None and not (isinstance(batch_size, int) and batch_size > 0):
            raise UsageError(f"{named('batch_size', batch_size)} must be a whole number from 1 on")
        network = self.loaded.model
        self.batch_size = batch_size or (32 if network.device.type == "cuda" else 4)
        self.sampling = sampling or Sampling()
        self.scorer: SurpriseScorer | ActionScorer
        if isinstance(network, vjepa2.VJEPA2) and network.config.action_conditioned:
            self.scorer = ActionScorer(network, config)
            self.sampling = ActionScorer.sampling
        else:
            config.check_whole(network.config.tubelet, network.config.name)
            self.scorer = SurpriseScorer(network, config, batch_size=self.batch_size)

    def score_file(self, path: Path, motion: Motion | None = None) -> SurpriseResult:
        """Score a file or a folder of images; see :meth:`score_clips`."""
        return self.score_clips(self.sampling.clips(path, self.reduction()), path, motion)

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
            scores = scorer.score_parts(self._parts(clock.noting(clips)))
            score = scores.pooled(self.config.mode)
        except UsageError as error:
            raise VideoError(name, str(error)) from None
        return results_of(score, scores, scorer.layout, clock, self.settings, name)[0]

    def score_tensor(self, video: Tensor, motion: Motion | None = None) -> SurpriseBatch:
        """Score ``[B, 3, T, H, W]``, uint8 or in [−1, 1]; differentiable if it requires gradients."""
        scorer = self._scorer(motion)
        with torch.set_grad_enabled(video.requires_grad and torch.is_grad_enabled()):
            score, scores = scorer.score(self._in_range(video))
        return results_of(
            score, scores, scorer.layout, Clock.unknown(video.shape[2]), self.settings
        )

    def reduction(self) -> Reduction | None:
        """What is kept of each frame while a video is decoded, see `seen_by`; None: whole frames."""
        model = self.loaded.model
        if not isinstance(model, vjepa2.WorldModel):
            return None
        return seen_by(model.config.crop, model.device)

    @property
    def settings(self) -> dict[str, Any]:
        """Everything that determines a score, as it is recorded beside it."""
        return {
            **self.loaded.settings,
            **self.config.to_json(),
            "frame_strides": list(self.config.frame_strides),
            "sampling": self.sampling.to_json(),
            "versions": versions(),
        }

    def _scorer(self, motion: Motion | None) -> ScoresWindows:
        """The branch: a model that knows actions needs those of the video, others take none."""
        acts = isinstance(self.scorer, ActionScorer)
        check_given(motion, acts, self.loaded.model.config.name)
        if isinstance(self.scorer, ActionScorer) and motion is not None:
            return self.scorer.given(motion)
        return self.scorer

    def _parts(self, clips: Iterable[Clip]) -> Iterator[Tensor]:
        """``[1, 3, t, H, W]`` in [−1, 1] of clips; few whole frames at once stand in memory as floats."""
        for clip in clips:
            video = tensor_of(clip)[None]
            at_once = _WHOLE_FRAMES if video.dtype == torch.uint8 else video.shape[2]
            yield from map(self._in_range, video.split(at_once, dim=2))

    def _in_range(self, video: Tensor) -> Tensor:
        """``[B, 3, T, H, W]``, uint8 or in [−1, 1], on any device → in [−1, 1] on the model's."""
        model = self.loaded.model
        video = video.to(model.device, non_blocking=True)
        if video.dtype != torch.uint8:
            return video
        if isinstance(model, vjepa2.WorldModel):
            return from_uint8(video, model.config.crop)
        return video.float() / 127.5 - 1  # a model that is not ours resizes in its own way
