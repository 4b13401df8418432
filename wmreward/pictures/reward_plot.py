"""When candidates are implausible: a panel for each reward that knows, candidates in the same axes."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from wmreward.errors import UsageError
from wmreward.pictures.colors import LINES
from wmreward.pictures.extra import check_pictures
from wmreward.pictures.plot import named, write_figure

MOST_LINES = len(LINES)
"""Candidates that are drawn: more could not be told apart."""

_WIDTH, _PANEL = 9.0, 2.6
"""Inches."""


@dataclass(frozen=True)
class Line:
    """A candidate by one reward.

    Attributes:
        label: Its name.
        frames: Where the values lie, in frames of the video that was judged.
        values: Higher is less plausible.
    """

    label: str
    frames: Sequence[float]
    values: Sequence[float]


def plot_rewards(
    path: str | os.PathLike[str], panels: Mapping[str, Sequence[Line]], *, title: str = ""
) -> None:
    """Draw a PNG.

    Args:
        path: The picture.
        panels: By what stands at the axis, candidates in their order; the same label is the same colour.
        title: Above it.

    Raises:
        UsageError: there is no curve, or the extra ``plot`` is missing.
        WMRewardError: it cannot be written.
    """
    check_pictures("a plot")
    if not any(panels.values()):
        raise UsageError("there is no curve to draw")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    labels = list(dict.fromkeys(line.label for lines in panels.values() for line in lines))
    colors = dict(zip(labels, LINES, strict=False))
    height = _PANEL * len(panels) + 0.24 * len(labels) + 0.5
    figure = Figure(figsize=(_WIDTH, height), dpi=150, layout="constrained", facecolor="w")
    FigureCanvasAgg(figure)
    rows = figure.subplots(len(panels), 1, squeeze=False, sharex=True)[:, 0]
    handles = {}
    for axes, (heading, lines) in zip(rows, panels.items(), strict=True):
        for line in lines:
            frames, values = np.asarray(line.frames, float), np.asarray(line.values, float)
            # Windows of another frame stride begin anew: the line is broken there.
            anew = np.flatnonzero(np.diff(frames) < 0) + 1
            frames, values = (np.insert(side, anew, np.nan) for side in (frames, values))
            style = {"color": colors[line.label], "linewidth": 1.4, "markersize": 3}
            (handles[line.label],) = axes.plot(frames, values, "o-", **style)
        axes.set_ylabel(heading, fontsize=9)
        axes.tick_params(labelsize=8)
        axes.grid(axis="y", color="#e6e6e6", linewidth=0.8)
        axes.spines[["top", "right"]].set_visible(False)
    rows[0].set_title(named(title), loc="left", fontsize=11, parse_math=False)
    rows[-1].set_xlabel("frame", fontsize=9)
    legend = figure.legend(
        *([handles[label] for label in labels], [f" {named(label)}" for label in labels]),
        loc="outside upper left",
        frameon=False,
        fontsize=8,
        title="the best first; high where less plausible",
        title_fontsize=8,
        alignment="left",
    )
    for text in legend.get_texts():
        text.set_parse_math(False)
    write_figure(path, figure)
