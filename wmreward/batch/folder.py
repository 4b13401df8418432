"""The folder of a run: what it is made with, what there is, and what became of each candidate.

    run.json                        settings, versions
    jobs.jsonl                      all jobs so far
    manifest.jsonl                  a record of each candidate; parts of running processes lie beside it
    candidates/0001.plain.7/        the files of one candidate, whole
    .work/, .locks/                 what is under way, and who works here

A candidate is made below `.work` and renamed into `candidates` in one step; from then on it exists,
whether or not its record reached the manifest.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from wmreward.batch.candidates import Candidate
from wmreward.batch.processes.share import Share
from wmreward.batch.records import Records, read_object, read_records
from wmreward.errors import UsageError
from wmreward.files import flush_to_disk, write_text
from wmreward.prompts.jobs import BatchJob, read_jobs, write_jobs
from wmreward.records.record_file import RecordFile
from wmreward.records.scored import Record, to_json
from wmreward.version import versions

RECORD = "record.json"
_SHOWN = 6


def settings_id(settings: Mapping[str, Any]) -> str:
    """Short hash of settings."""
    text = json.dumps(settings, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class RunFolder:
    """One run.

    Args:
        path: Its folder; need not exist.
        settings: All that decides what candidates look like, beside their jobs and seeds.
        share: The part of the run that is worked on.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any], share: Share | None = None) -> None:
        self.path, self.settings, self.share = path, dict(settings), share or Share()
        self.settings_id = settings_id(settings)
        self._wanted: set[str] = set()
        name = "manifest.jsonl" if self.share.is_all else f"manifest.{self.share}.jsonl"
        self.manifest = RecordFile(path / name)

    @classmethod
    def named(
        cls, root: Path, name: str, settings: Mapping[str, Any], share: Share | None = None
    ) -> RunFolder:
        """The run of these settings below ``root``; other settings have another folder."""
        return cls(root / f"{name}-{settings_id(settings)[:8]}", settings, share)

    @property
    def locks(self) -> Path:
        return self.path / ".locks"

    def scratch(self, candidate: Candidate) -> Path:
        """Where a candidate is made."""
        return self.path / ".work" / "candidates" / candidate.name

    def candidate_folder(self, candidate: Candidate) -> Path:
        """Where it is in the end."""
        return self.path / "candidates" / candidate.name

    # --- opening ----------------------------------------------------------------------------------------

    def check(self) -> None:
        """Compare with what the folder was made with.

        Raises:
            UsageError: other settings, field by field, or a folder of something else.
        """
        file = self.path / "run.json"
        if not file.exists():
            if (self.path / "candidates").is_dir():
                raise UsageError(
                    f"{self.path} holds candidates, but no run.json that says how they were made: put it "
                    "back, or name another folder"
                )
            if self.path.exists() and any(self.path.glob("[!.]*")):
                raise UsageError(
                    f"{self.path} is there already and holds no run; name another folder"
                )
            return
        before = read_object(file)
        if before.get("settings_id") != self.settings_id:
            changes = differences(before.get("settings", {}), self.settings)
            raise UsageError(
                f"{self.path} was made with other settings: {changes}; use those, or another folder"
            )

    def begin(self, jobs: Sequence[BatchJob], variants: Sequence[str]) -> None:
        """Write down what is to be done; a run may grow by jobs, variants and seeds.

        Raises:
            UsageError: see :meth:`check`; a job that was something else before.
        """
        self.check()
        file = self.path / "run.json"
        jobs_file = self.path / "jobs.jsonl"
        before = read_jobs(jobs_file) if jobs_file.exists() else []
        merged = _merged(before, jobs, self.path)
        known = read_object(file) if file.exists() else {}
        together = list(dict.fromkeys([*known.get("variants", []), *variants]))
        if known.get("variants") != together:
            content = {
                "settings_id": self.settings_id,
                "variants": together,
                "begun": known.get("begun", time.strftime("%Y-%m-%d %H:%M:%S%z")),
                "versions": versions(),
                "settings": self.settings,
            }
            write_text(file, json.dumps(content, indent=2) + "\n")
        (self.path / "candidates").mkdir(exist_ok=True)
        if merged != before:
            write_jobs(jobs_file, merged)

    def jobs(self) -> list[BatchJob]:
        """All jobs so far."""
        return read_jobs(self.path / "jobs.jsonl")

    def recover(self, candidates: Sequence[Candidate], *, restarted: bool) -> Records:
        """Bring manifest and files into accord after whatever ended the last attempt; needs the lock.

        Args:
            candidates: Those of this run, or its share.
            restarted: The last attempt was of the same launch, so its failures count. Else they are
                forgotten, and what failed is tried again.

        Returns:
            What there is of ``candidates``. Those made have their files.
        """
        records = read_records(self.path)
        before = Records(
            dict(records.made), {name: list(found) for name, found in records.failed.items()}
        )
        wanted = self._wanted = {candidate.name for candidate in candidates}
        there = {entry.name for entry in os.scandir(self.path / "candidates")}
        for name in wanted & (records.made.keys() - there):
            del records.made[name]
        records.add(filter(None, map(self._adopted, (there & wanted) - records.made.keys())))
        by_name = {candidate.name: candidate for candidate in candidates}
        for name in self._died():
            if name in by_name and name not in records.made:
                attempt = len(records.failed.get(name, ())) + 1
                records.add([self.failure(by_name[name], "its process died", attempt)])
        if not restarted:
            records.failed.clear()
        if records != before or self._parts() or not self.manifest.path.exists():
            self._rewrite(records)
        return records.of(wanted)

    def _adopted(self, name: str) -> Record | None:
        """The record of a candidate that was finished just before its process died."""
        folder = self.path / "candidates" / name
        record = read_object(folder / RECORD) if (folder / RECORD).exists() else {}
        if record.get("settings_id") == self.settings_id:
            return record
        shutil.rmtree(folder)  # none that was finished here
        return None

    def _rewrite(self, records: Records) -> None:
        """All records in one manifest and no parts; a share touches only what is its own."""
        ours = records if self.share.is_all else records.of(self._wanted)
        parts = self._parts()
        self.manifest.rewrite(ours)
        for file in parts:
            file.path.unlink(missing_ok=True)

    def _parts(self) -> list[RecordFile]:
        """What is to be merged into the manifest."""
        parts = self.manifest.parts()
        if self.share.is_all:
            for path in self.path.glob("manifest.*-of-*.jsonl"):
                parts += [*RecordFile(path).parts(), RecordFile(path)]
        return parts

    # --- candidates -------------------------------------------------------------------------------------

    def take(self, candidate: Candidate, rank: int) -> Path:
        """Note that a process works on a candidate; returns where."""
        scratch = self.scratch(candidate)
        scratch.mkdir(parents=True, exist_ok=True)
        marker = self._marker(rank)
        marker.parent.mkdir(exist_ok=True)
        marker.write_text(candidate.name)
        return scratch

    def leave(self, rank: int) -> None:
        """The process works on nothing now. What it did not finish stays for a later attempt."""
        self._marker(rank).unlink(missing_ok=True)

    def commit(self, candidate: Candidate, rank: int, facts: Mapping[str, Any]) -> Record:
        """Make what was made the candidate: all of it in one step. Returns its record."""
        scratch, target = self.scratch(candidate), self.candidate_folder(candidate)
        for path in scratch.glob(".*"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        files = {path.name: _sha256(path) for path in sorted(scratch.iterdir()) if path.is_file()}
        record = {**self._head(candidate), "at": _now(), **facts, "files": files}
        (scratch / RECORD).write_text(to_json(record) + "\n", encoding="utf-8")
        for path in (*scratch.rglob("*"), scratch):
            flush_to_disk(path)
        scratch.rename(target)
        flush_to_disk(target.parent)
        self.manifest.part(rank).append(record)
        return record

    def reject(
        self,
        candidate: Candidate,
        rank: int,
        error: str,
        attempt: int,
        facts: Mapping[str, Any],
    ) -> Record:
        """Record a failure and remove what there is of it. Returns the record."""
        record = {**self.failure(candidate, error, attempt), **facts}
        self.manifest.part(rank).append(record)
        shutil.rmtree(self.scratch(candidate), ignore_errors=True)
        return record

    def failure(self, candidate: Candidate, error: str, attempt: int) -> Record:
        """The record of an attempt that failed, counted from 1."""
        return {**self._head(candidate), "error": error, "attempt": attempt, "at": _now()}

    def merge(self) -> None:
        """Bring the parts of the manifest together, when no process writes any more."""
        if self._parts():
            self._rewrite(read_records(self.path))

    def clean(self) -> None:
        """Remove what is left of the work, when nothing is left to be done."""
        if self.share.is_all:
            shutil.rmtree(self.path / ".work", ignore_errors=True)

    def _head(self, candidate: Candidate) -> Record:
        return {
            "path": f"candidates/{candidate.name}",
            "job": candidate.job.id,
            "variant": candidate.variant,
            "seed": candidate.seed,
            "settings_id": self.settings_id,
        }

    def _marker(self, rank: int) -> Path:
        return self.path / ".work" / "at" / f"{self.share}.{rank}"

    def _died(self) -> list[str]:
        """Names of candidates whose processes ended without a word; asked once."""
        names = []
        for marker in sorted((self.path / ".work" / "at").glob(f"{self.share}.*")):
            names.append(marker.read_text(encoding="utf-8", errors="replace"))
            marker.unlink()
        return names


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What changed from one dictionary to another, field by field: ``a.b 64 → 32, …``."""
    one, other = dict(_flat(before)), dict(_flat(now))
    names = [name for name in {**one, **other} if one.get(name) != other.get(name)]
    shown = [f"{name} {_short(one.get(name))} → {_short(other.get(name))}" for name in names]
    more = [f"and {len(names) - _SHOWN} more"] if len(names) > _SHOWN else []
    return ", ".join([*shown[:_SHOWN], *more])


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", list(value) if isinstance(value, tuple) else value


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:40]}…{text[-15:]}"


def _merged(before: Sequence[BatchJob], jobs: Sequence[BatchJob], run: Path) -> list[BatchJob]:
    """Jobs known so far with new ones, and with the seeds of both."""
    merged = {job.id: job for job in before}
    for job in jobs:
        job = _absolute(job)
        if (known := merged.get(job.id)) is None:
            merged[job.id] = job
            continue
        if (one := _identity(known)) != (other := _identity(job)):
            raise UsageError(
                f"{run}: job {job.id} was something else: {differences(one, other)}; give the job another "
                "id, or the list another name"
            )
        seeds = tuple(dict.fromkeys([*known.seeds, *job.seeds]))
        merged[job.id] = replace(job, seeds=seeds)
    return list(merged.values())


def _identity(job: BatchJob) -> dict[str, Any]:
    """What makes a job the same, wherever its files lie."""
    given = job.given.name if job.given else None
    values = job.to_json() | {"init_image": given, "init_video": given}
    return {name: value for name, value in values.items() if name not in ("seeds", "category")}


def _absolute(job: BatchJob) -> BatchJob:
    return replace(
        job,
        init_image=job.init_image and job.init_image.resolve(),
        init_video=job.init_video and job.init_video.resolve(),
    )


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")
