"""The record of `physics_repair` as markdown tables, and its pictures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from benchmarks.generator_quality.report import table
from benchmarks.physics_repair.parts import Part
from benchmarks.physics_repair.rows import COLUMNS, GAPS, GUIDED, PLAIN, chosen
from benchmarks.physics_repair.scores import sets
from simworld.media import contact_sheet

Estimated = Mapping[str, float | None]

SECOND_ABSENT = "none: its columns are empty until --second_weights gives one"
HEADS = {
    "physics": "physics ↑",
    "sharp": "sharp →1",
    "both": "both Δ",
}
LEGEND = """\
*physics*: Physics-IQ's Original score (0 … 100) against the simulated future, which repeats exactly;
*position*: distance of objects in picture widths, 0.35 for a missing one; *placed*: of those found;
*both Δ*: change of the distance of objects found both here and in the plain clip; *miss*: share of
objects not found; *motion*, *union*: squared error where the truth moves, and where either does; *sharp*:
edges relative to the truth's; *plain*, *excess*: surprise of the world model that guides and chooses,
*second …*: of another one; *top*: of the most surprising tokens; *seam*: the same, half of it in the one
window that is seen in given frames and predicted in new ones. Brackets are 95 % bootstrap intervals over
scenes; differences and gaps are paired, **bold** where the interval is clear of zero. *time*, *memory*: one
result over a plain one. *gap*: share of the way from the mean plain candidate to the best one, chosen by
that very measure."""


def _digits(value: float) -> str:
    size = abs(value)
    return f"{value:.1f}" if size >= 10 else f"{value:.3f}" if size >= 0.1 else f"{value:.4f}"


def _cell(estimate: Estimated | None) -> str:
    if estimate is None or estimate["value"] is None:
        return "–"
    value, low, high = (estimate[key] or 0.0 for key in ("value", "low", "high"))
    if low == high:
        return _digits(value)
    return f"{_digits(value)} [{_digits(low)}, {_digits(high)}]"


def _difference(estimate: Estimated | None) -> str:
    text = _cell(estimate)
    if estimate is None or estimate["value"] is None:
        return text
    low, high = estimate["low"] or 0.0, estimate["high"] or 0.0
    text = text if text.startswith("-") else f"+{text}"
    return f"**{text}**" if low > 0 or high < 0 else text


def _ratio(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def task_tables(name: str, task: Mapping[str, Any]) -> list[str]:
    """Values, differences to plain with gaps, and comparisons."""
    rows = task["rows"]
    heads = [HEADS.get(c, c) for c in COLUMNS]
    values = {
        title: [
            *(_cell(row["values"].get(c)) for c in COLUMNS),
            _ratio(row["time"]),
            _ratio(row["memory"]),
        ]
        for title, row in rows.items()
    }
    differences = {
        title: [
            *(_difference(row["differences"].get(c)) for c in COLUMNS),
            *(_difference(row["gap"].get(c)) for c in GAPS),
        ]
        for title, row in rows.items()
        if title != PLAIN
    }
    gaps = [f"gap {c}" for c in GAPS]
    texts = [
        table(f"{name}: values", [*heads, "time", "memory"], values),
        table(f"{name}: less plain", [*heads, *gaps], differences),
    ]
    if task["comparisons"]:
        pairs = {
            title: [_difference(pair.get(c)) for c in COLUMNS]
            for title, pair in task["comparisons"].items()
        }
        texts.append(table(f"{name}: comparisons", heads, pairs))
    texts += [f"{title}: {told}" for title, told in task["effects"].items()]
    return texts


def report(record: Mapping[str, Any]) -> str:
    """All tables of a record, with a head that says what was measured on what."""
    keys = ("scenes", "candidates", "null_candidates", "seed", "rule")
    head = ", ".join(f"{key} {record[key]}" for key in keys)
    where = f"{record['machine']}, torch {record['torch']}, Python {record['python']}"
    parts = [
        f"{head}; {where}",
        f"generator: {record['generator']}",
        f"world model: {record['world_model']}; second: {record['second'] or SECOND_ABSENT}",
        f"guidance: {record['guidance']}",
        LEGEND,
    ]
    for name, task in record["tasks"].items():
        parts += task_tables(name, task)
    return "\n\n".join(parts)


def tuning_table(results: Mapping[str, Mapping[str, Any]]) -> str:
    """Settings as they were sorted, with paired differences to plain."""
    columns = [c for c in COLUMNS if any(c in r["differences"] for r in results.values())]
    rows = {
        title: [
            "yes" if result["passes"] else "no",
            "–" if result["gain"] is None else f"{100 * result['gain']:+.1f} %",
            *(_difference(result["differences"].get(c)) for c in columns),
            _ratio(result["time"]),
        ]
        for title, result in results.items()
    }
    return table(
        "guidance, less plain",
        ["passes", "gain", *(HEADS.get(c, c) for c in columns), "time"],
        rows,
    )


def pictures(truth: Tensor, parts: Mapping[str, Part], rule: str) -> tuple[Tensor, list[str]]:
    """A sheet [3, H, W] of the first scenes, and what its rows show: truth, plain, guided, best, oracle.

    Args:
        truth: Kept frames of the true future, uint8 [n, 3, t, H, W].
        parts: Of one task.
        rule: What the best is chosen by.
    """
    plain = parts[PLAIN]
    shown = {"truth": truth, "plain": plain.strips[:, 0]}
    if GUIDED in parts:
        shown["guided"] = parts[GUIDED].strips[:, 0]
    scenes = torch.arange(len(truth))
    for size in sets(plain.distance.shape[1])[-1:]:
        for title, by in ((f"best of {size} by {rule}", rule), ("oracle by position", "position")):
            index = chosen(plain.values, by, size)[: len(truth), 0]
            shown[title] = plain.strips[scenes, index]
    videos = torch.stack(list(shown.values()), dim=1).flatten(0, 1)
    return contact_sheet(videos.float() / 255), list(shown)
