"""What may be uploaded to the page: enough to try it. The command line has no such limits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from wmreward.errors import UsageError
from wmreward.video_io import count_frames, probe

LARGEST_MB = 50
LONGEST_S = 60
MOST_FRAMES = 3600
"""Of a clip, whatever its header says of its length."""
MOST_CLIPS = 8
LONGEST_PROMPT = 500

IN_WORDS = f"at most {MOST_CLIPS} clips, each up to {LARGEST_MB} MB, {LONGEST_S} seconds and {MOST_FRAMES} frames"


def check_number(clips: Sequence[Path]) -> None:
    """Raise ``UsageError`` unless there are clips, and not too many."""
    if not clips:
        raise UsageError("no clip yet: drop one above")
    if len(clips) > MOST_CLIPS:
        raise UsageError(
            f"{len(clips)} clips are too many here: at most {MOST_CLIPS} (wmreward score takes any number)"
        )


def check_size(file: Path) -> None:
    """Raise ``UsageError`` for a clip or an image that is too large."""
    size = file.stat().st_size / 1e6
    if size > LARGEST_MB:
        raise UsageError(f"{file.name} has {size:.0f} MB: this page takes up to {LARGEST_MB} MB")


def check_clip(clip: Path) -> None:
    """Raise ``UsageError`` for a clip that is too large or too long; its frames are counted, not decoded.

    Raises:
        VideoError: it cannot be read.
    """
    check_size(clip)
    seconds, frames = probe(clip).duration_s, count_frames(clip)
    if seconds is not None and seconds > LONGEST_S:
        raise UsageError(
            f"{clip.name} lasts {seconds:.0f} seconds: this page takes up to {LONGEST_S}"
        )
    if frames > MOST_FRAMES:
        raise UsageError(f"{clip.name} has {frames} frames: this page takes up to {MOST_FRAMES}")
