"""What a run folder holds, as the evaluation and the report want it. The one place that knows record fields.

A record of `manifest.jsonl` says, beside what the runner puts there:

    score           what the candidate is chosen by: the higher, the better
    scores          of each reward that judges one video alone
    guidance        {"effect": {"gain": …, "beyond_null": …, …}, …}, for a guided one
    per_window      surprise of each window
    windows         where they lie: {"starts": [...], "target": ..., "size": ...} in frames of the video,
                    or the list of spans in seconds that `compute_wmreward.py` records
    fps, frames, size, peak_memory_bytes

All of it may be missing. Among a candidate's files, `…map.mp4` is the heat map, the other video is the
candidate itself, and a `.safetensors` holds what rewards that compare candidates go by.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from wmreward.batch.candidates import Candidate, candidates_of
from wmreward.batch.records import Records, read_head, read_records
from wmreward.prompts.jobs import BatchJob, read_jobs
from wmreward.records.scored import Record
from wmreward.video_io import VIDEO_SUFFIXES

Status = Literal["made", "failed", "waiting"]

PLAIN = "plain"
"""The variant that nothing steers."""


@dataclass(frozen=True)
class Curve:
    """Surprise over time.

    Attributes:
        start_s, end_s: Where each window's predicted frames lie, in seconds.
        surprise: Of each window.
    """

    start_s: tuple[float, ...]
    end_s: tuple[float, ...]
    surprise: tuple[float, ...]

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Curve | None:
        """From a record with ``per_window`` and ``windows``; None if it has no such curve."""
        values, spans = record.get("per_window"), _spans(record)
        if not values or len(values) != len(spans):
            return None
        known = sorted(
            (start, end, value)
            for (start, end), value in zip(spans, values, strict=True)
            if all(_is_number(x) for x in (start, end, value))
        )
        return cls(*zip(*known, strict=True)) if known else None


@dataclass(frozen=True)
class Entry:
    """One candidate of a run.

    Attributes:
        name: Of its folder.
        job: What it shows.
        variant, seed: How it was made.
        status: ``made``, ``failed``, or ``waiting`` for its turn.
        score: What it is chosen by, the higher the better; None if it was not judged.
        scores: Of each reward that judges one video alone.
        parts: Numbers that explain them.
        embeddings: Relative to the run: what rewards that compare candidates go by.
        video: Relative to the run.
        video_sha256: Of the video.
        length_s: Of the video, in seconds.
        heat_map: Likewise relative, a video.
        curve: Surprise over time.
        gain: Mean change of the reward by a guided step.
        beyond_null: Whether that is more than random directions do; None: not guided, or not measured.
        seconds, peak_memory_bytes, host: What it took, and where.
        error: Why it failed.
        attempts: How often.
    """

    name: str
    job: BatchJob
    variant: str
    seed: int
    status: Status
    score: float | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    parts: Mapping[str, float] = field(default_factory=dict)
    embeddings: Path | None = None
    video: Path | None = None
    video_sha256: str | None = None
    length_s: float | None = None
    heat_map: Path | None = None
    curve: Curve | None = None
    gain: float | None = None
    beyond_null: bool | None = None
    seconds: float | None = None
    peak_memory_bytes: int | None = None
    host: str | None = None
    error: str | None = None
    attempts: int = 0


@dataclass(frozen=True)
class RunData:
    """A run.

    Attributes:
        path: Its folder.
        begun: When, as it says.
        settings: All that decides what candidates look like.
        versions: Of the software that began it.
        variants: In the order in which they were asked for.
        jobs: In the order of the list.
        entries: All candidates of all jobs, job by job.
        relative: Whether scores only compare the candidates of one job.
    """

    path: Path
    begun: str
    settings: Mapping[str, Any]
    versions: Mapping[str, str]
    variants: tuple[str, ...]
    jobs: tuple[BatchJob, ...]
    entries: tuple[Entry, ...]
    relative: bool = False

    def of_job(self) -> dict[str, list[Entry]]:
        """Candidates by job id."""
        found: dict[str, list[Entry]] = {job.id: [] for job in self.jobs}
        for entry in self.entries:
            found[entry.job.id].append(entry)
        return found

    def judge(self) -> Mapping[str, Any] | None:
        """The settings of the rewards, if the run's settings hold them."""
        return _find_judge({"": self.settings.get("judged_by"), **self.settings})


def read_run(run: Path) -> RunData:
    """Read a run's folder, also while it is at work.

    Raises:
        UsageError: there is no run, or files of something else.
        WMRewardError: a file cannot be read.
    """
    head = read_head(run)
    variants = tuple(head["variants"])
    jobs = read_jobs(run / "jobs.jsonl")
    records = read_records(run)
    return RunData(
        path=run,
        begun=str(head.get("begun", "")),
        settings=head.get("settings", {}),
        versions=head.get("versions", {}),
        variants=variants,
        jobs=tuple(jobs),
        entries=tuple(_entry(candidate, records) for candidate in candidates_of(jobs, variants)),
    )


def best(entries: Iterable[Entry]) -> Entry | None:
    """The candidate with the highest score, of equal ones the first; None if none was judged."""
    judged = [entry for entry in entries if entry.score is not None]
    return max(judged, key=lambda entry: entry.score or 0.0, default=None)


def first(entries: Sequence[Entry], variant: str) -> Entry | None:
    """The candidate of a variant that would be taken without choosing: that of its job's first seed."""
    return next(
        (
            entry
            for entry in entries
            if entry.variant == variant
            and entry.seed == entry.job.seeds[0]
            and entry.status == "made"
        ),
        None,
    )


def _entry(candidate: Candidate, records: Records) -> Entry:
    head = candidate.name, candidate.job, candidate.variant, candidate.seed
    if (record := records.made.get(candidate.name)) is not None:
        return _made(head, record)
    if failures := records.failed.get(candidate.name):
        last = failures[-1]
        return Entry(
            *head,
            "failed",
            seconds=_number(last.get("seconds")),
            host=last.get("host"),
            error=str(last["error"]),
            attempts=int(last.get("attempt", len(failures))),
        )
    return Entry(*head, "waiting")


def _made(head: tuple[str, BatchJob, str, int], record: Record) -> Entry:
    files = record.get("files") or {}
    videos = [name for name in files if Path(name).suffix.lower() in VIDEO_SUFFIXES]
    maps = [name for name in videos if Path(name).stem.endswith("map")]
    plain = [name for name in videos if name not in maps]
    embeddings = [name for name in files if name.endswith(".safetensors")]
    folder = Path(record["path"])
    effect = (record.get("guidance") or {}).get("effect") or {}
    frames, fps = _number(record.get("frames")), _number(record.get("fps"))
    memory = _number(record.get("peak_memory_bytes"))
    return Entry(
        *head,
        "made",
        score=_number(record.get("score")),
        scores=_numbers(record.get("scores")),
        parts=_numbers(record.get("parts")),
        embeddings=folder / embeddings[0] if embeddings else None,
        video=folder / plain[0] if plain else None,
        video_sha256=files[plain[0]] if plain else None,
        length_s=frames / fps if frames and fps else None,
        heat_map=folder / maps[0] if maps else None,
        curve=Curve.of(record),
        gain=_number(effect.get("gain")),
        beyond_null=effect.get("beyond_null"),
        seconds=_number(record.get("seconds")),
        peak_memory_bytes=None if memory is None else int(memory),
        host=record.get("host"),
    )


def _spans(record: Mapping[str, Any]) -> list[tuple[Any, Any]]:
    """First and last predicted frame of each window, in seconds."""
    windows, fps = record.get("windows"), _number(record.get("fps"))
    if not isinstance(windows, Mapping):
        return [(window.get("target_s"), window.get("end_s")) for window in windows or ()]
    if not fps:
        return []
    target, last, starts = windows["target"], windows["size"] - 1, windows["starts"]
    strides = windows.get("frame_strides") or [1] * len(starts)
    # Windows over given frames may begin to predict before the video begins.
    return [
        (max(0, start + target * step) / fps, (start + last * step) / fps)
        for start, step in zip(starts, strides, strict=True)
    ]


def _find_judge(settings: Mapping[str, Any]) -> Mapping[str, Any] | None:
    if isinstance(settings.get("rewards"), Mapping):
        return settings
    nested = (value for value in settings.values() if isinstance(value, Mapping))
    return next(filter(None, map(_find_judge, nested)), None)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _number(value: Any) -> float | None:
    return float(value) if _is_number(value) else None


def _numbers(values: Any) -> dict[str, float]:
    if not isinstance(values, Mapping):
        return {}
    return {str(name): float(value) for name, value in values.items() if _is_number(value)}
