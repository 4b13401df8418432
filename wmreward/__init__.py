"""WMReward: physics scores for videos from the surprise of a latent world model."""

from wmreward.actions import Motion, read_motion
from wmreward.config import SurpriseConfig
from wmreward.errors import UsageError, VideoError, WMRewardError
from wmreward.models import ModelChoice
from wmreward.result import SurpriseBatch, SurpriseResult
from wmreward.reward import VideoScorer, compute_vjepa_surprise
from wmreward.scorer import SurpriseScorer
from wmreward.version import __version__

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
    "WMRewardError",
    "__version__",
    "compute_vjepa_surprise",
    "read_motion",
]
