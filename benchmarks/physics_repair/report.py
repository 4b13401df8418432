"""The record of `physics_repair` for people: a short table, full tables as CSV, a picture, and five lines."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.generator_quality.report import table
from benchmarks.physics_repair import ceiling
from benchmarks.physics_repair.choices import CONSENSUS, SCEPTICS, chosen
from benchmarks.physics_repair.parts import EVERY, Part
from benchmarks.physics_repair.rows import COLUMNS, GAPS, GUIDED, PLAIN, USUAL, usual_size
from benchmarks.physics_repair.scores import KNOWN
from benchmarks.physics_repair.tuning import CRITERION
from wmreward.pictures.colors import BACKGROUND
from wmreward.pictures.contact_sheet import SheetRow, contact_sheet
from wmreward.video.types import UInt8Array

Estimated = Mapping[str, float | None]

SECOND_ABSENT = "none"
SHORT = ("position", "motion", "miss", "sharp", "physics")
"""Columns of the short table, besides the share of the gap that is closed, and time."""
HEADS = {
    "position": "position",
    "motion": "moving pixels",
    "union": "union",
    "miss": "missing, points",
    "sharp": "sharpness",
    "physics": "Physics-IQ's score",
}
_SCALES = {"miss": 100.0}
_DIGITS = {"position": 4, "motion": 4, "miss": 2, "sharp": 3, "physics": 1}
LEGEND = """\
Changes against plain candidates of the same scenes, with 95 % bootstrap intervals over scenes, paired;
**bold** where the interval is clear of zero. *position*: distance of objects from where they should be in
picture widths, 0.35 for a missing one; *moving pixels*: squared error where the truth moves; *missing*:
objects not found; *sharpness*: edges relative to the truth's; *Physics-IQ's score*: 0 to 100, higher is
better. *gap closed*: share of the way from the mean plain candidate to the best of its set by that very
measure, in position, moving pixels, and the union of what moves in truth and candidate. *time*: of one
result, over a plain one."""
_SHOWN_SCENES = 3
_PICTURE_HEIGHT = 64


def _signed(value: float, digits: int) -> str:
    return f"{value:+.{digits}f}".replace("-", "−")


def _difference(estimate: Estimated | None, measure: str) -> str:
    """A change with its interval, bold where that is clear of zero."""
    if estimate is None or estimate["value"] is None:
        return "–"
    scale, digits = _SCALES.get(measure, 1.0), _DIGITS.get(measure, 4)
    value, low, high = (scale * (estimate[key] or 0.0) for key in ("value", "low", "high"))
    text = f"{_signed(value, digits)} [{_signed(low, digits)}, {_signed(high, digits)}]"
    return f"**{text}**" if low > 0 or high < 0 else text


def _share(estimate: Estimated | None) -> str:
    if estimate is None or estimate["value"] is None:
        return "–"
    return f"{100 * estimate['value']:.0f}".replace("-", "−")


def _ratio(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"


def _cells(row: Mapping[str, Any]) -> list[str]:
    gap = row["gap"]
    closed = " / ".join(_share(gap.get(m)) for m in ("position", "motion", "union"))
    changes = (_difference(row["differences"].get(m), m) for m in SHORT)
    return [*changes, f"{closed} %", _ratio(row["time"])]


def short_rows(task: Mapping[str, Any]) -> list[str]:
    """The rows that tell what was found, of those that are there."""
    rule, rows = task["rule"], task["rows"]
    score = rule.split(",")[0].split(" + ")[0]
    usual = max(
        (
            int(name.split(" ")[2])
            for name in rows
            if name.endswith(f" by {rule}") and name[:4] == "best"
        ),
        key=lambda size: (size <= USUAL, size if size <= USUAL else -size),
    )
    wanted = [
        GUIDED,
        *(name for name in rows if name.startswith(f"{GUIDED}, ")),
        "guidance, random direction",
        "guidance, untrained model",
        f"best of {usual} by {score}",
        *(f"best of {usual} by {score}, {one}" for one in ("seam 1", "clip 2", "long")),
        f"best of {usual} by {rule}",
        f"best of {usual} by {rule} + {CONSENSUS}",
        f"best of {usual} by {CONSENSUS}",
        f"best of 64 by {rule}",
        f"{GUIDED} + best of {usual} by {rule}",
        f"medoid of {usual}",
        *(f"{name} of {usual}" for name in SCEPTICS),
        *(f"best of {usual} by {KNOWN}, {one}" for one in ("seam 1 + 2 + 3", "clip 1 + 2")),
        *(f"best of {usual} by {ceiling.NAME}, {one}" for one in ceiling.MEASURES),
        f"oracle of {usual} by position",
    ]
    return [name for name in dict.fromkeys(wanted) if name in rows]


def short_table(name: str, task: Mapping[str, Any]) -> str:
    """What was found, in one table; the level of plain candidates above it."""
    level = {key: value["value"] or 0.0 for key, value in task["rows"][PLAIN]["values"].items()}
    told = ", ".join(
        f"{HEADS[m]} {_SCALES.get(m, 1.0) * level[m]:.{_DIGITS.get(m, 4)}f}"
        for m in SHORT
        if m in level
    )
    heads = [*(HEADS[m] for m in SHORT), "gap closed", "time"]
    rows = {title: _cells(task["rows"][title]) for title in short_rows(task)}
    return f"Plain candidates: {told}.\n\n{table(name, heads, rows)}"


def _head(record: Mapping[str, Any]) -> list[str]:
    keys = ("scenes", "candidates", "guided_candidates", "null_candidates", "seed")
    head = ", ".join(f"{key} {record[key]}" for key in keys)
    where = f"{record['machine']}, torch {record['torch']}, Python {record['python']}"
    return [
        f"{head}; {where}",
        f"generator: {record['generator']}",
        f"world model: {record['world_model']}; second: {record['second'] or SECOND_ABSENT}",
        f"guidance: {record['guidance']}",
    ]


def report(record: Mapping[str, Any]) -> str:
    """What was measured on what, and the short table of each task."""
    parts = [*_head(record), LEGEND]
    for name, task in record["tasks"].items():
        parts.append(short_table(name, task))
        parts += [f"{title}: {told}" for title, told in task["effects"].items()]
    return "\n\n".join(parts)


def tuning_report(record: Mapping[str, Any]) -> str:
    """Settings as they were sorted, with paired differences to plain."""
    rows = {
        title: [
            "yes" if result["passes"] else "no",
            "–" if result["gain"] is None else f"{100 * result['gain']:+.1f} %",
            *(_difference(result["differences"].get(m), m) for m in SHORT),
            _ratio(result["time"]),
        ]
        for title, result in record["tuning"].items()
    }
    heads = ["passes", "gain", *(HEADS[m] for m in SHORT), "time"]
    tuned = table("guidance, less plain", heads, rows)
    return "\n\n".join((*_head(record), CRITERION, tuned))


# --- everything, for machines and those who look closer


def csv_tables(record: Mapping[str, Any]) -> dict[str, str]:
    """Every row and comparison of each task, and every way to choose: CSV by the end of the file's name."""
    files = {}
    for name, task in record["tasks"].items():
        if "rows" in task:
            files[f"{name}_rows"] = _written(_row_lines(task))
        files[f"{name}_choices"] = _written(_choice_lines(task["choices"]))
    return files


def _written(lines: Iterator[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue()


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _estimate(estimate: Estimated | None) -> list[str]:
    return [_number((estimate or {}).get(key)) for key in ("value", "low", "high")]


def _row_lines(task: Mapping[str, Any]) -> Iterator[Sequence[str]]:
    """A line for each row (mean, change against plain, share of the gap), then each comparison (change)."""
    ends = ("", " low", " high")
    columns = [c for c in COLUMNS if any(c in row["values"] for row in task["rows"].values())]
    changes = [f"{c} change{end}" for c in columns for end in ends]
    gaps = [f"{m} gap{end}" for m in GAPS for end in ends]
    yield ["row", "time", "memory", *columns, *changes, *gaps]
    for title, row in task["rows"].items():
        means = [_number((row["values"].get(c) or {}).get("value")) for c in columns]
        changed = [cell for c in columns for cell in _estimate(row["differences"].get(c))]
        closed = [cell for m in GAPS for cell in _estimate(row["gap"].get(m))]
        yield [title, _number(row["time"]), _number(row["memory"]), *means, *changed, *closed]
    for title, pair in task["comparisons"].items():
        changed = [cell for c in columns for cell in _estimate(pair.get(c))]
        yield [title, "", "", *("" for _ in columns), *changed, *("" for _ in gaps)]


def _choice_lines(found: Sequence[Mapping[str, Any]]) -> Iterator[Sequence[str]]:
    yield ["choice", "of", "measure", "gap closed", "low", "high", "correlation"]
    for one in found:
        told = [_number(one.get("correlation"))]
        yield [one["choice"], str(one["of"]), one["measure"], *_estimate(one), *told]


# --- a picture, and a few words


def picture(truth: Tensor, parts: Mapping[str, Part], rule: str) -> UInt8Array:
    """Rows of frames of the first scenes, each with its name: truth, plain, guided, best, oracle.

    Args:
        truth: Kept frames of the true future, uint8 [n, 3, t, H, W].
        parts: Of one task.
        rule: What the best is chosen by.
    """
    plain = parts[PLAIN]
    shown = {"the true future": truth, "plain": plain.strips[:, 0]}
    if GUIDED in parts:
        shown["guided, the same noise"] = parts[GUIDED].strips[:, 0]
    size = usual_size(plain.distance.shape[1])
    scenes = torch.arange(len(truth))
    for title, by in (
        (f"the best of {size} by surprise ({rule})", rule),
        (f"the best of {size} for who knows the true future", "position"),
    ):
        index = chosen(plain.values, by, size)[: len(truth), 0]
        shown[title] = plain.strips[scenes, index]
    rows = [SheetRow(title, frames=_side_by_side(strips)) for title, strips in shown.items()]
    return contact_sheet(rows, height=_PICTURE_HEIGHT)


def _side_by_side(strips: Tensor) -> UInt8Array:
    """Kept frames of the first scenes, [n, 3, t, H, W], one after the other: uint8 [frames, H, W, 3]."""
    frames = strips[:_SHOWN_SCENES].permute(0, 2, 3, 4, 1)
    between = torch.tensor(BACKGROUND, dtype=torch.uint8).expand_as(frames[:, :1])
    return torch.cat((frames, between), dim=1).flatten(0, 1)[:-1].numpy()


def quick_lines(record: Mapping[str, Any], out: Path) -> list[str]:
    """What a run of a few scenes shows: five lines without intervals, for so few prove nothing."""
    (name, task), *_ = record["tasks"].items()
    count, scenes, rows = record["candidates"], record["scenes"], task["rows"]

    def far(title: str) -> str:
        value: float | None = rows[title]["values"]["position"]["value"]
        return "unknown" if value is None else f"{value:.4f}"

    best = f"best of {count} by {task['rule']}"
    file = out / f"physics_repair_{name}.png"
    shown = (
        f"every {EVERY}th frame of {_SHOWN_SCENES} scenes: {file}"
        if file.exists()
        else "no picture without the extra plot (pip install -e '.[plot]' in the clone)"
    )
    return [
        f"1. {scenes} videos were continued {count} times each; objects are {far(PLAIN)} picture widths from "
        "where they should be, on average.",
        f"2. With guidance they are {far(GUIDED)} widths away, with a random direction instead "
        f"{far('guidance, random direction')}.",
        f"3. The least surprising of {count} has them {far(best)} widths away, the sharpest "
        f"{far(f'sharpest of {count}')}; the best by the true future has them "
        f"{far(f'oracle of {count} by position')} away.",
        f"4. {scenes} scenes prove nothing: docs/evidence.md has 128, with intervals and controls.",
        f"5. Picture, {shown}.",
    ]
