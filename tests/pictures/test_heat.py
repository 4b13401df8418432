"""Heat maps say what the numbers say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from wmreward.errors import UsageError
from wmreward.pictures.colors import color_table
from wmreward.pictures.heat import _enlarge, heat_overlay
from wmreward.pictures.map_video import mean_curve


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
    assert np.isnan(mean_curve(maps)[:2]).all()
    np.testing.assert_allclose(mean_curve(maps)[2:], maps[2:].mean(axis=(1, 2)))


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
