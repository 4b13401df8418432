"""The command line of `wmreward physics-iq`.

Nothing heavy is imported before the flags are understood.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wmreward.commands import shared
from wmreward.commands.ending import run_command
from wmreward.commands.flags import Flag, Parser
from wmreward.commands.kinds import place

if TYPE_CHECKING:
    from wmreward.physics_iq.dataset import Job
    from wmreward.physics_iq.evaluate import Evaluation

_EPILOG = """\
Every flag may also be written with dashes (--real-masks). The table goes to standard output, all else to
standard error. Nothing of yours is renamed or re-encoded. Exit code: 0 when all clips were evaluated, 1 when
one failed, 2 for wrong flags, names or folders, 130 after Ctrl-C.

A generated clip holds what comes after the conditioning: cut the 3 s prefix of video-to-video off. Its frames
are compared index to index with the real ones, so a model that repeats its input image lags by one. Masks are
made at each clip's own size and rate (5 x 5 kernels), so both decide what counts as motion.

Scores equal the published evaluation's but for its lossy mask files, which flip pixels of which half is on
(some tenths of a point on the whole set): --masks mpeg4 passes masks through the same codec,
--real_masks released reads those that the data set ships.

examples:
  wmreward physics-iq --real physics-IQ-benchmark --generated clips/ --output scores.json
  wmreward physics-iq --real physics-IQ-benchmark --generated clips/ --masks mpeg4
  wmreward physics-iq --list mine.json --seconds 10

mine.json, or the same as a .csv with a header; paths are relative to it:
  [{"take_1": "a1.mp4", "take_2": "a2.mp4", "generated": "a.mp4", "scenario": "a", "category": "pouring"}]
"""


_CLIPS = (
    shared.REAL,
    Flag(
        "generated",
        "folder with generated clips, named 0001_perspective-left_trimmed-….mp4 or 0001_….mp4; any part of "
        "the 198 jobs, any size and frame rate",
        metavar="DIR",
        kind=place,
    ),
    Flag(
        "list",
        "one's own videos instead: a JSON or CSV list (below)",
        metavar="FILE",
        kind=place,
    ),
    shared.DESCRIPTIONS.but(note="for categories other than the built-in ones"),
    shared.SECONDS.but(note="what comes later is not looked at"),
)

_OUTPUT = (
    shared.OUTPUT.but(note="scores, intervals, samples and failures (.json)"),
    Flag(
        "measures",
        "write the raw measures in the benchmark's layout (.csv)",
        metavar="FILE",
        kind=place,
    ),
    shared.FORMAT,
    shared.JSON,
)


def build_parser() -> Parser:
    """All flags, in groups."""
    return Parser(
        "wmreward physics-iq",
        "Score generated videos against two real recordings of each scene: the motion masks, measures and "
        "both published scores (Original, Verified) of Physics-IQ.",
        _EPILOG,
        {
            "clips": _CLIPS,
            "masks": (shared.MASKS, shared.REAL_MASKS),
            "output": _OUTPUT,
            "running": (shared.WORKERS, shared.CACHE),
        },
        old={"csv": "measures"},
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code. Errors are printed as one line."""
    return run_command(_run, argv, interrupted=_interrupted)


def _interrupted(argv: Sequence[str]) -> str:
    return "interrupted; real clips already seen are in the cache"


def _run(argv: Sequence[str]) -> int:
    parser = build_parser()
    values = parser.read(argv)
    _check(parser, values)
    from wmreward.physics_iq.evaluate import evaluate

    jobs = _jobs(values)
    workers = values["workers"] or default_workers(len(jobs), cores())
    settings = {key: values[key] for key in ("seconds", "masks", "real_masks")}
    evaluation = evaluate(
        jobs,
        seconds=values["seconds"],
        masks=values["masks"],
        cache="" if values["cache"] == "none" else values["cache"],
        workers=workers,
        progress=sys.stderr.isatty(),
    )
    _report(evaluation, values, settings)
    return 1 if evaluation.failures else 0


def _check(parser: Parser, values: Mapping[str, Any]) -> None:
    if values["list"]:
        for flag in ("real", "generated", "descriptions"):
            if values[flag]:
                parser.error(f"--{flag} has no place beside --list")
        if values["real_masks"] != "computed":
            parser.error("--real_masks has no place beside --list")
    elif not (values["real"] and values["generated"]):
        missing = "generated" if values["real"] else "real"
        parser.error(f"--{missing} is missing (or --list, for videos of one's own)")


def _jobs(values: Mapping[str, Any]) -> list[Job]:
    from wmreward.physics_iq.categories import CATEGORIES
    from wmreward.physics_iq.dataset import NUM_JOBS, find_jobs, read_descriptions, read_list

    if values["list"]:
        return read_list(Path(values["list"]))
    categories = CATEGORIES
    if values["descriptions"]:
        rows = read_descriptions(Path(values["descriptions"]))
        categories = {row.scenario: row.category for row in rows}
    real = Path(values["real"])
    masks = mask_folder(values["real_masks"], real)
    jobs = find_jobs(real, Path(values["generated"]), masks=masks, categories=categories)
    if len(jobs) < NUM_JOBS:
        _say(f"note: {len(jobs)} of the {NUM_JOBS} jobs; a published score needs them all")
    return jobs


def _report(evaluation: Evaluation, values: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    from wmreward.files import write_text
    from wmreward.physics_iq.official_csv import write_csv
    from wmreward.physics_iq.report import record, table

    if notes := evaluation.notes:
        _say(f"note: {notes[0]}" + (f" ({len(notes) - 1} more like this)" if notes[1:] else ""))
    for failure in evaluation.failures:
        _say(f"failed: {failure.error}")
    found = record(evaluation, settings)
    try:
        if values["measures"] and evaluation.samples:
            write_csv(values["measures"], evaluation.samples)
        if values["output"]:
            write_text(values["output"], json.dumps(found, allow_nan=False, indent=1) + "\n")
    finally:  # what was computed is told, also where it cannot be written
        if values["json"]:
            print(json.dumps(found, allow_nan=False))
        elif evaluation.samples:
            print(table(evaluation.samples, values["format"]))


def default_workers(num_jobs: int, cores: int) -> int:
    """One per core; more where all jobs then run at once, rather than the last ones on half the cores."""
    return min(16, num_jobs if cores < num_jobs <= 2 * cores else cores)


def mask_folder(which: str, real: Path) -> Path | None:
    """Where masks of real clips are read from, as ``--real_masks`` says; None: they are computed."""
    folders = {"computed": None, "released": real / "video-masks" / "real"}
    return folders.get(which, Path(which))


def cores() -> int:
    """Of this machine that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _say(text: str) -> None:
    print(text, file=sys.stderr)
