"""What a walk through a file finds."""

from __future__ import annotations

from dataclasses import dataclass

MOST_STEPS = 2_000_000
"""Elements that a walk looks at; what comes after so many is not looked at."""


@dataclass(frozen=True)
class Evidence:
    """What speaks against a file.

    Attributes:
        cut: it ends before its own sizes say it does.
        damage: what else is wrong with its structure, in a few words; "" if nothing is.
        media_bytes: that hold pictures and sound; 0 if it does not say.
        num_frames: that it holds; 0 if it does not say.
    """

    cut: bool = False
    damage: str = ""
    media_bytes: int = 0
    num_frames: int = 0


WHOLE = Evidence()
CUT = Evidence(cut=True)
