"""WMReward: physics scores for videos from the surprise of a latent world model.

On a CPU, set ``OMP_WAIT_POLICY=PASSIVE`` in the environment before PyTorch is imported, as the commands do
for themselves: its threads otherwise spin while they wait for one another, which takes time from decoding.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wmreward.errors import UsageError, VideoError, VideoWarning, WMRewardError
    from wmreward.surprise.actions.motion import Motion, read_motion
    from wmreward.surprise.compute import compute_vjepa_surprise
    from wmreward.surprise.config import SurpriseConfig
    from wmreward.surprise.models import ModelChoice
    from wmreward.surprise.result import SurpriseBatch, SurpriseResult
    from wmreward.surprise.scorer import SurpriseScorer
    from wmreward.surprise.video_scorer import VideoScorer
    from wmreward.version import __version__

_HOME = {
    "ModelChoice": "surprise.models",
    "Motion": "surprise.actions.motion",
    "SurpriseBatch": "surprise.result",
    "SurpriseConfig": "surprise.config",
    "SurpriseResult": "surprise.result",
    "SurpriseScorer": "surprise.scorer",
    "UsageError": "errors",
    "VideoError": "errors",
    "VideoScorer": "surprise.video_scorer",
    "VideoWarning": "errors",
    "WMRewardError": "errors",
    "__version__": "version",
    "compute_vjepa_surprise": "surprise.compute",
    "read_motion": "surprise.actions.motion",
}

__all__ = [
    "ModelChoice",
    "Motion",
    "SurpriseBatch",
    "SurpriseConfig",
    "SurpriseResult",
    "SurpriseScorer",
    "UsageError",
    "VideoError",
    "VideoScorer",
    "VideoWarning",
    "WMRewardError",
    "__version__",
    "compute_vjepa_surprise",
    "read_motion",
]


def __getattr__(name: str) -> Any:
    """The public names, imported when asked for: PyTorch takes seconds, and --help should not."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
