"""Draw picture.png, the toolkit at a glance: two videos, their surprise over time, and where it lies.

    python example/readme_picture.py

Takes some ten seconds on a CPU; needs matplotlib (pip install -e '.[plot]' in the clone).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # much faster on shared cores

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

# ruff: noqa: E402
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import ConnectionPatch
from PIL import Image  # comes with matplotlib

from compute_wmreward import compute_vjepa_surprise
from wmreward.pictures.colors import color_table
from wmreward.pictures.heat import heat_overlay
from wmreward.surprise.result import SurpriseResult
from wmreward.surprise.windows import Window, frame_maps
from wmreward.video_io import Clip, read_uniform

COLORS = {"possible": "#0072B2", "impossible": "#D55E00"}
INK, FAINT = "#222222", "#777777"
TELEPORT = 31
"""The first frame with the ball elsewhere."""
SHOWN = (6, 14, 22, 30, 31, 38, 46)
TUBELET = 2
"""Frames per token of the model."""
WIDTH, HEIGHT = 12.0, 6.8
"""Inches of 100 pixels."""
LEFT, TOP = 0.053, 0.435
"""Where the frames and the curves begin, and where the lower half ends, as shares of the picture."""
MARK: dict[str, Any] = {"linewidth": 1.2, "linestyle": (0, (4, 3))}


def main(target: Path = HERE / "picture.png") -> dict[str, Any]:
    """Draw it; returns the scores by name."""
    paths = {name: HERE / f"balls_{name}.mp4" for name in COLORS}
    clips = {name: read_uniform(path) for name, path in paths.items()}
    scores: dict[str, Any] = {
        name: compute_vjepa_surprise(path, model="tiny") for name, path in paths.items()
    }
    maps = {name: maps_of_frames(score) for name, score in scores.items()}
    figure = Figure(figsize=(WIDTH, HEIGHT), dpi=100, facecolor="white")
    canvas = FigureCanvasAgg(figure)
    draw_strip(figure, "possible", clips["possible"], bottom=0.738, times=True)
    row = draw_strip(figure, "impossible", clips["impossible"], bottom=0.506)
    fps = clips["impossible"].frame_rate
    curves = draw_curves(figure, maps, fps)
    note_scores(curves, scores)
    draw_map(figure, clips["impossible"], maps["impossible"])
    broken = row[SHOWN.index(TELEPORT)]
    link = ConnectionPatch(
        (0.5, 0), (TELEPORT / fps, 1), broken.transAxes, curves.get_xaxis_transform()
    )
    link.set(color=COLORS["impossible"], **MARK)
    figure.add_artist(link)
    canvas.draw()
    picture = np.asarray(canvas.buffer_rgba())[..., :3]  # without alpha the file is a tenth smaller
    Image.fromarray(np.ascontiguousarray(picture)).save(target, optimize=True)
    return scores


def maps_of_frames(result: SurpriseResult) -> np.ndarray:
    """Surprise of every frame, ``[T, 8, 8]``; NaN where none is predicted."""
    windows = result.windows
    places = [Window(window.start, window.frame_stride) for window in windows]
    offset = windows[0].target - windows[0].start
    assert result.surprise_map is not None
    return frame_maps(result.surprise_map, places, offset, TUBELET, result.num_frames).numpy()


def draw_strip(
    figure: Figure, name: str, clip: Clip, bottom: float, times: bool = False
) -> list[Axes]:
    """A row of frames beside its name; returns their axes."""
    step, width = 0.1345, 0.1275
    height = width * WIDTH / HEIGHT
    label = figure.text(LEFT - 0.017, bottom + height / 2, name, rotation=90)
    label.set(color=COLORS[name], weight="bold", size=13, ha="center", va="center")
    row = []
    for column, index in enumerate(SHOWN):
        axes = figure.add_axes((LEFT + column * step, bottom, width, height))
        axes.imshow(clip.frames[index], interpolation="antialiased")
        axes.set(xticks=[], yticks=[])
        broken = name == "impossible" and index >= TELEPORT
        for spine in axes.spines.values():
            spine.set(visible=broken, color=COLORS[name], linewidth=2.4)
        if times:
            axes.set_title(f"{clip.times_s[index]:.2f} s", size=10.5, color=INK, pad=5)
        row.append(axes)
    return row


def draw_curves(figure: Figure, maps: dict[str, np.ndarray], fps: float) -> Axes:
    """Mean surprise of every token in time, at the middle of the frames that it covers."""
    axes = figure.add_axes((LEFT, 0.088, 0.585, TOP - 0.088))
    frames = len(maps["possible"])
    at = (np.arange(0, frames, TUBELET) + TUBELET / 2) / fps
    for name, values in maps.items():
        curve = values.mean(axis=(1, 2))[::TUBELET]
        axes.plot(at, curve, color=COLORS[name], linewidth=2.4, zorder=3, solid_capstyle="round")
        axes.fill_between(at, 0, curve, color=COLORS[name], alpha=0.12, linewidth=0, zorder=2)
    first = int(np.isnan(maps["possible"][:, 0, 0]).sum()) / fps
    axes.axvspan(0, first, color="#f2f2f2", linewidth=0)
    shares = axes.get_xaxis_transform()
    seen = axes.text(first / 2, 0.5, "first context:\nnothing predicted", transform=shares)
    seen.set(rotation=90, color=FAINT, size=9.5, ha="center", va="center", linespacing=1.4)
    axes.axvline(TELEPORT / fps, color=COLORS["impossible"], zorder=1, **MARK)
    moment = axes.text(TELEPORT / fps + 0.05, 0.955, "the green ball teleports")
    moment.set(transform=shares, color=COLORS["impossible"], size=10.5, va="center")
    axes.set_xlabel("time (s)", size=10.5, color=INK)
    axes.set(xlim=(0, frames / fps), ylim=(0, 0.031), xticks=range(5), yticks=[0, 0.01, 0.02, 0.03])
    axes.tick_params(labelsize=10, color=FAINT, labelcolor=INK, length=3)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(FAINT)
    head(axes, "When", "surprise over time")
    return axes


def note_scores(axes: Axes, scores: dict[str, Any]) -> None:
    """What the toolkit returns: a number for each video."""
    left, top, shares = 0.88, 0.955, axes.get_xaxis_transform()
    title = axes.text(left, top, "score (lower is more plausible)", transform=shares)
    title.set(color=FAINT, size=10, va="center")
    for line, (name, score) in enumerate(scores.items(), start=1):
        for x, text in ((left, name), (left + 0.75, f"{float(score):.4f}")):
            entry = axes.text(x, top - 0.1 * line, text, transform=shares)
            entry.set(color=COLORS[name], size=12.5, weight="bold", va="center")


def draw_map(figure: Figure, clip: Clip, maps: np.ndarray) -> None:
    """The frame of the teleport under its map, and the scale of colours."""
    width = 0.232
    height = width * WIDTH / HEIGHT
    axes = figure.add_axes((0.7, TOP - height, width, height))
    high = float(np.nanmax(maps))
    only = slice(TELEPORT, TELEPORT + 1)
    axes.imshow(heat_overlay(clip.frames[only], maps[only], vmin=0, vmax=high)[0])
    axes.set_axis_off()
    head(axes, "Where", f"surprise at {clip.times_s[TELEPORT]:.2f} s")
    scale = figure.add_axes((0.7 + width + 0.008, TOP - height, 0.011, height))
    scale.imshow(color_table()[:, None], aspect="auto", origin="lower", extent=(0, 1, 0, high))
    scale.set(xticks=[], yticks=np.arange(0, high, 0.1))
    scale.yaxis.tick_right()
    scale.tick_params(labelsize=9.5, color=FAINT, labelcolor=INK, length=3)
    for spine in scale.spines.values():
        spine.set_visible(False)


def head(axes: Axes, question: str, answer: str) -> None:
    """A heading at the left above the axes."""
    box = axes.get_position()
    figure = axes.get_figure()
    assert figure is not None
    bold = figure.text(box.x0, box.y1 + 0.016, question, size=12, color=INK, weight="bold")
    end = bold.get_window_extent().x1 / (100 * WIDTH)
    figure.text(end + 0.008, box.y1 + 0.016, answer, size=11, color=INK)


if __name__ == "__main__":
    main()
