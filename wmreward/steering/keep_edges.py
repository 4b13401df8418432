"""A constraint for rewards that guide: they may not blur.

Less detail is easier to predict, so the gradient of surprise also takes some away. The constraint holds for
pixels; behind a decoder a part of the loss remains (half of it in benchmarks/physics_repair/benchmark.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from wmreward.protocols import RewardScores
from wmreward.steering.checks import checked_scores, gradient_of

_TINY = 1e-12


def edge_energy(videos: Tensor) -> Tensor:
    """Mean squared difference between neighbouring pixels of ``[B, 3, T, H, W]``, ``[B]``."""
    down, right = videos.diff(dim=-2), videos.diff(dim=-1)
    return down.square().mean(dim=(1, 2, 3, 4)) + right.square().mean(dim=(1, 2, 3, 4))


@dataclass
class KeepEdges:
    """A reward whose gradient takes no edge energy away, to first order.

    The part of each video's gradient that would blur it, its projection on the gradient of the edge energy,
    is left out. Values are those of the reward.
    """

    reward: Callable[[Tensor], RewardScores]

    def __call__(self, videos: Tensor) -> RewardScores:
        """Score ``[B, 3, T, H, W]``; differentiable once."""
        if not (videos.requires_grad and torch.is_grad_enabled()):
            return self.reward(videos)
        leaf = videos.detach().requires_grad_()
        scored = self.reward(leaf)
        gradient = gradient_of(checked_scores(scored, leaf), leaf)
        sharpens = gradient_of(edge_energy(leaf), leaf, "the edge energy")
        along = (gradient * sharpens).sum(dim=(1, 2, 3, 4), keepdim=True)
        size = sharpens.square().sum(dim=(1, 2, 3, 4), keepdim=True).clamp_min(_TINY)
        kept = gradient - (along / size).clamp(max=0) * sharpens
        # Adds nothing but this gradient.
        linear = ((videos - leaf.detach()) * kept).sum(dim=(1, 2, 3, 4))
        return RewardScores(scored.scores.detach() + linear, scored.parts)
