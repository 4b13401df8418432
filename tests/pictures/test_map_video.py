"""Map videos show what the numbers say, on one scale where videos are compared."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from wmreward.errors import UsageError
from wmreward.pictures.map_video import MapScale, surprise_map_video, time_line
from wmreward.video_io import probe, read_frames, read_uniform


def scene(count: int = 6, height: int = 48, width: int = 64) -> np.ndarray:
    return np.random.default_rng(0).integers(60, 180, (count, height, width, 3), dtype=np.uint8)


def test_time_line_rises_with_the_curve() -> None:
    curve = np.array([np.nan, np.nan, 0.0, 0.5, 1.0])
    strip = time_line(curve, 1.0, 100, 50).astype(int)
    filled = (np.abs(strip - strip[0, 0]).sum(axis=-1) > 20).sum(axis=0)  # pixels per column
    assert (filled[:40] == 0).all()
    assert 1 <= filled[45] < filled[70] < filled[95] <= 50
    half = time_line(curve, 2.0, 100, 50).astype(int)
    lower = (np.abs(half - half[0, 0]).sum(axis=-1) > 20).sum(axis=0)
    assert lower[95] < filled[95]
    assert (time_line(np.full(5, np.nan), 1.0, 100, 50) == strip[0, 0]).all()


def test_map_video(tmp_path: Path) -> None:
    frames = np.full((8, 60, 80, 3), (40, 90, 160), np.uint8)
    maps = np.random.default_rng(0).random((8, 4, 4))
    maps[:2] = np.nan
    path = tmp_path / "maps.mp4"
    surprise_map_video(path, frames, maps, 12, title="a \udcff name.mp4")
    clip = read_uniform(path)
    assert len(clip) == 8 and probe(path).fps == 12
    height, width = clip.frames.shape[1:3]
    assert height > 300 and width > 2 * 400  # enlarged five times, two pictures and the scale
    left = clip.frames[:, 100:200, 100:300].astype(int)
    assert np.abs(left - (40, 90, 160)).max() < 8
    rows = slice(height - 80, height - 40)  # the time line, above what is written
    cursor = [int(f[rows].astype(int).sum(axis=(0, 2)).argmax()) for f in clip.frames]
    assert cursor == sorted(cursor) and cursor[0] < width / 8 and cursor[-1] > width * 7 / 8


def test_one_scale_makes_videos_comparable(tmp_path: Path) -> None:
    """A calm video glows on a scale of its own, and stays clear on that of a surprising one."""
    frames = np.full((3, 256, 256, 3), 120, np.uint8)
    calm, wild = np.full((3, 4, 4), 0.01), np.full((3, 4, 4), 0.3)
    calm[0] = wild[0] = np.nan
    both = MapScale.of([calm, wild])
    assert both == MapScale(0.3, 0.3) and MapScale.of([np.full((2, 2, 2), np.nan)]).token == 0
    glow = []
    for number, scale in enumerate((None, both)):
        path = tmp_path / f"{number}.mkv"
        surprise_map_video(path, frames, calm, 8, scale=scale)
        picture = read_frames(path, [2])[0].astype(int)
        glow.append(np.abs(picture[100:200, 320:460] - 120).max())
    assert glow[0] > 60 > 15 > glow[1]


def test_map_video_of_a_large_clip_is_not_enlarged(tmp_path: Path) -> None:
    path = tmp_path / "maps.mkv"
    surprise_map_video(path, scene(3, 300, 300), np.zeros((3, 2, 2)), 8)
    info = probe(path)
    assert 600 < info.width < 690 and 300 < info.height < 450


def test_wrong_input_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="alpha"):
        surprise_map_video(tmp_path / "x.mp4", scene(), np.zeros((6, 2, 2)), 8, alpha=2)
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(UsageError, match=r"a map video needs PIL.*pip install -e '\.\[plot\]'"):
        surprise_map_video(tmp_path / "x.mp4", scene(), np.zeros((6, 2, 2)), 8)
    assert not list(tmp_path.iterdir())
