"""Heat maps, map videos and plots say what the numbers say."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wmreward.errors import UsageError
from wmreward.pictures.visualize import (
    _enlarge,
    _mean_curve,
    _time_line,
    color_table,
    heat_overlay,
    plot_surprise,
    surprise_map_video,
)
from wmreward.video_io import probe, read_frames, read_uniform


def scene(count: int = 6, height: int = 48, width: int = 64) -> np.ndarray:
    return np.random.default_rng(0).integers(60, 180, (count, height, width, 3), dtype=np.uint8)


def test_colours_grow_lighter() -> None:
    table = color_table()
    luminance = table @ np.array([0.2126, 0.7152, 0.0722])
    assert table.shape == (256, 3) and table.dtype == np.uint8
    assert (np.diff(luminance) >= -1).all() and luminance[0] < 2 and luminance[-1] > 240
    matplotlib = pytest.importorskip("matplotlib")
    exact = matplotlib.colormaps["inferno"](np.arange(256))[:, :3] * 255
    assert np.abs(table - exact).max() < 6


def test_enlarging_is_bilinear_as_torch_does_it() -> None:
    torch = pytest.importorskip("torch")
    values = np.random.default_rng(0).random((4, 5))
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(values)[None, None], (37, 64), mode="bilinear", align_corners=False
    )[0, 0].numpy()
    np.testing.assert_allclose(_enlarge(values, 37, 64), expected, atol=1e-12)


def test_overlay_is_clear_where_nothing_surprises() -> None:
    frames, maps = scene(), np.zeros((6, 4, 4))
    maps[:, 3, 3] = 1
    shown = heat_overlay(frames, maps)
    assert shown.shape == frames.shape and shown.dtype == np.uint8
    grey = (frames @ np.array([0.299, 0.587, 0.114])).round()
    assert np.abs(shown[:, :24, :32] - grey[:, :24, :32, None]).max() <= 1
    hot = shown[:, -4:, -4:].astype(float).mean(axis=(0, 1, 2))
    assert hot[0] > 200 and hot[2] < hot[0]  # yellow
    assert np.array_equal(heat_overlay(frames, maps, alpha=0)[0, 0, 0], grey[0, 0, [0] * 3])


def test_overlay_uses_one_scale_for_all_frames() -> None:
    frames = np.full((3, 32, 32, 3), 100, np.uint8)
    maps = np.array([0.0, 0.5, 1.0])[:, None, None] * np.ones((3, 4, 4))
    shown = heat_overlay(frames, maps)
    assert len({tuple(picture[0, 0]) for picture in shown}) == 3
    wide = heat_overlay(frames, maps, vmin=0, vmax=2)
    assert np.array_equal(wide[2], shown[1])
    assert np.array_equal(heat_overlay(frames, maps + 5, vmin=0, vmax=1)[0], shown[2])  # clipped


def test_frames_without_a_map_are_left_as_they_are() -> None:
    frames, maps = scene(), np.random.default_rng(1).random((6, 4, 4))
    maps[:2] = np.nan
    shown = heat_overlay(frames, maps)
    assert np.array_equal(shown[:2], frames[:2]) and not np.array_equal(shown[2], frames[2])
    assert np.array_equal(heat_overlay(frames, np.full((6, 4, 4), np.nan)), frames)
    assert np.isnan(_mean_curve(maps)[:2]).all()
    np.testing.assert_allclose(_mean_curve(maps)[2:], maps[2:].mean(axis=(1, 2)))


def test_flat_maps_do_not_divide_by_zero() -> None:
    shown = heat_overlay(scene(), np.full((6, 4, 4), 0.3))
    assert np.ptp(shown, axis=-1).max() <= 1  # grey: all at the low end


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"maps": np.zeros((5, 4, 4))}, r"\[5, 4, 4\]"),
        ({"maps": np.zeros((6, 16))}, "maps"),
        ({"frames": np.zeros((6, 8, 8, 3), np.float32)}, "float32"),
        ({"vmin": 1.0, "vmax": 1.0}, "vmin must be below vmax"),
        ({"alpha": 1.5}, "alpha"),
    ],
)
def test_wrong_input_is_named(change: dict[str, Any], reason: str) -> None:
    arguments: dict[str, Any] = {"frames": scene(), "maps": np.zeros((6, 4, 4))} | change
    with pytest.raises(UsageError, match=reason):
        heat_overlay(**arguments)


def test_time_line_rises_with_the_curve() -> None:
    curve = np.array([np.nan, np.nan, 0.0, 0.5, 1.0])
    strip = _time_line(curve, 100, 50).astype(int)
    filled = (np.abs(strip - strip[0, 0]).sum(axis=-1) > 20).sum(axis=0)  # pixels per column
    assert (filled[:40] == 0).all()
    assert 1 <= filled[45] < filled[70] < filled[95] <= 50
    assert (_time_line(np.full(5, np.nan), 100, 50) == strip[0, 0]).all()


def test_map_video(tmp_path: Path) -> None:
    frames = np.full((8, 60, 80, 3), (40, 90, 160), np.uint8)
    maps = np.random.default_rng(0).random((8, 4, 4))
    maps[:2] = np.nan
    path = tmp_path / "maps.mp4"
    surprise_map_video(path, frames, maps, 12)
    clip = read_uniform(path)
    assert len(clip) == 8 and probe(path).fps == 12
    height, width = clip.frames.shape[1:3]
    assert height > 300 and width > 2 * 400  # enlarged five times, two pictures and the scale
    left = clip.frames[:, 100:200, 100:300].astype(int)
    assert np.abs(left - (40, 90, 160)).max() < 8
    cursor = [int(frame[-12].astype(int).sum(axis=-1).argmax()) for frame in clip.frames]
    assert cursor == sorted(cursor) and cursor[0] < width / 8 and cursor[-1] > width * 7 / 8


def test_map_video_of_a_large_clip_is_not_enlarged(tmp_path: Path) -> None:
    path = tmp_path / "maps.mkv"
    curve = [0.1, np.nan, 0.3]
    surprise_map_video(path, scene(3, 300, 300), np.zeros((3, 2, 2)), 8, curve, vmin=0, vmax=1)
    info = probe(path)
    assert 600 < info.width < 660 and 300 < info.height < 400
    with pytest.raises(UsageError, match="per_frame_curve"):
        surprise_map_video(path, scene(), np.zeros((6, 2, 2)), 8, [0.1, 0.2])


WINDOWS = np.array([[0.3, 0.6], [0.5, 0.8], [0.7, 1.0]])


def test_plot(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / "plot.png"
    plot_surprise(path, WINDOWS, [0.3, 0.4, 0.2], title="one $video$ 日本.mp4")
    picture = read_frames(path, [0])[0]
    assert picture.shape[1] >= 1200 and (picture[0, 0] == 255).all()
    blue = (picture[..., 2].astype(int) - picture[..., 0]) > 60
    assert blue.sum() > 500
    compare = {"_other": (WINDOWS * 30, [0.1, np.nan, 0.3]), "third": (WINDOWS, np.ones(3))}
    plot_surprise(path, WINDOWS, np.full(3, np.nan), title="nothing known")
    plot_surprise(path, WINDOWS, np.zeros(3), title="", seconds=False, compare=compare)
    orange = read_frames(path, [0])[0].astype(int)
    assert ((orange[..., 0] - orange[..., 2]) > 100).sum() > 500
    assert [p.name for p in tmp_path.iterdir()] == ["plot.png"]


def test_plot_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    others = {"other": (WINDOWS, np.zeros(2))}
    with pytest.raises(UsageError, match=r"other: need windows .* got \[3, 2\] and \[2\]"):
        plot_surprise(tmp_path / "x.png", WINDOWS, np.zeros(3), title="", compare=others)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(UsageError, match=r"pip install 'wmreward\[plot\]'"):
        plot_surprise(tmp_path / "x.png", WINDOWS, np.zeros(3), title="")
