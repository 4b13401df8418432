"""A reward without a model, by import path."""

from __future__ import annotations

from torch import Tensor

from wmreward.protocols import RewardScores


class Bright:
    """Prefers bright videos."""

    name, differentiable = "bright", True

    def __call__(self, videos: Tensor) -> RewardScores:
        return RewardScores(videos.mean(dim=(1, 2, 3, 4)), {})


def bright() -> Bright:
    return Bright()
