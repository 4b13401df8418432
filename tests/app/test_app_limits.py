"""What may be uploaded: refused in one line that says what was found and what is allowed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cli_fixtures import write_clip

from wmreward.app import limits
from wmreward.app.limits import check_clip, check_number, check_size
from wmreward.errors import UsageError, VideoError
from wmreward.video_io import write_video


def test_number_of_clips() -> None:
    clip = Path("clip.mp4")
    check_number([clip] * limits.MOST_CLIPS)
    with pytest.raises(UsageError, match="drop one"):
        check_number([])
    with pytest.raises(UsageError, match=f"9 clips are too many here: at most {limits.MOST_CLIPS}"):
        check_number([clip] * (limits.MOST_CLIPS + 1))


def test_size(tmp_path: Path) -> None:
    large = tmp_path / "large.mp4"
    with large.open("wb") as file:
        file.truncate(limits.LARGEST_MB * 10**6)
    check_size(large)
    with large.open("ab") as file:
        file.truncate(limits.LARGEST_MB * 10**6 + 10**6)
    with pytest.raises(UsageError, match=r"^large.mp4 has 51 MB: this page takes up to 50 MB$"):
        check_clip(large)


def test_length(tmp_path: Path) -> None:
    frames = np.zeros((limits.LONGEST_S + 1, 16, 16, 3), np.uint8)
    long, fits = tmp_path / "long.mp4", tmp_path / "fits.mp4"
    write_video(fits, frames[1:], 1)
    check_clip(fits)
    write_video(long, frames, 1)
    with pytest.raises(UsageError, match=r"^long.mp4 lasts 61 seconds: this page takes up to 60$"):
        check_clip(long)


def test_frames_are_counted_whatever_the_length(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = write_clip(tmp_path / "clip.mp4", frames=20)
    monkeypatch.setattr(limits, "MOST_FRAMES", 20)
    check_clip(clip)
    monkeypatch.setattr(limits, "MOST_FRAMES", 19)
    with pytest.raises(UsageError, match=r"^clip.mp4 has 20 frames: this page takes up to 19$"):
        check_clip(clip)


def test_what_is_no_clip(tmp_path: Path) -> None:
    text = tmp_path / "text.mp4"
    text.write_text("no video")
    with pytest.raises(VideoError):
        check_clip(text)


def test_the_limits_are_stated() -> None:
    for limit in (limits.MOST_CLIPS, limits.LARGEST_MB, limits.LONGEST_S, limits.MOST_FRAMES):
        assert str(limit) in limits.IN_WORDS
