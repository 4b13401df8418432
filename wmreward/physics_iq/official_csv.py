"""Raw measures in the layout of the benchmark's own CSV: one row per scenario, columns per view."""

from __future__ import annotations

import ast
import csv
import io
from collections.abc import Sequence
from dataclasses import fields
from math import isfinite
from pathlib import Path
from typing import Any

from wmfiles import csv_rows, short
from wmreward.errors import UsageError
from wmreward.files import misused, write_text
from wmreward.physics_iq.measures.metrics import Metrics
from wmreward.physics_iq.scores import Sample

_LISTS = (
    "v1_mse",
    "v2_mse",
    "variance_mse",
    "spatiotemporal_iou_v1",
    "spatiotemporal_iou_v2",
    "variance_spatiotemporal_iou",
)
_COLUMNS = (
    "v1_mse",
    "v2_mse",
    "variance_spatial",
    "variance_weighted_spatial",
    "variance_spatiotemporal_iou",
    "variance_mse",
    "spatiotemporal_iou_v1",
    "spatiotemporal_iou_v2",
    "spatial_iou_v1",
    "spatial_iou_v2",
    "weighted_spatial_iou_v1",
    "weighted_spatial_iou_v2",
)
assert sorted(_COLUMNS) == sorted(field.name for field in fields(Metrics))


def write_csv(path: str | Path, rows: Sequence[Sample]) -> None:
    """Write samples; a view that a scenario lacks leaves its cells empty.

    Raises:
        WMRewardError: if the file cannot be written.
    """
    views = list(dict.fromkeys(row.view for row in rows))
    of_scenario: dict[str, dict[str, Metrics]] = {}
    for row in rows:
        of_scenario.setdefault(row.scenario, {})[row.view] = row.metrics
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["scenario", *(f"{name}_{view}" for view in views for name in _COLUMNS)])
    for scenario, seen in of_scenario.items():
        cells = [_cell(seen.get(view), name) for view in views for name in _COLUMNS]
        writer.writerow([scenario, *cells])
    write_text(path, text.getvalue())


def _cell(metrics: Metrics | None, name: str) -> str:
    if metrics is None:
        return ""
    value = getattr(metrics, name)
    return str(list(value)) if name in _LISTS else repr(value)


def read_csv(path: str | Path, categories: dict[str, str] | None = None) -> list[Sample]:
    """Read a CSV of ours or of the benchmark's; column order does not matter.

    Args:
        path: the file.
        categories: category by scenario name, if known.

    Raises:
        UsageError: naming the file and what is wrong with it.
    """
    path = Path(path)
    lines = [line for _, line in csv_rows(path, needs=("scenario",), refuse=misused)]
    if not lines:
        raise UsageError(f"{path}: there are no measures in it")
    views = [column.removeprefix("v1_mse_") for column in lines[0] if column.startswith("v1_mse_")]
    rows = []
    for line in lines:
        for view in views:
            if not line[f"v1_mse_{view}"]:
                continue
            scenario = line["scenario"]
            where = f"{path}: {scenario[:80]}, {view}"
            values = {name: _value(line, name, view, where) for name in _COLUMNS}
            metrics = Metrics(**values)
            rows.append(Sample(scenario, view, metrics, (categories or {}).get(scenario)))
    return rows


def _value(line: dict[str, str], name: str, view: str, where: str) -> Any:
    text = line.get(f"{name}_{view}")
    if text is None:
        raise UsageError(f"{where}: unreadable measures (no column {name}_{view})")
    try:
        read = ast.literal_eval(text) if name in _LISTS else (text,)
        numbers = tuple(float(number) for number in read)
        if not numbers or not all(map(isfinite, numbers)):
            raise ValueError("no mean can be taken of it")
        return numbers if name in _LISTS else numbers[0]
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        kind = "a list of numbers" if name in _LISTS else "a number"
        raise UsageError(
            f"{where}: unreadable measures ({name}_{view} is {short(text)}, not {kind})"
        ) from None
