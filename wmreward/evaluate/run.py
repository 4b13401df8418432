"""From a run to its Physics-IQ scores: candidates picked, clips as the benchmark wants them, measures.

    RUN/evaluation/best/clips/          the submission: one clip per job under its official name
    RUN/evaluation/best/clips.jsonl     which candidate each was made from
    RUN/evaluation/best/measures.jsonl  raw measures of each, kept as they come
    RUN/evaluation/best/results.json    scores, intervals, samples, failures, settings
    RUN/evaluation/best/results.csv     one row per job
    RUN/evaluation/best/measures.csv    raw measures in the benchmark's layout

What is there for the same candidate, real clips and settings is not made again.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from wmfiles import read_json
from wmreward.batch.submission import ClipForm, whole_rate, write_clip
from wmreward.errors import FileError, UsageError, VideoError, WMRewardError
from wmreward.files import write_text
from wmreward.physics_iq.cache import fingerprint
from wmreward.physics_iq.dataset import Job, check_fit, find_jobs
from wmreward.physics_iq.evaluate import Evaluation, Failure, evaluate
from wmreward.physics_iq.measures.metrics import Metrics
from wmreward.physics_iq.official_csv import write_csv
from wmreward.physics_iq.report import record as evaluation_record
from wmreward.physics_iq.scores import Sample
from wmreward.ranks import Ranks
from wmreward.records.lock import reserved
from wmreward.records.record_file import RecordFile
from wmreward.records.scored import Record
from wmreward.report.run_data import Entry, RunData, best, first

_BLOCK = 24
"""Clips that are measured before their measures are kept."""


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """How a run is evaluated.

    Attributes:
        pick: Which candidate stands for a job: ``best`` (highest score), ``best:VARIANT`` (of one variant),
            or a variant (its first seed, nothing chosen).
        seconds, fps, skip_s: See `ClipForm`; ``fps`` None: that of the videos, which must agree.
        masks: "lossless" or "mpeg4", as `wmreward physics-iq` has it.
        real_masks: Folder with stored masks of the real clips.
        cache: Folder for what is known of real clips; None for the usual one.
        workers: Processes.
        progress: Show a bar on standard error.
    """

    pick: str = "best"
    seconds: float = 5.0
    fps: int | None = None
    skip_s: float = 0.0
    masks: str = "lossless"
    real_masks: Path | None = None
    cache: str | None = None
    workers: int = 1
    progress: bool = False


@dataclass(frozen=True)
class Evaluated:
    """What came out.

    Attributes:
        folder: With all files.
        samples: Of the jobs that could be measured.
        failures: Job id and reason of the others, one line each.
        notes: What to know of clips that were measured now, a line each.
    """

    folder: Path
    samples: tuple[Sample, ...]
    failures: dict[str, str]
    notes: tuple[str, ...] = ()


def evaluate_run(run: RunData, real: Path, options: EvaluateOptions) -> Evaluated:
    """Pick, trim, measure, write; a job that cannot be evaluated fails alone.

    Args:
        run: The run.
        real: Folder with the benchmark's real testing clips, at any depth.
        options: How.

    Raises:
        UsageError: an unknown pick, names that are not the benchmark's, settings out of range.
        InUse: another evaluation writes there.
        WMRewardError: nothing could be picked or trimmed, or files cannot be written.
    """
    picks, failures = pick(run, options.pick)
    check_fit(real, [entry.job.output_name for entry in picks.values()], options.real_masks)
    form = _form(run, picks, options)
    folder = run.path / "evaluation" / options.pick.replace(":", "-")
    try:
        with reserved(folder / "clips.jsonl", Ranks()):
            return _evaluated(run, picks, failures, form, real, folder, options)
    finally:
        _remove_empty(folder / "clips", folder, folder.parent)


def _remove_empty(*folders: Path) -> None:
    """What was made for results that did not come is not left behind."""
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()


def _evaluated(
    run: RunData,
    picks: dict[str, Entry],
    failures: dict[str, str],
    form: ClipForm,
    real: Path,
    folder: Path,
    options: EvaluateOptions,
) -> Evaluated:
    failures |= make_clips(run, picks, form, folder, options.progress)
    if len(failures) == len(run.jobs):
        name, reason = next(iter(failures.items()))
        raise WMRewardError(f"{run.path}: no clip could be made; job {name}: {reason}")
    jobs = _jobs(run, real, folder / "clips", options)
    evaluation = _measure(jobs, folder, options)
    failures |= {failure.job.id: failure.error for failure in evaluation.failures}
    _write(run, picks, evaluation, failures, form, folder, options)
    return Evaluated(folder, evaluation.samples, failures, evaluation.notes)


# --- which candidates -----------------------------------------------------------------------------------


def pick(run: RunData, how: str) -> tuple[dict[str, Entry], dict[str, str]]:
    """One candidate for each job by its id, and why there is none for the others.

    Raises:
        UsageError: a variant that the run does not have.
    """
    rule, _, variant = how.partition(":") if how.startswith("best") else ("first", "", how)
    if rule not in ("best", "first") or (variant and variant not in run.variants):
        variants = [*run.variants, "best", *(f"best:{name}" for name in run.variants)]
        raise UsageError(f"--pick {how}: choose one of {', '.join(variants)}")
    picks: dict[str, Entry] = {}
    failures: dict[str, str] = {}
    for job, entries in run.of_job().items():
        able = [entry for entry in entries if variant in ("", entry.variant)]
        found = best(able) if rule == "best" else first(able, variant)
        if found is not None and found.video is not None:
            picks[job] = found
        else:
            failures[job] = _why_none(able)
    return picks, failures


def _why_none(entries: Sequence[Entry]) -> str:
    if any(entry.status == "made" for entry in entries):
        return "none of its candidates has a score"
    errors = [entry.error for entry in entries if entry.error]
    return f"no candidate was made: {errors[0]}" if errors else "no candidate was made yet"


# --- clips ----------------------------------------------------------------------------------------------


def _form(run: RunData, picks: Mapping[str, Entry], options: EvaluateOptions) -> ClipForm:
    fps = options.fps
    reasons: list[str] = []
    for entry in () if fps else picks.values():
        try:
            fps = whole_rate(_video(run, entry))
            break
        except VideoError as error:
            reasons.append(str(error))
    if fps is None:
        reason = reasons[0] if reasons else "no candidate was made yet"
        raise WMRewardError(f"{run.path}: nothing to evaluate: {reason}")
    return ClipForm(seconds=options.seconds, fps=fps, skip_s=options.skip_s)


def make_clips(
    run: RunData, picks: Mapping[str, Entry], form: ClipForm, folder: Path, progress: bool = False
) -> dict[str, str]:
    """Write the submission: exactly the clips of ``picks``, but for those that cannot be made.

    Returns:
        By job id, why not.
    """
    clips, made = folder / "clips", RecordFile(folder / "clips.jsonl")
    clips.mkdir(parents=True, exist_ok=True)
    known = {record["path"]: record["clip_id"] for record in made.repair()}
    failures: dict[str, str] = {}
    for entry in _shown(picks.values(), len(picks), progress):
        name = entry.job.output_name
        clip_id = _hash({"source": entry.video_sha256, **form.to_json()})
        if known.get(name) == clip_id and (clips / name).exists():
            continue
        if name in known:  # before the clip goes: a kill in between must not leave a wrong claim
            made.append({"path": name, "candidate": None, "clip_id": None})
        (clips / name).unlink(missing_ok=True)
        try:
            write_clip(_video(run, entry), clips / name, form)
        except VideoError as error:
            failures[entry.job.id] = str(error)
            continue
        made.append({"path": name, "candidate": entry.name, "clip_id": clip_id})
    wanted = {entry.job.output_name for entry in picks.values()}
    for path in clips.iterdir():
        if path.name not in wanted:
            path.unlink()
    return failures


def _video(run: RunData, entry: Entry) -> Path:
    assert entry.video is not None, "only candidates with a video are picked"
    return run.path / entry.video


# --- measures -------------------------------------------------------------------------------------------


def _jobs(run: RunData, real: Path, clips: Path, options: EvaluateOptions) -> list[Job]:
    """The benchmark's jobs, with the categories of the run's where those say one."""
    categories = {job.output_name: job.category for job in run.jobs}
    jobs = find_jobs(real, clips, masks=options.real_masks)
    return [
        replace(job, category=categories.get(job.generated.name) or job.category) for job in jobs
    ]


def _measure(jobs: Sequence[Job], folder: Path, options: EvaluateOptions) -> Evaluation:
    """The measures of all jobs; those of an earlier run are taken over, new ones kept block by block."""
    kept = RecordFile(folder / "measures.jsonl")
    clip_ids = {r["path"]: r["clip_id"] for r in RecordFile(folder / "clips.jsonl").read()}
    known = {record["measure_id"]: record for record in kept.repair()}
    ids = {job: _measure_id(job, clip_ids[job.generated.name], options) for job in jobs}
    samples = {job: _sample(job, known[ids[job]]) for job in jobs if ids[job] in known}
    failures: list[Failure] = []
    notes: list[str] = []
    missing = [job for job in jobs if job not in samples]
    for start in _shown(range(0, len(missing), _BLOCK), None, options.progress):
        block = missing[start : start + _BLOCK]
        found = evaluate(
            block,
            seconds=options.seconds,
            masks=options.masks,
            cache=options.cache,
            workers=options.workers,
        )
        failures += found.failures
        notes += found.notes
        of_id = {sample.id: sample for sample in found.samples}
        for job in block:
            if (sample := of_id.get(job.id)) is not None:
                samples[job] = sample
                kept.append(_measured(job, ids[job], sample))
    measured = tuple(samples[job] for job in jobs if job in samples)
    return Evaluation(measured, tuple(failures), tuple(notes))


def _measure_id(job: Job, clip_id: str, options: EvaluateOptions) -> str:
    """Hash of all that decides the measures of a clip."""
    real = [fingerprint(path) for path in (job.take_1, job.take_2, *(job.masks or ()))]
    return _hash(
        {"clip": clip_id, "real": real, "masks": options.masks, "seconds": options.seconds}
    )


def _measured(job: Job, measure_id: str, sample: Sample) -> Record:
    return {
        "path": job.generated.name,
        "measure_id": measure_id,
        "metrics": asdict(sample.metrics),
    }


def _sample(job: Job, record: Record) -> Sample:
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in record["metrics"].items()
    }
    return Sample(job.scenario, job.view, Metrics(**values), category=job.category, id=job.id)


# --- results --------------------------------------------------------------------------------------------


def _write(
    run: RunData,
    picks: Mapping[str, Entry],
    evaluation: Evaluation,
    failures: Mapping[str, str],
    form: ClipForm,
    folder: Path,
    options: EvaluateOptions,
) -> None:
    settings = {"pick": options.pick, **form.to_json(), "masks": options.masks}
    settings["real_masks"] = options.real_masks and str(options.real_masks)
    results = evaluation_record(evaluation, settings)
    by_clip = {entry.job.output_name[:4]: entry for entry in picks.values()}
    for sample in results["samples"]:
        entry = by_clip[sample["id"]]
        sample |= {"job": entry.job.id, "candidate": entry.name, "score": entry.score}
    results["failures"] = [{"job": job, "error": error} for job, error in failures.items()]
    results["jobs"] = len(run.jobs)
    text = json.dumps(results, allow_nan=False, indent=1)
    write_text(folder / "results.csv", _rows(run, results))
    if evaluation.samples:
        write_csv(folder / "measures.csv", evaluation.samples)
    write_text(folder / "results.json", text + "\n")


def _rows(run: RunData, results: Mapping[str, Any]) -> str:
    """One row per job, as CSV."""
    samples = {sample["job"]: sample for sample in results["samples"]}
    errors = {failure["job"]: failure["error"] for failure in results["failures"]}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns = ("scenario", "view", "category", "candidate", "score", "verified")
    writer.writerow(["job", *columns, "error"])
    for job in run.jobs:
        sample = samples.get(job.id, {})
        cells = [sample.get(name) for name in columns]
        writer.writerow([job.id, *cells, errors.get(job.id)])
    return text.getvalue()


def read_results(run: Path) -> dict[str, dict[str, Any]]:
    """The results of all evaluations of a run, by what was picked; those that cannot be read are left out."""
    read = map(_read_results, sorted((run / "evaluation").glob("*/results.json")))
    return {results["settings"]["pick"]: results for results in read if results is not None}


def _read_results(file: Path) -> dict[str, Any] | None:
    try:
        results = read_json(file, refuse=FileError)
    except FileError:
        return None
    known = isinstance(results, dict) and {"scores", "samples", "failures"} <= results.keys()
    return results if known else None


def _hash(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def _shown(items: Iterable[Any], total: int | None, progress: bool) -> Iterator[Any]:
    from tqdm import tqdm

    yield from tqdm(items, total=total, unit="clip", leave=False, disable=not progress)
