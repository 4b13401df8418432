"""Scores of candidates among each other, where the rewards of a run compare them.

The score that a record holds is the weighted sum of the rewards that judge one video alone. With a reward
that compares candidates, such as consensus or geometry, or with ranks in place of sums, a candidate's total
is known only among all of its job. What has been compared once is kept in `RUN/report/totals.jsonl`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from wmreward.records.record_file import RecordFile
from wmreward.report.run_data import Entry, RunData
from wmreward.rewards.compare import Comparison, Judged
from wmreward.rewards.geometry import GeometryReward
from wmreward.rewards.known import comparing
from wmweights import WeightsError, read_state


def with_totals(run: RunData) -> RunData:
    """The run with totals for scores, if its rewards compare candidates; else as it is.

    A candidate whose embeddings are gone has no score.

    Raises:
        UsageError: candidates of one job that cannot be compared.
        WMRewardError: the totals cannot be kept.
    """
    judge = run.judge()
    if judge is None or not _compares(run, judge):
        return run
    how = judge.get("combine", "sum")
    comparison = Comparison(judge["rewards"], how, compare=comparing)
    kept = RecordFile(run.path / "report" / "totals.jsonl")
    kept.path.parent.mkdir(exist_ok=True)
    known = {record["key"]: record["totals"] for record in kept.repair()}
    entries: list[Entry] = []
    for job, of_job in run.of_job().items():
        key = _key(of_job, judge)
        if key not in known:
            known[key] = _totals(run, comparison, of_job)
            kept.append({"path": job, "key": key, "totals": known[key]})
        entries += [replace(entry, score=known[key].get(entry.name)) for entry in of_job]
    return replace(run, entries=tuple(entries), relative=True)


def _compares(run: RunData, judge: Mapping[str, Any]) -> bool:
    judged = [entry for entry in run.entries if entry.scores or entry.embeddings]
    return bool(judged) and (
        judge.get("combine") == "rank"
        or GeometryReward.name in judge["rewards"]  # ranks of its signals
        or any(judge["rewards"].keys() - e.scores.keys() for e in judged)
    )


def _totals(run: RunData, comparison: Comparison, entries: Sequence[Entry]) -> dict[str, float]:
    """Of the candidates of one job, by name."""
    judged = {entry.name: _judged(run, entry) for entry in entries}
    wanted = comparison.weights.keys()
    whole = {
        name: one
        for name, one in judged.items()
        if one is not None and wanted <= one.scores.keys() | one.embeddings.keys()
    }
    if not whole:
        return {}
    return dict(zip(whole, comparison.totals(list(whole.values())).tolist(), strict=True))


def _judged(run: RunData, entry: Entry) -> Judged | None:
    try:
        embeddings = read_state(run.path / entry.embeddings) if entry.embeddings else {}
    except WeightsError:
        return None
    return Judged(dict(entry.scores), dict(entry.parts), embeddings)


def _key(entries: Sequence[Entry], judge: Mapping[str, Any]) -> str:
    """Hash of everything that decides the totals of a job."""
    judged = [(e.name, e.video_sha256) for e in entries if e.scores or e.embeddings]
    text = json.dumps([judged, dict(judge)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
