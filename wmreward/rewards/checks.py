"""What a reward says, which may be somebody else's: its shape, and who is at fault if it is no number."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from wmreward.errors import RewardError, WMRewardError
from wmreward.protocols import RewardCurve, RewardScores, as_scores
from wmreward.surprise.models.fault import fault_of


@contextmanager
def blamed(name: str, reward: object, videos: Tensor | None = None) -> Iterator[None]:
    """Say of what a reward raises in the block that it does, and which one it is.

    Errors of ours, as of a video that is too short for a world model, say themselves what is wrong.

    Raises:
        RewardError: somebody else's reward raised something, that is its cause; or ended the process, which
            is not for it to do; or changed the ``videos``, which other rewards see after it.
    """
    ours = getattr(reward, "__module__", "").partition(".")[0] == "wmreward"
    before = _changes(videos)
    try:
        yield
    except WMRewardError:
        raise
    except (Exception, SystemExit) as error:
        if ours:
            raise
        raise RewardError(
            f"reward {name!r} failed with {type(error).__name__}: {error or 'no message'}"
        ) from error
    if _changes(videos) != before:
        raise RewardError(
            f"reward {name!r} changes the video that it is given, which others see, too: let it work on "
            "a copy (video.clone())"
        )


def _changes(videos: Tensor | None) -> int:
    """How often a tensor was changed in place, as PyTorch counts it for the sake of gradients."""
    return 0 if videos is None or videos.is_inference() else videos._version


def checked(name: str, reward: object, judged: Any, videos: Tensor) -> RewardScores:
    """Scores and parts, ``[B]`` each, and perhaps a curve, all finite, of videos ``[B, 3, T, H, W]``.

    Raises:
        RewardError: another shape, or not finite by the reward's own fault.
        WMRewardError: not finite; blames the video or the world model's weights.
    """
    given, count = judged, len(videos)
    judged = as_scores(given, count)
    scores = getattr(judged, "scores", None)
    if not isinstance(scores, Tensor) or scores.shape != (count,):
        told = given if scores is None else scores
        found = list(told.shape) if isinstance(told, Tensor) else type(told).__name__
        raise RewardError(
            f"reward {name!r} must return scores [{count}] for {count} videos, as a tensor or in "
            f"RewardScores, not {found}"
        )
    _check_real(name, scores, "scores")
    parts = getattr(judged, "parts", None)
    if not isinstance(parts, Mapping):
        raise RewardError(f"reward {name!r} must return RewardScores with a dictionary of parts")
    for part, value in parts.items():
        if not isinstance(value, Tensor) or value.shape != (count,):
            found = list(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise RewardError(
                f"reward {name!r}: its part {part!r} must be [{count}] for {count} videos, not {found}"
            )
        _check_real(name, value, f"part {part!r}")
        check_finite(name, reward, value, videos, f"{part} = ")
    check_finite(name, reward, scores, videos)
    curve = getattr(judged, "curve", None)
    if curve is not None:
        _check_curve(name, reward, curve, videos)
    return RewardScores(scores, parts, curve)


def _check_real(name: str, values: Tensor, what: str) -> None:
    if values.is_complex():
        raise RewardError(f"reward {name!r}: its {what} must be real numbers, not {values.dtype}")


def _check_curve(name: str, reward: object, curve: RewardCurve, videos: Tensor) -> None:
    """A value ``[B]`` for each place."""
    wanted = (len(videos), len(curve.places))
    if not isinstance(curve.values, Tensor) or curve.values.shape != wanted:
        values = curve.values
        found = list(values.shape) if isinstance(values, Tensor) else type(values).__name__
        raise RewardError(
            f"reward {name!r}: its curve must have values {list(wanted)} for {wanted[0]} videos and "
            f"{wanted[1]} places, not {found}"
        )
    check_finite(name, reward, curve.values, videos, "a curve with ")


def check_finite(name: str, reward: object, values: Tensor, videos: Tensor, of: str = "") -> None:
    """Refuse what is not finite, after looking at what it was made of.

    Raises:
        RewardError: the reward is at fault.
        WMRewardError: the video is, or the world model's weights are.
    """
    wrong = values[~torch.isfinite(values)]
    if not len(wrong):
        return
    if not torch.isfinite(videos).all():
        raise WMRewardError(
            f"reward {name!r} was given a video that holds infinity or no numbers: the video is at fault"
        )
    told = f"reward {name!r} gives {of}{wrong.flatten()[0].item()} for a video whose pixels are all finite"
    model = network_of(reward)
    if model is None:
        raise RewardError(f"{told}: the reward is at fault")
    raise WMRewardError(f"{told}: {fault_of(model)}")


def network_of(reward: object) -> nn.Module | None:
    """The network that a reward of ours judges by; None of somebody else's."""
    model = getattr(reward, "network", None)
    return model if isinstance(model, nn.Module) else None


def checked_set(name: str, scores: Any, count: int) -> Tensor:
    """The scores ``[N]`` of a reward that compares candidates.

    Raises:
        RewardError: another shape, or not finite.
    """
    if not isinstance(scores, Tensor) or scores.shape != (count,):
        found = list(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
        raise RewardError(
            f"reward {name!r} must compare {count} candidates by scores [{count}], not {found}"
        )
    for value in scores.tolist():
        if not math.isfinite(value):
            raise RewardError(
                f"reward {name!r} gives {value} where it compares candidates: the reward is at fault"
            )
    return scores
