"""How each reward judges: what a reward says of a video is taken from records where this is the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from wmreward.rewards.choice import RewardChoice

Ways = Callable[[str], Mapping[str, str]]
"""From a candidate's name to the way of every reward that is wanted, a hash."""


def settings_hash(settings: Mapping[str, Any]) -> str:
    """Short hash of settings."""
    text = json.dumps(settings, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def content_hash(frames: Tensor) -> str:
    """SHA-256 of frames, uint8."""
    return hashlib.sha256(frames.cpu().contiguous().numpy().tobytes()).hexdigest()


def ways_of(
    rewards: RewardChoice, seen: Mapping[str, Any], prompt: Callable[[str], str | None]
) -> Ways:
    """The ways of chosen rewards; reads the ends of the weights' files, once.

    Args:
        rewards: Which.
        seen: What else decides a score: which frames are looked at, and what before them.
        prompt: Of a candidate, by its name; counts for rewards that ask about it.
    """
    settings = {name: {"reward": name, **rewards.settings_of(name)} for name in rewards.weights}

    def ways(candidate: str) -> dict[str, str]:
        asked = {"prompt": prompt(candidate)}
        return {
            name: settings_hash({**own, **seen, **(asked if rewards.asks_prompt(name) else {})})
            for name, own in settings.items()
        }

    return ways
