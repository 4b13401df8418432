"""Geometry of features as a choice among candidates: the mean rank by five signals in every set."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from benchmarks.shared.bootstrap import Values
from vjepa2 import WorldModel
from wmreward.rewards.compare import ranks
from wmreward.rewards.encoders import of_world_model
from wmreward.rewards.features import Trajectory
from wmreward.rewards.geometry import SIGNALS, GeometryReward
from wmreward.surprise.scorer import SurpriseScorer


def geometry_of(guiding: SurpriseScorer) -> GeometryReward | None:
    """By the encoder of the world model that guides; None if that is no V-JEPA."""
    if not isinstance(guiding.model, WorldModel):
        return None
    encoder = of_world_model(guiding.model, guiding.config.window_size)
    return GeometryReward(Trajectory(encoder, batch_size=guiding.batch_size))


def geometry_of_sets(
    reward: GeometryReward, videos: Tensor, seeds: int, sizes: Sequence[int]
) -> Values:
    """Scores `geometry@n` [scenes, seeds] of sets of n candidates; more is better.

    Args:
        reward: Of an encoder.
        videos: In [−1, 1], [scenes · seeds, 3, T, H, W].
        seeds: Candidates per scene.
        sizes: Of the sets, which divide them.
    """
    parts = reward(videos).parts
    signals = torch.stack([parts[name].cpu() for name in SIGNALS])
    return {
        f"geometry@{size}": torch.stack(
            [torch.stack([ranks(-signal) for signal in group]).mean(dim=0) for group in groups]
        ).view(-1, seeds)
        for size in sizes
        for groups in [signals.unflatten(1, (-1, size)).transpose(0, 1)]
    }
