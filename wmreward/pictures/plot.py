"""Surprise over time, with the frames that it speaks of under the curve."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from wmfiles import printable
from wmreward.errors import UsageError
from wmreward.files import atomic_path
from wmreward.pictures.colors import LINES
from wmreward.pictures.extra import check_pictures
from wmreward.video.types import UInt8Array

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_GREY, _INK = "#777777", "#222222"
_WIDTH, _CURVE, _STILLS, _LEGEND = 9.0, 3.3, 1.0, 0.24
"""Inches: of the picture, of the curve, of a row of frames, of a line of the legend."""
MOST_STILLS = 8
LONGEST_NAME = 60
"""Characters of a name that are shown."""


@dataclass(frozen=True, eq=False)
class Curve:
    """The surprise of one video.

    Attributes:
        label: Its name.
        score: The surprise of the whole video.
        spans: float ``[W, 2]``, start and end of the frames that each window predicts, in seconds or frames.
        per_window: float ``[W]``, surprise of each window.
        stills: uint8 ``[N, h, w, 3]``, frames to show under the curve, or None.
        still_times: float ``[N]``, when they are shown; :func:`still_times` gives times that leave no gaps.
    """

    label: str
    score: float
    spans: NDArray[np.floating[Any]]
    per_window: NDArray[np.floating[Any]]
    stills: UInt8Array | None = None
    still_times: NDArray[np.floating[Any]] | None = None

    def __post_init__(self) -> None:
        spans, values = np.shape(self.spans), np.shape(self.per_window)
        if len(values) != 1 or not values[0] or spans != (*values, 2):
            raise UsageError(
                f"{self.label}: need spans [W, 2] and per_window [W] with W of 1 or more, got "
                f"{list(spans)} and {list(values)}"
            )


def surprise_figure(
    curves: Sequence[Curve], *, title: str = "", note: str = "", seconds: bool = True
) -> Figure:
    """A Matplotlib figure: a point for each window in the middle of what it predicts, a bar over its length.

    Args:
        curves: One video, or several in the same axes.
        title: Above the plot; for one video its name by default.
        note: What was measured with, in small letters at the foot.
        seconds: Whether ``spans`` are seconds; else frame numbers.

    Raises:
        UsageError: there is no curve, or the extra ``plot`` is missing.
    """
    check_pictures("a plot")
    if not curves:
        raise UsageError("a plot needs a scored video")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = [curve for curve in curves if curve.stills is not None and len(curve.stills)]
    heights = [_CURVE, *[_STILLS] * len(shown)]
    legend = _LEGEND * len(curves) if len(curves) > 1 else 0
    figure = Figure(
        figsize=(_WIDTH, sum(heights) + 0.6 + legend), dpi=150, layout="constrained", facecolor="w"
    )
    FigureCanvasAgg(figure)
    rows = figure.subplots(len(heights), 1, height_ratios=heights, squeeze=False, sharex=True)[:, 0]
    colors = [LINES[place % len(LINES)] for place in range(len(curves))]
    handles = [_draw(rows[0], *drawn) for drawn in zip(curves, colors, strict=True)]
    end = max(float(np.max(curve.spans)) for curve in curves)
    rows[0].set_xlim(0, end)
    if all(np.nan_to_num(curve.per_window).min() >= 0 for curve in curves):
        rows[0].set_ylim(bottom=0)
    _style(rows[0], title or (curves[0].label if len(curves) == 1 else "surprise over time"))
    first = min(float(np.min(curve.spans)) for curve in curves)
    _explain_context(rows[0], first, end)
    if len(curves) == 1:
        _note_score(rows[0], curves[0].score)
    for axes, curve in zip(rows[1:], shown, strict=True):
        color = colors[curves.index(curve)] if len(curves) > 1 else _INK
        _draw_stills(axes, curve, end, color)
    rows[-1].set_xlabel("time (s)" if seconds else "frame", fontsize=9)
    if len(curves) > 1:
        _add_legend(figure, handles, curves)
    foot = "each bar: the frames that one window predicts; the point: how far the prediction is off"
    figure.supxlabel(f"{note}\n{foot}" if note else foot, fontsize=7.5, color=_GREY)
    return figure


def still_times(end: float, count: int = MOST_STILLS) -> NDArray[np.float64]:
    """The middles of equal parts of a video that ends at ``end``: frames shown there fill the row."""
    return (np.arange(count) + 0.5) * end / count


def named(label: str) -> str:
    """A name as it fits into a chart: one that is too wide would leave no room for the curve."""
    return printable(label if len(label) <= LONGEST_NAME else f"{label[: LONGEST_NAME - 1]}…")


def write_figure(path: str | os.PathLike[str], figure: Figure) -> None:
    """Write a figure as a PNG, whole or not at all.

    Raises:
        UsageError: the name ends in something else.
        WMRewardError: it cannot be written.
    """
    if Path(path).suffix.lower() != ".png":
        raise UsageError(
            f"{path}: a picture is written as a PNG, so its name ends in .png; a figure's own savefig "
            "writes other kinds"
        )
    with atomic_path(path) as temporary, warnings.catch_warnings():
        # Names in scripts that the font lacks come out as boxes; that is no news to a user.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(temporary, format="png")


def _draw(axes: Any, curve: Curve, color: str) -> Any:
    """Draw one video; returns the artist for the legend."""
    spans, values = np.asarray(curve.spans, float), np.asarray(curve.per_window, float)
    centers = spans.mean(axis=1)
    # Windows of another frame stride begin anew: the line is broken there.
    anew = np.flatnonzero(np.diff(centers) < 0) + 1
    centers, heights = (np.insert(side, anew, np.nan) for side in (centers, values))
    (line,) = axes.plot(centers, heights, "o-", color=color, linewidth=1.4, markersize=3, zorder=3)
    axes.hlines(values, spans[:, 0], spans[:, 1], color=color, linewidth=3, alpha=0.3, zorder=2)
    if np.isfinite(curve.score):
        axes.axhline(
            curve.score, color=color, linewidth=1, linestyle=(0, (5, 4)), alpha=0.8, zorder=1
        )
    return line


def _explain_context(axes: Any, first: float, end: float) -> None:
    """The frames before the first prediction are shaded."""
    if first <= 0:
        return
    axes.axvspan(0, first, color="#f2f2f2", linewidth=0, zorder=0)
    if first > 0.03 * end:
        axes.text(
            *(first / 2, 0.5, "context: nothing predicted"),
            transform=axes.get_xaxis_transform(),
            rotation=90,
            ha="center",
            va="center",
            fontsize=7,
            color=_GREY,
        )


def _note_score(axes: Any, score: float) -> None:
    """The number at the top right, with the way to read it."""
    text = f"surprise {score:.4f}   (lower is more plausible)"
    axes.set_title(text, fontsize=9, loc="right", color=_INK)


def _draw_stills(axes: Any, curve: Curve, end: float, color: str) -> None:
    """Frames in a row under the curve, each around its time, none over another."""
    assert curve.stills is not None and curve.still_times is not None
    axes.set(yticks=[], ylim=(0, 1))
    axes.tick_params(labelsize=8, length=3, color=_GREY)
    axes.spines[["top", "left", "right"]].set_visible(False)
    height, width = curve.stills.shape[1:3]
    room = end / min(len(curve.stills), MOST_STILLS)
    # How much of the axis a frame of full height takes.
    wide = min(0.94 * room, end * (_STILLS * width / height) / (0.92 * _WIDTH))
    tall = min(1.0, wide / (end * (_STILLS * width / height) / (0.92 * _WIDTH)))
    for still, time in zip(curve.stills, curve.still_times, strict=True):
        left = min(max(float(time) - wide / 2, 0), end - wide)
        axes.imshow(still, extent=(left, left + wide, 1 - tall, 1), aspect="auto", zorder=2)
        axes.plot([time, time], [0, 1 - tall], color=color, linewidth=0.8, zorder=1)
    axes.set_xlim(0, end)
    axes.set_ylabel(named(curve.label) if color != _INK else "", fontsize=7, color=color)


def _add_legend(figure: Any, handles: Sequence[Any], curves: Sequence[Curve]) -> None:
    """Below the axes, where it cannot cover a curve; the most plausible first."""
    order = sorted(range(len(curves)), key=lambda place: curves[place].score)
    names = [f" {named(curves[i].label)}   surprise {curves[i].score:.4f}" for i in order]
    legend = figure.legend(
        *([handles[i] for i in order], names),
        loc="outside upper left",
        frameon=False,
        fontsize=8,
        title="lower is more plausible",
        title_fontsize=8,
        alignment="left",
    )
    for text in legend.get_texts():
        text.set_parse_math(False)


def _style(axes: Any, title: str) -> None:
    axes.set_title(named(title), fontsize=11, loc="left", parse_math=False)
    axes.set_ylabel("surprise", fontsize=9)
    axes.tick_params(labelsize=8, length=3, color=_GREY)
    axes.grid(axis="y", color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_GREY)
    axes.margins(y=0.12)
