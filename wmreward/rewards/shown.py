"""What people are shown of rewards. Records keep the reward's own score, higher is better.

A surprise is shown as it is everywhere: the lower, the more plausible. All else is called a reward.
"""

from __future__ import annotations

from collections.abc import Mapping

from wmreward.rewards.geometry import GeometryReward
from wmreward.rewards.world import SeamReward, SurpriseReward

_SURPRISES = {SurpriseReward.name: "surprise", SeamReward.name: "seam surprise"}


def shown_name(reward: str) -> str:
    """Of the column of a reward."""
    return _SURPRISES.get(reward, f"{reward} reward")


def shown_score(reward: str, score: float) -> float:
    """A score under that name."""
    return -score if reward in _SURPRISES else score


def shown_curve(reward: str) -> str:
    """Of the axis of its curve."""
    if reward == GeometryReward.name:
        return "irregularity\n(1: the video's mean)"
    return shown_name(reward)


def in_words(scores: Mapping[str, float], digits: int = 6, between: str = ", ") -> str:
    """Scores by reward, such as ``surprise 0.031415, consensus reward 0.5``."""
    return between.join(
        f"{shown_name(name)} {shown_score(name, score):.{digits}f}"
        for name, score in scores.items()
    )
