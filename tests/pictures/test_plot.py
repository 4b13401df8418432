"""Plots of surprise show curves, frames and the number."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from wmreward.errors import UsageError
from wmreward.pictures.plot import Curve, still_times, surprise_figure, write_figure
from wmreward.video_io import read_frames

SPANS = np.array([[0.3, 0.6], [0.5, 0.8], [0.7, 1.0]])


def curve(label: str, values: list[float], score: float = 0.25, **stills: np.ndarray) -> Curve:
    return Curve(label, score, SPANS, np.array(values), **stills)


def test_one_video_with_its_frames(tmp_path: Path) -> None:
    green = np.zeros((4, 30, 40, 3), np.uint8)
    green[..., 1] = 200
    name = "one $video$ 日本 \udcff.mp4"
    one = curve(name, [0.3, 0.4, 0.2], stills=green, still_times=still_times(1.0, 4))
    path = tmp_path / "plot.png"
    write_figure(path, surprise_figure([one], note="tiny, 3 windows"))
    picture = read_frames(path, [0])[0].astype(int)
    assert picture.shape[1] >= 1200 and (picture[0, 0] == 255).all()
    assert ((picture[..., 2] - picture[..., 0]) > 60).sum() > 500  # the blue curve
    shown = (picture[..., 1] - picture[..., 2]) > 100
    columns = np.flatnonzero(shown.any(axis=0))
    assert shown.sum() > 20_000 and np.ptp(columns) > 700  # frames along the whole axis
    rows = np.flatnonzero(shown.any(axis=1))
    assert rows.min() > len(picture) / 2  # under the curve
    assert [p.name for p in tmp_path.iterdir()] == ["plot.png"]


def test_several_videos_the_most_plausible_first() -> None:
    figure = surprise_figure(
        [curve("worse", [0.3, 0.4, 0.5], 0.4), curve("_better", [0.1] * 3, 0.1)]
    )
    (legend,) = figure.legends
    words = [text.get_text() for text in legend.get_texts()]
    assert words == [" _better   surprise 0.1000", " worse   surprise 0.4000"]
    assert legend.get_title().get_text() == "lower is more plausible"


def test_unknown_values_and_frame_numbers() -> None:
    figure = surprise_figure([curve("x", [float("nan")] * 3, float("nan"))], seconds=False)
    figure.canvas.draw()
    assert figure.axes[-1].get_xlabel() == "frame"


def test_windows_of_another_frame_stride_begin_a_line_of_their_own() -> None:
    spans = np.concatenate([SPANS, SPANS + np.array([0, 0.1])])
    figure = surprise_figure([Curve("x", 0.1, spans, np.arange(6.0))])
    (line,) = (line for line in figure.axes[-1].get_lines() if line.get_marker() == "o")
    heights = np.asarray(line.get_ydata())
    assert heights[:3].tolist() == [0, 1, 2] and heights[4:].tolist() == [3, 4, 5]
    assert np.isnan(heights[3])


def test_wrong_input_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"other: need spans .* got \[3, 2\] and \[2\]"):
        Curve("other", 0.1, SPANS, np.zeros(2))
    with pytest.raises(UsageError, match="scored video"):
        surprise_figure([])
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UsageError, match=r"pip install -e '\.\[plot\]'"):
        surprise_figure([curve("x", [1, 2, 3])])
