"""WMReward: physics scores for videos from the surprise of a latent world model.

On a CPU, set ``OMP_WAIT_POLICY=PASSIVE`` in the environment before PyTorch is imported, as the commands do
for themselves: its threads otherwise spin while they wait for one another, which takes time from decoding.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wmreward.errors import (
        RewardError,
        UsageError,
        VideoError,
        VideoWarning,
        WMRewardError,
    )
    from wmreward.protocols import DenoiseStep, Reward, RewardScores, WorldModel
    from wmreward.rewards.mix import RewardMix
    from wmreward.rewards.world import SurpriseReward
    from wmreward.search.best_of_n import Choice
    from wmreward.search.calls import best_of_n, select_best
    from wmreward.steering.guidance import Guidance, GuidanceConfig
    from wmreward.steering.schedule import GuidanceSchedule
    from wmreward.surprise.actions.motion import Motion, read_motion
    from wmreward.surprise.compute import compute_vjepa_surprise
    from wmreward.surprise.config import SurpriseConfig
    from wmreward.surprise.models import ModelChoice
    from wmreward.surprise.result import SurpriseBatch, SurpriseResult
    from wmreward.surprise.scorer import SurpriseScorer
    from wmreward.surprise.video_scorer import VideoScorer
    from wmreward.version import __version__

_HOME = {
    "Choice": "search.best_of_n",
    "DenoiseStep": "protocols",
    "Guidance": "steering.guidance",
    "GuidanceConfig": "steering.guidance",
    "GuidanceSchedule": "steering.schedule",
    "ModelChoice": "surprise.models",
    "Motion": "surprise.actions.motion",
    "Reward": "protocols",
    "RewardError": "errors",
    "RewardMix": "rewards.mix",
    "RewardScores": "protocols",
    "SurpriseBatch": "surprise.result",
    "SurpriseConfig": "surprise.config",
    "SurpriseResult": "surprise.result",
    "SurpriseReward": "rewards.world",
    "SurpriseScorer": "surprise.scorer",
    "UsageError": "errors",
    "VideoError": "errors",
    "VideoScorer": "surprise.video_scorer",
    "VideoWarning": "errors",
    "WMRewardError": "errors",
    "WorldModel": "protocols",
    "__version__": "version",
    "best_of_n": "search.calls",
    "compute_vjepa_surprise": "surprise.compute",
    "read_motion": "surprise.actions.motion",
    "select_best": "search.calls",
}

__all__ = [
    "Choice",
    "DenoiseStep",
    "Guidance",
    "GuidanceConfig",
    "GuidanceSchedule",
    "ModelChoice",
    "Motion",
    "Reward",
    "RewardError",
    "RewardMix",
    "RewardScores",
    "SurpriseBatch",
    "SurpriseConfig",
    "SurpriseResult",
    "SurpriseReward",
    "SurpriseScorer",
    "UsageError",
    "VideoError",
    "VideoScorer",
    "VideoWarning",
    "WMRewardError",
    "WorldModel",
    "__version__",
    "best_of_n",
    "compute_vjepa_surprise",
    "read_motion",
    "select_best",
]


def __getattr__(name: str) -> Any:
    """The public names, imported when asked for: PyTorch takes seconds, and --help should not."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
