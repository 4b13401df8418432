"""Drawings of the page as SVG text; colours come from the page's style sheet."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

_WIDTH, _LEFT, _RIGHT = 560, 92, 24
_BINS = 36


def histogram(scores: Mapping[str, Sequence[float]]) -> str:
    """How scores spread: a row of bars for each name, over one axis."""
    everything = [value for values in scores.values() for value in values]
    if not everything:
        return ""
    low, high = _padded(min(everything), max(everything))
    edges = np.linspace(low, high, _BINS + 1)
    counts = {name: np.histogram(values, edges)[0] for name, values in scores.items()}
    most = max(int(count.max()) for count in counts.values())
    row, gap, bottom = 64, 14, 30
    height = len(scores) * (row + gap) + bottom
    parts = []
    for index, (name, count) in enumerate(counts.items()):
        base = index * (row + gap) + row + 4
        parts.append(_row_label(name, len(scores[name]), base - row / 2))
        for bar in np.flatnonzero(count):
            x, next_x = (_x(edges[bar + side], low, high) for side in (0, 1))
            tall = max(1.5, row * int(count[bar]) / most)
            parts.append(
                f'<rect class="c{index}" x="{x + 0.5:.1f}" y="{base - tall:.1f}" '
                f'width="{next_x - x - 1:.1f}" height="{tall:.1f}">'
                f"<title>{edges[bar]:.4g} to {edges[bar + 1]:.4g}: {count[bar]}</title></rect>"
            )
        if len(scores[name]):
            mean = _x(float(np.mean(scores[name])), low, high)
            parts.append(
                f'<path class="mean" d="M{mean:.1f} {base - row}V{base}"/>'
                f'<path class="axis" d="M{_LEFT} {base + 0.5}H{_WIDTH - _RIGHT}"/>'
            )
    parts += _ticks(low, high, height - bottom + 4)
    told = "; ".join(
        f"{name}: {len(values)} candidates, mean {np.mean(values):.4g}"
        for name, values in scores.items()
        if len(values)
    )
    return _svg(f"Histogram of scores. {told}", height, parts)


def lines(series: Mapping[str, Sequence[float]]) -> str:
    """Values for n = 1, 2, …, a line for each name."""
    series = {name: values for name, values in series.items() if len(values) > 1}
    if not series:
        return ""
    everything = [value for values in series.values() for value in values]
    low, high = _padded(min(everything), max(everything))
    longest = max(map(len, series.values()))
    height, bottom, top = 214, 30, 10

    def y(value: float) -> float:
        return top + (height - top - bottom) * (high - value) / (high - low)

    def x(n: int) -> float:
        return _x(math.log2(n), 0, math.log2(longest))

    parts = [
        f'<path class="grid" d="M{_LEFT} {y(value):.1f}H{_WIDTH - _RIGHT}"/>'
        f'<text class="tick" x="{_LEFT - 8}" y="{y(value) + 5:.1f}" text-anchor="end">{told}</text>'
        for value, told in _nice(low, high, 6)
    ]
    parts += [
        f'<text class="tick" x="{x(n):.1f}" y="{height - 9}" text-anchor="middle">{n}</text>'
        for n in sorted({2**power for power in range(int(math.log2(longest)) + 1)} | {longest})
        if n == longest or n <= longest * 0.85
    ]
    for index, (name, values) in enumerate(series.items()):
        points = " ".join(f"{x(n):.1f},{y(value):.1f}" for n, value in enumerate(values, 1))
        parts.append(
            f'<polyline class="l{index}" points="{points}"><title>{escape(name)}</title></polyline>'
        )
        parts += [
            f'<circle class="c{index}" cx="{x(n):.1f}" cy="{y(value):.1f}" r="2.6">'
            f"<title>{escape(name)}, best of {n}: {value:.4g}</title></circle>"
            for n, value in enumerate(values, 1)
        ]
    told = "; ".join(f"{name}: {v[0]:.4g} to {v[-1]:.4g}" for name, v in series.items())
    return _svg(f"Expected score of the best of n candidates. {told}", height, parts)


def _svg(label: str, height: float, parts: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height:g}" role="img" aria-label="{escape(label)}">'
        f"{''.join(parts)}</svg>"
    )


def _row_label(name: str, count: int, y: float) -> str:
    short = name if len(name) <= 10 else name[:9] + "…"
    return (
        f'<text x="{_LEFT - 8}" y="{y:.1f}" text-anchor="end">{escape(short)}</text>'
        f'<text class="tick" x="{_LEFT - 8}" y="{y + 18:.1f}" text-anchor="end">{count}</text>'
    )


def _ticks(low: float, high: float, y: float) -> list[str]:
    return [
        f'<text class="tick" x="{_x(value, low, high):.1f}" y="{y + 15:.1f}" text-anchor="middle">'
        f"{told}</text>"
        for value, told in _nice(low, high, 6)
    ]


def _x(value: float, low: float, high: float) -> float:
    return _LEFT + (_WIDTH - _LEFT - _RIGHT) * (value - low) / (high - low)


def _padded(low: float, high: float) -> tuple[float, float]:
    room = (high - low) * 0.04 or abs(low) * 0.1 or 1.0
    return low - room, high + room


def _nice(low: float, high: float, count: int) -> list[tuple[float, str]]:
    """Round numbers from ``low`` to ``high``, about ``count`` of them, all told to the same decimal."""
    raw = (high - low) / count
    power = math.floor(math.log10(raw))
    factor = next(m for m in (1, 2, 5, 10) if 10.0**power * m >= raw)
    step = factor * 10.0**power
    decimals = max(0, -power - (factor == 10))
    values = [n * step for n in range(math.ceil(low / step), math.floor(high / step) + 1)]
    return [(value, f"{value:.{decimals}f}".replace("-", "−")) for value in values]
