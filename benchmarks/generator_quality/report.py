"""The record of `generator_quality` as markdown tables."""

from __future__ import annotations

import math
from typing import Any

from benchmarks.shared.continuation import MEASURES


def _number(value: float | None) -> str:
    """Three significant digits, four decimals at most."""
    if value is None:
        return "–"
    digits = 1 if abs(value) >= 10 else 3 if abs(value) >= 0.1 else 4
    return f"{value:.{digits}f}"


def _interval(estimate: dict[str, float | None] | None) -> str:
    if estimate is None or estimate["value"] is None:
        return "–"
    low, high = _number(estimate["low"]), _number(estimate["high"])
    if low == high:
        return _number(estimate["value"])
    return f"{_number(estimate['value'])} [{low}, {high}]"


def _percent(estimate: dict[str, float | None] | None) -> str:
    if estimate is None or estimate["value"] is None:
        return "–"
    value, low, high = (100 * (estimate[key] or 0.0) for key in ("value", "low", "high"))
    return f"{value:.1f} % [{low:.1f}, {high:.1f}]"


def table(title: str, columns: list[str], rows: dict[str, list[str]]) -> str:
    """Markdown: a first column of names, then cells."""
    lines = [f"| {title} | " + " | ".join(columns) + " |", "| --- |" + " --- |" * len(columns)]
    lines += [f"| {name} | " + " | ".join(cells) + " |" for name, cells in rows.items()]
    return "\n".join(lines)


def _continuation(name: str, task: dict[str, Any]) -> list[str]:
    columns = list(MEASURES)
    if any("first psnr" in row for row in task["methods"].values()):
        columns.append("first psnr")
    rows = {
        method: [_interval(row.get(measure)) for measure in columns]
        for method, row in task["methods"].items()
    }
    tables = [table(f"{name} frames", columns, rows)]
    if task["differences"]:
        rows = {
            pair: [_interval(row.get(measure)) for measure in MEASURES]
            for pair, row in task["differences"].items()
        }
        tables.append(table(f"{name}: paired differences", list(MEASURES), rows))
    if task["ratios"]:
        heads = list(next(iter(task["ratios"].values())))
        rows = {
            method: [_interval(row[head]) for head in heads]
            for method, row in task["ratios"].items()
        }
        tables.append(table(f"{name}: ratios", heads, rows))
    for method, spread in task["spread"].items():
        rows = {
            measure: [_number(values[key]) for key in ("std", "mean_std", "best", "mean", "worst")]
            for measure, values in spread.items()
        }
        heads = ["std in a scene", "std of the mean", "best", "mean", "worst"]
        tables.append(table(f"{name}: {method}, {task['seeds']} seeds", heads, rows))
    pictured = ", ".join(task["rows of the picture"])
    return [*tables, f"{name}, rows of each scene in its picture: {pictured}"]


def report(record: dict[str, Any]) -> str:
    """All tables of a record, with a head that says what was measured on what."""
    settings = {key: record[key] for key in ("scenes", "seeds", "other_seeds", "seed", "size")}
    head = ", ".join(f"{key} {value}" for key, value in settings.items())
    where = f"{record['machine']}, torch {record['torch']}, Python {record['python']}"
    parts = [f"{head}; {where}; brackets are 95 % bootstrap intervals over scenes"]
    parts += [f"{name}: {described}" for name, described in record["generators"].items()]
    if record["autoencoder"]:
        heads = ["psnr", "moving psnr", "image psnr"]
        rows = {
            name: [_interval(row[head]) for head in heads]
            for name, row in record["autoencoder"].items()
        }
        parts.append(table("autoencoder, dB", heads, rows))
    for name, task in record["continuation"].items():
        parts += _continuation(name, task)
    for title, key, heads in (
        ("text → 48 frames, obeyed", "prompts", ["color", "side", "move", "all"]),
        ("image → 48 frames, obeyed", "steering", ["color", "move"]),
    ):
        if record[key]:
            rows = {
                who: [_percent(row.get(head)) for head in heads] for who, row in record[key].items()
            }
            parts.append(table(title, heads, rows))
    return "\n\n".join(parts)


def for_json(value: Any) -> Any:
    """The same with None in the place of numbers that JSON has not."""
    if isinstance(value, dict):
        return {key: for_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [for_json(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
