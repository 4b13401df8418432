"""What people and programs read of an evaluation: the table, and the JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from wmreward.physics_iq.evaluate import Evaluation
from wmreward.physics_iq.scores import (
    Interval,
    Sample,
    by_category,
    intervals,
    original_score,
    published_summary,
    verified_score,
)
from wmreward.tables.layout import Format, render

_PARTS = ("spatiotemporal", "spatial", "weighted_spatial", "mse")

_EXPLAINED = """\
Scores 0..100 with 95 % intervals over scenarios. Original: ratio of means over the set (of a category: over
its rows alone). Verified: mean over samples of clipped ratios (of a category: over its samples)."""


def table(rows: Sequence[Sample], form: Format = "text") -> str:
    """Both scores of all samples and of each category, then their parts, and in words what they are."""
    groups = {"all": list(rows)} | by_category(rows)
    header = ("category", "samples", "Original", "95 %", "Verified", "95 %")
    scores = []
    for name, group in groups.items():
        spread = intervals(group)
        scores.append(
            (
                name,
                str(len(group)),
                _number(original_score(group).score),
                _range(spread.original, 1),
                _number(100 * verified_score(group).score),
                _range(spread.verified, 100),
            )
        )
    original, verified = original_score(rows), verified_score(rows)
    parts = []
    for name in _PARTS:
        ratio = getattr(original, name)
        shown = f"-{ratio:.4f}" if name == "mse" else f"{ratio:.4f}"
        parts.append((name, shown.replace("--", "+"), f"{getattr(verified, name):.4f}"))
    tables = [render(header, scores, form), render(("part", "Original", "Verified"), parts, form)]
    return "\n\n".join(tables if form in ("csv", "latex") else [*tables, _EXPLAINED])


def _number(value: float) -> str:
    return "undefined" if math.isnan(value) else f"{value:.2f}"


def _range(interval: Interval, scale: float) -> str:
    return f"{_number(scale * interval.low)} .. {_number(scale * interval.high)}"


def record(evaluation: Evaluation, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Everything, ready for JSON; what is not a number becomes None."""
    rows = evaluation.samples
    verified = verified_score(rows).samples if rows else ()
    groups = {"all": list(rows)} | by_category(rows) if rows else {}
    return _finite(
        {
            "scores": {name: _scores(group) for name, group in groups.items()},
            "published": published_summary(rows) if rows else {},
            "samples": [
                {
                    "id": row.id,
                    "scenario": row.scenario,
                    "view": row.view,
                    "category": row.category,
                    "verified": score,
                    "metrics": asdict(row.metrics),
                }
                for row, score in zip(rows, verified, strict=True)
            ],
            "failures": [
                {
                    "id": failure.job.id,
                    "generated": str(failure.job.generated),
                    "error": failure.error,
                }
                for failure in evaluation.failures
            ],
            "notes": list(evaluation.notes),
            "settings": dict(settings),
            "versions": {name: _version(name) for name in ("wmreward", "av", "numpy")},
        }
    )


def _scores(rows: Sequence[Sample]) -> dict[str, Any]:
    spread = intervals(rows)
    verified = {
        key: value for key, value in asdict(verified_score(rows)).items() if key != "samples"
    }
    return {
        "num_samples": len(rows),
        "num_scenarios": len({row.scenario for row in rows}),
        "original": asdict(original_score(rows)) | {"interval": asdict(spread.original)},
        "verified": verified | {"interval": asdict(spread.verified)},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:  # a bare checkout
        return None


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
