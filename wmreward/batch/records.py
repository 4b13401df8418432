"""What a run's folder says: how it began, and what became of its candidates; also while it is at work."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wmfiles import read_json
from wmreward.errors import FileError, UsageError, WMRewardError
from wmreward.records.record_file import RecordFile
from wmreward.records.scored import Record


@dataclass
class Records:
    """What became of candidates, by name.

    Attributes:
        made: The record of each that is there.
        failed: All failures of each that is not.
    """

    made: dict[str, Record] = field(default_factory=dict)
    failed: dict[str, list[Record]] = field(default_factory=dict)

    def add(self, records: Iterable[Record]) -> None:
        for record in records:
            name = record["path"].rpartition("/")[2]
            if record.get("error") is None:
                self.made[name] = record
                self.failed.pop(name, None)
            elif name not in self.made:
                known = self.failed.setdefault(name, [])
                if record not in known:
                    known.append(record)

    def of(self, names: set[str]) -> Records:
        """Those of some candidates."""
        return Records(
            {name: record for name, record in self.made.items() if name in names},
            {name: found for name, found in self.failed.items() if name in names},
        )

    def __iter__(self) -> Iterator[Record]:
        yield from self.made.values()
        for failures in self.failed.values():
            yield from failures


def read_records(run: Path) -> Records:
    """All records of a run, also while it is at work.

    Raises:
        UsageError: a manifest holds something else.
    """
    records = Records()
    for path in sorted(run.glob("manifest*.jsonl")) or [run / "manifest.jsonl"]:
        main = RecordFile(path)
        # Parts first: one that is merged meanwhile is in the main file by then.
        for file in (*main.parts(), main):
            records.add(file.read())
    return records


def read_head(run: Path) -> dict[str, Any]:
    """What a run was begun with: ``variants``, ``settings_id``, ``settings`` and more.

    Raises:
        UsageError: the folder holds no run.
        WMRewardError: its file is damaged.
    """
    file = run / "run.json"
    if not file.is_file():
        raise UsageError(f"{run}: no run there (run.json is missing); give the folder of a run")
    head = read_object(file)
    variants = head.get("variants")
    whole = isinstance(variants, list) and all(isinstance(name, str) for name in variants)
    if not whole or not isinstance(head.get("settings_id"), str):
        raise WMRewardError(f"{file}: is damaged, or not the beginning of a run")
    return head


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object that we wrote.

    Raises:
        WMRewardError: it cannot be read, or is something else.
    """
    content = read_json(path, refuse=FileError)
    if not isinstance(content, dict):
        raise WMRewardError(f"{path}: is not ours")
    return content
