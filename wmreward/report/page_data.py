"""What the page's script reads: every candidate in a few numbers, and what the gallery shows of each job.

Positions stand for names wherever a name would be repeated thousands of times.
"""

from __future__ import annotations

import base64
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from wmreward.report.numbers import ranks
from wmreward.report.posters import posters
from wmreward.report.run_data import Curve, Entry, RunData, best, first

POSTER_BYTES = 4_500_000
"""Of all stills together, before they are written as text, which takes a third more."""
MOST_CURVES = 5000
"""Of more candidates, only those that are shown in the gallery have their curve on the page."""
_LONGEST_ERROR = 600
_STATUS = ("made", "failed", "waiting")


def gallery(run: RunData) -> dict[str, list[tuple[str, Entry]]]:
    """What is shown of each job by its id: the first candidate of every variant, then the best of all."""
    shown: dict[str, list[tuple[str, Entry]]] = {}
    for job, entries in run.of_job().items():
        singles = [(variant, first(entries, variant)) for variant in run.variants]
        labelled = [(variant, entry) for variant, entry in singles if entry is not None]
        judged = sum(entry.score is not None for entry in entries)
        if (top := best(entries)) is not None and judged > 1:
            labelled.append((f"best of {judged}", top))
        if labelled:
            shown[job] = labelled
    return shown


def page_data(
    run: RunData,
    shown: Mapping[str, Sequence[tuple[str, Entry]]],
    measured: Mapping[str, float],
    page: Path,
) -> dict[str, Any]:
    """Ready for JSON.

    Args:
        run: The run.
        shown: From `gallery`.
        measured: Verified Physics-IQ score (0..100) of candidates that were evaluated, by name.
        page: Where the page will be; videos are named relative to it.
    """
    place = {entry.name: index for index, entry in enumerate(run.entries)}
    in_gallery = {entry.name for labelled in shown.values() for _, entry in labelled}
    with_curve = in_gallery if len(run.entries) > MOST_CURVES else place.keys()
    of_rank = {
        name: rank for entries in run.of_job().values() for name, rank in ranks(entries).items()
    }
    categories = sorted({job.category for job in run.jobs if job.category})
    hosts = sorted({entry.host for entry in run.entries if entry.host})
    jobs = {job.id: index for index, job in enumerate(run.jobs)}

    def row(entry: Entry) -> list[Any]:
        return [
            jobs[entry.job.id],
            run.variants.index(entry.variant),
            entry.seed,
            _STATUS.index(entry.status),
            _short(entry.score, 5),
            of_rank.get(entry.name),
            _short(entry.gain, 3),
            entry.beyond_null,
            _short(entry.seconds, 4),
            _short(entry.peak_memory_bytes and entry.peak_memory_bytes / 2**30, 3),
            hosts.index(entry.host) if entry.host else None,
            entry.video and entry.video.name,
            entry.heat_map and quote(entry.heat_map.as_posix()),
            _points(entry.curve) if entry.name in with_curve else None,
            entry.error and entry.error[:_LONGEST_ERROR],
            _short(measured.get(entry.name), 4),
            _short(entry.length_s, 4),
        ]

    return {
        "base": _base(run.path, page),
        "variants": list(run.variants),
        "categories": categories,
        "hosts": hosts,
        "digits": _digits([entry.score for entry in run.entries if entry.score is not None]),
        "jobs": [
            [job.id, categories.index(job.category) if job.category else None, job.prompt, job.mode]
            for job in run.jobs
        ],
        "rows": [row(entry) for entry in run.entries],
        "gallery": [
            [jobs[job], [[label, place[entry.name]] for label, entry in labelled]]
            for job, labelled in shown.items()
        ],
        "posters": _posters(run, shown, place),
    }


def as_script(data: Mapping[str, Any]) -> str:
    """JSON that may stand inside a ``<script>`` element, whatever texts it holds."""
    text = json.dumps(data, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _posters(
    run: RunData, shown: Mapping[str, Sequence[tuple[str, Entry]]], place: Mapping[str, int]
) -> dict[str, str]:
    entries = [entry for labelled in shown.values() for _, entry in labelled]
    files = {place[e.name]: run.path / e.video for e in entries if e.video is not None}
    stills = posters(files.values(), POSTER_BYTES)
    return {
        str(index): base64.b64encode(stills[file]).decode()
        for index, file in files.items()
        if file in stills
    }


def _base(run: Path, page: Path) -> str:
    """From the page to the run, as the beginning of a link."""
    relative = Path(os.path.relpath(run.resolve(), page.resolve().parent)).as_posix()
    return "" if relative == "." else f"{quote(relative)}/"


def _points(curve: Curve | None) -> list[list[float | None]] | None:
    if curve is None:
        return None
    columns = zip(curve.start_s, curve.end_s, curve.surprise, strict=True)
    return [[_short(value, 4) for value in point] for point in columns]


def _short(value: float | None, digits: int) -> float | None:
    return None if value is None else float(f"{value:.{digits}g}")


def _digits(scores: Iterable[float]) -> int:
    """Decimals that tell scores apart: three digits of their range."""
    values = list(scores)
    span = max(values) - min(values) if values else 0.0
    return min(6, max(2, 2 - math.floor(math.log10(span)))) if span > 0 else 3
