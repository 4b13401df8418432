"""What guidance did, drawn over the steps of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any

from wmreward.errors import UsageError
from wmreward.pictures.extra import check_pictures
from wmreward.pictures.plot import named, write_figure


def plot_guidance(
    path: str | PathLike[str], steps: Sequence[Mapping[str, Any]], title: str
) -> None:
    """Reward before and after every guided step, and how much it changed the velocity; a PNG.

    Args:
        path: The picture.
        steps: The records of the guided steps, as they are in the JSON beside a video.
        title: Above it.

    Raises:
        UsageError: no step was guided.
        WMRewardError: it cannot be written.
    """
    if not steps:
        raise UsageError("guidance acted on no step: there is nothing to draw")
    check_pictures("--plot")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), dpi=160, layout="constrained")
    FigureCanvasAgg(figure)
    above, below = figure.subplots(2, sharex=True, height_ratios=(2, 1))
    calls = [step["call"] for step in steps]
    for key, name, color in (
        ("before", "before", "#888888"),
        ("after", "after", "#0072B2"),
        ("after_random", "random direction", "#D55E00"),
    ):
        if steps[0][key] is not None:
            values = [step[key] for step in steps]
            above.plot(calls, values, ".-", color=color, label=name, linewidth=1.2)
    for chunk in sorted({step["chunks"][0] for step in steps})[1:]:
        first = next(step["call"] for step in steps if step["chunks"][0] == chunk)
        above.axvline(first - 0.5, color="#cccccc", linewidth=0.8)
    above.set_title(named(title), loc="left", fontsize=11, parse_math=False)
    above.set_ylabel("reward of the estimate", fontsize=9)
    above.legend(frameon=False, fontsize=8)
    below.plot(calls, [100 * step["change"] for step in steps], ".-", color="#009E73")
    below.set_ylim(0, 120 * max(step["change"] for step in steps) or 1)
    below.set_ylabel("change of the\nvelocity (%)", fontsize=9)
    below.set_xlabel("guided step", fontsize=9)
    for axes in (above, below):
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    write_figure(path, figure)
