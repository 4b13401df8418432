"""What a run folder says of itself, while the run is at work and after."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import wmreward.records.lock as locks
from wmfiles.amounts import counted
from wmreward.batch.candidates import candidates_of
from wmreward.batch.records import Records, read_head, read_records
from wmreward.prompts.jobs import read_jobs

_RECENT = 50
_SHOWN = 20


@dataclass(frozen=True)
class Status:
    """How far a run is.

    Attributes:
        run: Its folder.
        settings_id: Hash of its settings.
        counts: For each variant: candidates made, failed and in all.
        failures: Name and last error of each candidate that failed.
        workers: Who works on it, in words; empty if nobody does.
        per_hour: Candidates that were made lately, if that can be told.
    """

    run: Path
    settings_id: str
    counts: dict[str, dict[str, int]]
    failures: dict[str, str]
    workers: list[str]
    per_hour: float | None

    @classmethod
    def of(cls, run: Path) -> Status:
        """Read it.

        Raises:
            UsageError: the folder holds no run.
        """
        head = read_head(run)
        records = read_records(run)
        candidates = candidates_of(read_jobs(run / "jobs.jsonl"), head["variants"])
        counts = {variant: {"made": 0, "failed": 0, "all": 0} for variant in head["variants"]}
        for candidate in candidates:
            count = counts[candidate.variant]
            count["all"] += 1
            count["made"] += candidate.name in records.made
            count["failed"] += candidate.name in records.failed
        failures = {name: found[-1]["error"] for name, found in sorted(records.failed.items())}
        return cls(run, head["settings_id"], counts, failures, _workers(run), _rate(records))

    @property
    def left(self) -> int:
        """Candidates that are neither there nor have failed."""
        return sum(map(_left, self.counts.values()))

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "run": str(self.run), "left": self.left}

    def text(self) -> str:
        """For people."""
        lines = [f"{self.run}  (settings {self.settings_id})"]
        width = max(map(len, ("variant", *self.counts)))
        lines.append(f"{'variant':<{width}}  {'made':>7}  {'failed':>7}  {'left':>7}")
        for variant, count in self.counts.items():
            numbers = (count["made"], count["failed"], _left(count))
            lines.append("  ".join([f"{variant:<{width}}", *(f"{n:>7}" for n in numbers)]))
        if self.workers:
            lines += [f"at work: {worker}" for worker in self.workers]
            if self.per_hour and self.left:
                lines.append(
                    f"{self.per_hour:.1f} per hour, {self.left / self.per_hour:.1f} h left"
                )
        elif self.left:
            lines.append("nobody is at work; the command that began it goes on from here")
        shown = list(self.failures.items())[:_SHOWN]
        lines += [f"failed: {name}: {error}" for name, error in shown]
        if len(self.failures) > len(shown):
            lines.append(f"… and {len(self.failures) - len(shown)} more")
        return "\n".join(lines)


def _left(count: Mapping[str, int]) -> int:
    return count["all"] - count["made"] - count["failed"]


def _workers(run: Path) -> list[str]:
    found = []
    for path in sorted((run / ".locks").glob("[!.]*.json")):
        content = locks.read(path)
        if content is not None and not locks.is_gone(content):
            processes = counted(len(content["processes"]), "process", "processes")
            found.append(f"{locks.holder(content)}, {processes}")
    return found


def _rate(records: Records) -> float | None:
    """Candidates per hour, by when the last ones were finished."""
    times = sorted(str(record["at"]) for record in records.made.values())[-_RECENT:]
    if len(times) < 2:
        return None
    begin, end = (datetime.strptime(text, "%Y-%m-%dT%H:%M:%S%z") for text in (times[0], times[-1]))
    seconds = (end - begin).total_seconds()
    idle = time.time() - end.timestamp()
    return (len(times) - 1) * 3600 / max(seconds, 1) if idle < 24 * 3600 else None
