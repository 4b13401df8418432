"""What the published command line computes, with all that decides it. Nothing heavy is imported here."""

from __future__ import annotations

from vjepa2.config import VJEPA2Config
from wmreward.surprise.config import RELEASED

RELEASED_SETTINGS = {
    **RELEASED.to_json(),
    "frame_strides": RELEASED.frame_strides,
    "max_frames": 49,
    "fps": None,
    "rates": None,
    "context_encoder": "online",
    "target_encoder": "online",
    "mask_token": VJEPA2Config.default_mask_token,
}
"""All that decides a score of the published command line, whatever the model."""
