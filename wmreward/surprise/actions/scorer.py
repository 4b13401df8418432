"""Robot videos → surprise of every step: what `SurpriseScorer` is for other models."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from vjepa2.world_model import VJEPA2
from wmreward.errors import UsageError
from wmreward.surprise.actions.motion import STEP_RATE, Motion, check_motion
from wmreward.surprise.actions.surprise import action_surprise
from wmreward.surprise.aggregate import WindowScores
from wmreward.surprise.config import SurpriseConfig
from wmreward.surprise.sampling import Sampling
from wmreward.surprise.windows import Layout, Window


class ActionScorer:
    """The surprise of a model that predicts from what a robot did, as a function of a video.

    A step counts as a window of two frames: from the first and all before it, the second is predicted.

    Args:
        model: ``vitgac``, or any model with an action-conditioned predictor.
        config: ``mode`` and ``context_grad`` have a meaning here.
        motion: Of the videos that are scored.
    """

    sampling = Sampling(fps=STEP_RATE)
    layout = Layout(size=2, target=1, tubelet=1)

    def __init__(self, model: VJEPA2, config: SurpriseConfig, motion: Motion | None = None) -> None:
        if config.similarity != "feature" or config.score != "plain":
            raise UsageError(f"model {model.config.name!r} has only the plain feature surprise")
        self.model, self.config, self.motion = model, config, motion

    def given(self, motion: Motion) -> ActionScorer:
        """The scorer of videos in which this was done."""
        return ActionScorer(self.model, self.config, motion)

    def score(self, video: Tensor) -> tuple[Tensor, WindowScores]:
        """Score ``[B, 3, T, H, W]`` in [−1, 1], a frame for each step; differentiable.

        Raises:
            UsageError: the motion is of another length, or there is none.
        """
        assert self.motion is not None, "given() first"
        check_motion(self.motion, video.shape[2])
        actions, states = (
            side.to(self.model.device)[None].expand(len(video), -1, -1) for side in self.motion
        )
        steps = action_surprise(
            self.model, video, actions, states, context_grad=self.config.context_grad
        )
        scores = WindowScores(
            steps.values, steps.maps, [Window(i) for i in range(video.shape[2] - 1)]
        )
        return scores.pooled(self.config.mode), scores

    def score_parts(self, parts: Iterable[Tensor]) -> WindowScores:
        """One video ``[1, 3, t, H, W]`` that arrives in parts; it is short, and joined."""
        return self.score(torch.cat(list(parts), dim=2))[1]
