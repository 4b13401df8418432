"""Frames are reduced while they are decoded: memory is bounded, and nothing else changes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from video_fixtures import encode, grey, noisy, numbers, one_line

from wmreward.errors import VideoError
from wmreward.video import collect
from wmreward.video_io import read_uniform, stream_fps


def two_rows(frame: np.ndarray) -> np.ndarray:
    return frame[:2]


def half(frame: np.ndarray) -> np.ndarray:
    return frame[::2, ::2].astype(np.float32) / 255


def test_clips_hold_what_is_kept(tmp_path: Path) -> None:
    path = encode(tmp_path / "clip.mp4", noisy(30))
    whole, reduced = read_uniform(path), read_uniform(path, reduction=half)
    expected = whole.frames[:, ::2, ::2].astype(np.float32) / 255
    assert np.array_equal(reduced.frames, expected) and reduced.frames.dtype == np.float32
    assert np.array_equal(reduced.indices, whole.indices)
    chunks = list(stream_fps(path, 48, 7, reduction=half))
    assert [len(chunk) for chunk in chunks] == [7] * 8 + [3]  # every frame is taken twice
    assert np.array_equal(np.concatenate([c.frames for c in chunks])[::2], expected)


def test_chunks_do_not_share_memory(tmp_path: Path) -> None:
    path = encode(tmp_path / "clip.mp4")
    chunks = list(stream_fps(path, 24, 20))
    assert [numbers(chunk.frames) for chunk in chunks] == [
        list(range(start, start + 20)) for start in (0, 20, 40)
    ]


def test_no_whole_frame_outlives_its_reduction(tmp_path: Path) -> None:
    path = encode(tmp_path / "clip.mp4")
    alive: list[int] = []

    def small(frame: np.ndarray) -> np.ndarray:
        alive.append(frame.nbytes)
        return frame[:1, :1].copy()

    clip = read_uniform(path, reduction=small)
    assert len(alive) == 49 and clip.frames.nbytes == 49 * 3


def test_too_much_for_one_clip_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = encode(tmp_path / "clip.mp4", [grey(i) for i in range(10)])
    monkeypatch.setattr(collect, "MAX_CLIP_BYTES", 5 * 48 * 64 * 3)
    assert len(read_uniform(path, 5)) == 5 and len(read_uniform(path, reduction=two_rows)) == 10
    with pytest.raises(VideoError, match="64 x 48 pixels are too large to hold 6") as caught:
        read_uniform(path)
    one_line(caught.value, path)


def test_large_frames_are_converted_one_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collect, "LARGE_PIXELS", 1)
    held: list[bool] = []

    def noting(frame: np.ndarray) -> np.ndarray:
        held.append(collect._LARGE.locked())
        return frame[:1]

    read_uniform(encode(tmp_path / "clip.mp4"), reduction=noting)
    assert held == [True] * 49 and not collect._LARGE.locked()
