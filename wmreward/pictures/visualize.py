"""Pictures of surprise: heat maps over frames, videos that show where and when, and plots.

Everything takes plain arrays. Maps may hold NaN where nothing was predicted (the first frames of a
video are context only); there the picture is shown without a heat map.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wmreward.errors import UsageError
from wmreward.files import atomic_path
from wmreward.video_io import write_video

UInt8Array = NDArray[np.uint8]
Floats = NDArray[np.floating[Any]]

# Every 15th entry of the perceptually uniform "inferno" map (S. van der Walt and N. Smith, CC0);
# linear interpolation stays within 2 % of it.
_INFERNO = (
    *((0, 0, 4), (10, 7, 34), (30, 12, 69), (56, 9, 98), (81, 14, 108), (105, 22, 110)),
    *((128, 31, 108), (152, 39, 102), (176, 49, 91), (198, 61, 77), (217, 77, 61), (233, 97, 43)),
    *((244, 121, 24), (250, 148, 7), (252, 176, 20), (248, 205, 55), (242, 234, 105)),
    (252, 255, 164),
)

_BACKGROUND = (17, 17, 20)
_CURSOR = (255, 255, 255)
_MIN_HEIGHT = 256


def color_table() -> UInt8Array:
    """The colours of a surprise from low to high: uint8 [256, 3], black to violet, red, yellow."""
    knots = np.array(_INFERNO, dtype=np.float64)
    at = np.linspace(0, len(knots) - 1, 256)
    channels = [np.interp(at, np.arange(len(knots)), knots[:, c]) for c in range(3)]
    return np.stack(channels, axis=1).round().astype(np.uint8)


def heat_overlay(
    frames: UInt8Array,
    maps: Floats,
    vmin: float | None = None,
    vmax: float | None = None,
    alpha: float = 0.85,
) -> UInt8Array:
    """Lay surprise maps over frames so that both can be seen.

    The frame turns grey, and colour comes in with the surprise: unsurprising places stay clear,
    surprising ones glow.

    Args:
        frames: uint8 [T, H, W, 3], RGB.
        maps: float [T, h, w], usually the token grid; enlarged bilinearly.
        vmin: value shown as the lowest colour; the smallest of `maps` by default.
        vmax: value shown as the highest colour; the largest of `maps` by default.
        alpha: opacity of the highest colour, 0 to 1.

    Returns:
        uint8 [T, H, W, 3].

    Raises:
        UsageError: if shapes do not fit, or `vmin`, `vmax` or `alpha` make no range.
    """
    frames, maps = _checked(frames, maps)
    low, high = _value_range(maps, vmin, vmax)
    _check_alpha(alpha)
    pairs = zip(frames, maps, strict=True)
    return np.stack([_overlay(frame, _levels(m, low, high), alpha) for frame, m in pairs])


def surprise_map_video(
    path_out: str | os.PathLike[str],
    frames: UInt8Array,
    maps: Floats,
    fps: float,
    per_frame_curve: ArrayLike | None = None,
    *,
    vmin: float | None = None,
    vmax: float | None = None,
    alpha: float = 0.85,
) -> None:
    """Write a video of the original beside its heat map, over a time line of the surprise.

    To the right stands the colour scale from `vmin` (bottom) to `vmax` (top). The time line spans
    the whole clip, from the curve's smallest to its largest value; a cursor marks the frame shown.
    Videos lower than 256 pixels are enlarged by a whole factor.

    Args:
        path_out: ends in .mp4, .mov or .mkv.
        frames: uint8 [T, H, W, 3], RGB.
        maps: float [T, h, w].
        fps: frames per second of the video written.
        per_frame_curve: float [T], NaN where unknown; by default the mean of each map.
        vmin, vmax, alpha: as in `heat_overlay`.

    Raises:
        UsageError: as `heat_overlay`, or if the curve is not of length T.
        WMRewardError: if the video cannot be written.
    """
    frames, maps = _checked(frames, maps)
    low, high = _value_range(maps, vmin, vmax)
    _check_alpha(alpha)
    curve = _mean_curve(maps) if per_frame_curve is None else np.asarray(per_frame_curve, float)
    if curve.shape != (len(frames),):
        raise UsageError(
            f"per_frame_curve must have one value per frame, got {list(curve.shape)} values "
            f"for {len(frames)} frames"
        )
    write_video(path_out, _pages(frames, maps, curve, (low, high), alpha), fps)


def plot_surprise(
    path_png: str | os.PathLike[str],
    windows: ArrayLike,
    per_window: ArrayLike,
    *,
    title: str,
    seconds: bool = True,
    label: str = "this video",
    compare: Mapping[str, tuple[ArrayLike, ArrayLike]] | None = None,
) -> None:
    """Plot surprise over time: a bar for each window over the frames it predicts, and the mean.

    Args:
        path_png: the picture to write.
        windows: float [W, 2], start and end of each window's predicted frames.
        per_window: float [W], surprise of each window.
        title: above the plot; usually the name of the video.
        seconds: whether `windows` are seconds; else frame numbers.
        label: name of this video in the legend, shown where there are others.
        compare: more videos to draw in the same axes: name to (windows, per_window).

    Raises:
        UsageError: if shapes do not fit, or matplotlib is not installed.
        WMRewardError: if the picture cannot be written.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.layout_engine import ConstrainedLayoutEngine
    except ImportError as error:
        raise UsageError(
            "plots need matplotlib, which is not installed: pip install 'wmreward[plot]'"
        ) from error
    named = [(label, windows, per_window)]
    named += [(name, *values) for name, values in (compare or {}).items()]
    series = [(name, *_checked_windows(name, *values)) for name, *values in named]
    layout = ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.06)
    figure = Figure(figsize=(8, 3.6), dpi=160, layout=layout)
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    handles = [
        _draw_series(axes, spans, values, color)
        for (_, spans, values), color in zip(series, _line_colors(len(series)), strict=True)
    ]
    _style(axes, title, "time (s)" if seconds else "frame")
    if len(series) == 1:
        _note_mean(axes, _mean(series[0][2]))
    else:
        names = [f"{name} (mean {_mean(values):.3f})" for name, _, values in series]
        _add_legend(figure, handles, names)
    with atomic_path(path_png) as temporary, warnings.catch_warnings():
        # Names in scripts that the font lacks come out as boxes; that is no news to a user.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(temporary, format="png")


# --- heat maps ----------------------------------------------------------------------------------


def _checked(frames: ArrayLike, maps: ArrayLike) -> tuple[UInt8Array, Floats]:
    pictures, values = np.asarray(frames), np.asarray(maps, dtype=np.float64)
    fits = pictures.ndim == 4 and pictures.shape[-1] == 3 and pictures.dtype == np.uint8
    if not fits or values.ndim != 3 or len(values) != len(pictures) or 0 in pictures.shape:
        raise UsageError(
            "need frames uint8 [T, H, W, 3] and maps [T, h, w], got "
            f"{pictures.dtype} {list(pictures.shape)} and {list(values.shape)}"
        )
    return pictures, values


def _check_alpha(alpha: float) -> None:
    if not 0 <= alpha <= 1:
        raise UsageError(f"alpha must lie between 0 and 1, got {alpha}")


def _value_range(maps: Floats, vmin: float | None, vmax: float | None) -> tuple[float, float]:
    known = maps[np.isfinite(maps)]
    if not known.size:
        known = np.zeros(1)
    low = float(known.min()) if vmin is None else float(vmin)
    high = float(known.max()) if vmax is None else float(vmax)
    if vmin is not None and vmax is not None and not low < high:
        raise UsageError(f"vmin must be below vmax, got {vmin} and {vmax}")
    return low, max(high, low + 1e-12)  # a flat map is all at the lowest colour


def _levels(values: Floats, low: float, high: float) -> Floats:
    """Values to 0..1 (NaN stays)."""
    return np.clip((values - low) / (high - low), 0.0, 1.0)


def _overlay(frame: UInt8Array, levels: Floats, alpha: float) -> UInt8Array:
    """One frame [H, W, 3] under levels [h, w] in 0..1; where they are NaN the frame shows as is."""
    height, width = frame.shape[:2]
    known = _enlarge(np.isfinite(levels).astype(np.float64), height, width)
    level = _enlarge(np.nan_to_num(levels, nan=0.0), height, width)
    colors = color_table()[(level * 255).round().astype(np.intp)]
    grey = frame @ np.array([0.299, 0.587, 0.114])
    # The dark end of the colours would hide the picture, so opacity grows with the level, at
    # first a little faster, to let middling surprise be seen as well.
    opacity = (alpha * level**0.75)[..., None]
    mixed = grey[..., None] * (1 - opacity) + colors * opacity
    shown = frame + (mixed - frame) * known[..., None]
    return np.clip(shown.round(), 0, 255).astype(np.uint8)


def _enlarge(values: Floats, height: int, width: int) -> Floats:
    """Bilinear, with the centres of the outer cells as the border (align_corners=False)."""
    rows = _interpolation(values.shape[0], height)
    columns = _interpolation(values.shape[1], width)
    return rows @ values @ columns.T


def _interpolation(size: int, new_size: int) -> Floats:
    """Weights [new_size, size] of linear interpolation between cell centres."""
    at = np.clip((np.arange(new_size) + 0.5) * size / new_size - 0.5, 0, size - 1)
    return np.maximum(0.0, 1 - np.abs(at[:, None] - np.arange(size)))


# --- the video ----------------------------------------------------------------------------------


def _mean_curve(maps: Floats) -> Floats:
    known = np.isfinite(maps)
    count = known.sum(axis=(1, 2))
    total = np.where(known, maps, 0.0).sum(axis=(1, 2))
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _pages(
    frames: UInt8Array, maps: Floats, curve: Floats, limits: tuple[float, float], alpha: float
) -> Iterator[UInt8Array]:
    """The finished pictures, one by one, so that long videos fit in memory."""
    factor = -(-_MIN_HEIGHT // frames.shape[1])
    height, width = frames.shape[1] * factor, frames.shape[2] * factor
    gap = max(4, height // 48)
    bar = _color_bar(height, max(8, height // 28))
    strip_width = 2 * width + 2 * gap + bar.shape[1]
    strip = _time_line(curve, strip_width, max(40, height // 5))
    page = np.full((height + 3 * gap + len(strip), strip_width + 2 * gap, 3), _BACKGROUND, np.uint8)
    top, left = slice(gap, gap + height), gap
    page[top, left + 2 * (width + gap) : -gap] = bar
    for index, frame in enumerate(frames):
        large = frame.repeat(factor, axis=0).repeat(factor, axis=1)
        page[top, left : left + width] = large
        second = left + width + gap
        page[top, second : second + width] = _overlay(large, _levels(maps[index], *limits), alpha)
        page[-gap - len(strip) : -gap, gap:-gap] = _with_cursor(strip, index, len(frames))
        yield page


def _color_bar(height: int, width: int) -> UInt8Array:
    levels = np.linspace(255, 0, height).round().astype(np.intp)
    return np.repeat(color_table()[levels][:, None], width, axis=1)


def _time_line(curve: Floats, width: int, height: int) -> UInt8Array:
    """The curve as a filled area coloured by height, uint8 [height, width, 3]."""
    known = np.isfinite(curve)
    background = np.array(_BACKGROUND, dtype=np.float64) + 12
    strip = np.broadcast_to(background, (height, width, 3)).copy()
    if not known.any():
        return strip.round().astype(np.uint8)
    low, high = _value_range(curve, None, None)
    at = (np.arange(width) + 0.5) * len(curve) / width - 0.5
    frame = np.clip(at.round().astype(np.intp), 0, len(curve) - 1)
    level = np.interp(at, np.flatnonzero(known), _levels(curve[known], low, high))
    # The lowest value keeps a foot of its own, so that "low" and "unknown" look different.
    tall = np.where(known[frame], height * (0.06 + 0.88 * level), 0.0)
    rows = np.arange(height)[::-1, None]
    coverage = np.clip(tall - rows, 0.0, 1.0)[..., None]  # a soft upper edge
    colors = color_table()[(60 + 180 * level).astype(np.intp)]
    return (strip + (colors - strip) * coverage).round().astype(np.uint8)


def _with_cursor(strip: UInt8Array, index: int, count: int) -> UInt8Array:
    """What is still to come is dimmed; a line stands at the frame shown."""
    height, width = strip.shape[:2]
    center = (index + 0.5) * width / count
    thickness = max(2, height // 24)
    left = int(np.clip(center - thickness / 2, 0, width - thickness))
    marked = strip.copy()
    future = marked[:, left:].astype(np.float64)
    marked[:, left:] = (np.array(_BACKGROUND) + 0.4 * (future - _BACKGROUND)).clip(0, 255)
    marked[:, left : left + thickness] = _CURSOR
    return marked


# --- the plot -----------------------------------------------------------------------------------


def _checked_windows(name: str, windows: ArrayLike, per_window: ArrayLike) -> tuple[Floats, Floats]:
    spans, values = np.asarray(windows, float), np.asarray(per_window, float)
    if spans.shape != (len(values), 2) or values.ndim != 1 or not len(values):
        raise UsageError(
            f"{name}: need windows [W, 2] and per_window [W] with W of 1 or more, got "
            f"{list(spans.shape)} and {list(values.shape)}"
        )
    return spans, values


def _line_colors(count: int) -> Sequence[str]:
    """Colours that colour-blind readers can tell apart (Okabe and Ito), repeated if need be."""
    palette = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#333333")
    return [palette[i % len(palette)] for i in range(count)]


def _draw_series(axes: Any, spans: Floats, values: Floats, color: str) -> Any:
    """Draw one video; returns the artist for the legend."""
    centers = spans.mean(axis=1)
    (line,) = axes.plot(centers, values, color=color, linewidth=1.2, zorder=3)
    axes.hlines(values, spans[:, 0], spans[:, 1], color=color, linewidth=3, alpha=0.35, zorder=2)
    axes.plot(centers, values, "o", color=color, markersize=3, zorder=4)
    axes.axhline(
        _mean(values), color=color, linewidth=1, linestyle=(0, (5, 4)), alpha=0.8, zorder=1
    )
    return line


def _mean(values: Floats) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else float("nan")


def _note_mean(axes: Any, mean: float) -> None:
    """The number at the right end of the mean line, outside the axes."""
    if not np.isfinite(mean):
        return
    axes.annotate(
        f"mean {mean:.3f}",
        xy=(1, mean),
        xycoords=("axes fraction", "data"),
        xytext=(4, 0),
        textcoords="offset points",
        va="center",
        fontsize=8,
    )


def _add_legend(figure: Any, handles: Sequence[Any], names: Sequence[str]) -> None:
    """Below the axes, where it cannot cover a curve."""
    legend = figure.legend(
        handles,
        # A space in front keeps matplotlib from hiding names that start with an underscore.
        [f" {name}" for name in names],
        loc="outside lower left",
        ncols=1 if max(map(len, names)) > 40 else min(len(names), 3),
        frameon=False,
        fontsize=8,
    )
    for text in legend.get_texts():
        text.set_parse_math(False)


def _style(axes: Any, title: str, x_label: str) -> None:
    axes.set_title(title, fontsize=11, loc="left", parse_math=False)
    axes.set_xlabel(x_label, fontsize=9)
    axes.set_ylabel("surprise", fontsize=9)
    axes.tick_params(labelsize=8, length=3, color="#888888")
    axes.grid(axis="y", color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color("#888888")
    axes.margins(x=0.02, y=0.12)
