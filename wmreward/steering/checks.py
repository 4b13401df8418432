"""What rewards and guides hand over, checked: a wrong shape may fit by broadcasting, NaN goes unseen."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from wmreward.errors import RewardError, UsageError, WMRewardError, named
from wmreward.protocols import as_scores


def checked_scores(judged: Any, videos: Tensor) -> Tensor:
    """The scores ``[B]`` of what a reward said of videos ``[B, 3, T, H, W]``.

    Raises:
        UsageError: they have another shape.
        RewardError: they are not finite.
        WMRewardError: the videos are not.
    """
    count = len(videos)
    scores = getattr(as_scores(judged, count), "scores", None)
    if not isinstance(scores, Tensor) or scores.shape != (count,):
        told = judged if scores is None else scores
        found = list(told.shape) if isinstance(told, Tensor) else type(told).__name__
        raise UsageError(
            f"a reward must return scores [{count}] for {count} videos, as a tensor or in RewardScores, not "
            f"{found}"
        )
    if not torch.isfinite(scores).all():
        if not torch.isfinite(videos).all():
            raise WMRewardError(
                "the video that is shown to the reward holds infinity or no numbers: the generator's "
                "decoder is at fault, by its weights or its precision"
            )
        raise RewardError(
            f"the reward gives {scores[~torch.isfinite(scores)][0].item()} for a video whose pixels are all "
            "finite: the reward is at fault; guide with another one"
        )
    return scores


def gradient_of(scores: Tensor, of: Tensor, what: str = "the reward") -> Tensor:
    """The gradient of the sum of ``scores`` with respect to ``of``.

    Raises:
        UsageError: none flows.
        WMRewardError: it is not finite.
    """
    gradient = None
    if scores.requires_grad:
        (gradient,) = torch.autograd.grad(scores.sum(), of, allow_unused=True)
    if gradient is None:
        raise UsageError(f"no gradient flows through {what}: it cannot guide")
    if not torch.isfinite(gradient).all():
        raise WMRewardError(
            f"the gradient of {what} is infinite or no number, although its value is finite: it cannot be "
            "differentiated there; guide with another one, or in fewer steps "
            f"({named('times', flag='guidance_range')})"
        )
    return gradient


def checked_pullback(found: Any, latents: Tensor, count: int, decoder: object) -> list[Tensor]:
    """The gradients that a decoder pulled back by itself: ``count`` of them, each like ``latents``.

    Raises:
        UsageError: they are fewer or more, or have another shape.
    """
    told = found if isinstance(found, (list, tuple)) else [found]
    shapes = [one.shape if isinstance(one, Tensor) else None for one in told]
    if told is found and shapes == [latents.shape] * count:
        return list(found)
    named = [list(one.shape) if isinstance(one, Tensor) else type(one).__name__ for one in told]
    instead = "a single tensor" if isinstance(found, Tensor) else " and ".join(map(str, named))
    raise UsageError(
        f"pulled_back of {type(decoder).__name__} must return a list of gradients, {count} of "
        f"{list(latents.shape)}, not {instead or 'an empty one'}"
    )


def checked_velocity(velocity: Any, like: Tensor) -> Tensor:
    """The velocity of a guide, which must have the shape of the generator's own.

    Raises:
        UsageError: it has another one.
    """
    if not isinstance(velocity, Tensor) or velocity.shape != like.shape:
        found = list(velocity.shape) if isinstance(velocity, Tensor) else "no tensor"
        raise UsageError(f"a guide returned {found} as a velocity, expected {list(like.shape)}")
    return velocity
