"""`python -m wmreward.batch evaluate`: its flags, and what it prints."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wmreward.commands.flags import Parser, underscored

_ENDS = """\
Every flag may also be written with dashes. Files go to RUN/evaluation/PICK: clips/ (the submission, official
names), results.json, results.csv (a row per job), measures.csv (the benchmark's own layout). The table goes
to standard output. What is there already is not made again. Exit code: 0 when every job was evaluated, 1
when not, 2 for wrong flags, names or folders.

examples:
  python -m wmreward.batch evaluate outputs/run-1a2b3c4d --real physics-IQ-benchmark
  python -m wmreward.batch evaluate outputs/run-1a2b3c4d --real physics-IQ-benchmark --pick plain
"""


def build_parser() -> Parser:
    """All flags."""
    parser = Parser("Physics-IQ scores of a run: one candidate per job, trimmed, measured.", _ENDS)
    parser.prog = "python -m wmreward.batch evaluate"
    parser.add_argument("run", type=Path, metavar="RUN", help="the run's folder")
    add = parser.add
    add(
        parser,
        "--real",
        "folder with the real testing clips, at any depth: the data set, or a part of it",
        type=Path,
        required=True,
        metavar="DIR",
    )
    add(
        parser,
        "--pick",
        "candidate of each job: best (highest score), best:VARIANT, or a VARIANT such as plain (its first "
        "seed, nothing chosen)",
        default="best",
        metavar="WHICH",
    )
    add(
        parser,
        "--seconds",
        "length of the clips; published scores are over 5",
        type=float,
        default=5.0,
        metavar="S",
    )
    add(
        parser,
        "--fps",
        "bring all clips to F frames per second (default: that of the videos)",
        type=int,
        metavar="F",
    )
    add(
        parser,
        "--skip",
        "seconds at the beginning of each video that are not part of the answer, as where a video "
        "repeats what it was given",
        type=float,
        default=0.0,
        metavar="S",
    )
    add(
        parser,
        "--masks",
        "lossless, or mpeg4: through the codec of the published evaluation's mask files",
        default="lossless",
        choices=("lossless", "mpeg4"),
        metavar="HOW",
    )
    add(
        parser,
        "--real_masks",
        "computed; released: read from video-masks/real below --real; or a folder of such files",
        default="computed",
        metavar="WHICH",
    )
    add(
        parser,
        "--workers",
        "processes; each takes at most 0.5 GiB at 4K (default: one per core, 16 at most)",
        type=int,
        metavar="N",
    )
    add(
        parser,
        "--cache",
        "folder that keeps what is known of real clips; none: keep nothing "
        "(default: ~/.cache/wmreward/physics_iq)",
        metavar="DIR",
    )
    add(parser, "--debug", "show where an error came from", action="store_true")
    return parser


def evaluate_command(argv: Sequence[str]) -> int:
    """Run the command; returns the exit code."""
    parser = build_parser()
    values: dict[str, Any] = parser.defaults | vars(parser.parse_args(underscored(argv)))
    if values["workers"] is not None and values["workers"] < 1:
        parser.error(f"--workers must be 1 or more, got {values['workers']}")
    from wmreward.evaluate.run import EvaluateOptions, evaluate_run
    from wmreward.physics_iq.dataset import NUM_JOBS
    from wmreward.physics_iq.report import table
    from wmreward.report.run_data import read_run
    from wmreward.report.totals import with_totals

    options = EvaluateOptions(
        pick=values["pick"],
        seconds=values["seconds"],
        fps=values["fps"],
        skip_s=values["skip"],
        masks=values["masks"],
        real_masks=_real_masks(values["real_masks"], values["real"]),
        cache="" if values["cache"] == "none" else values["cache"],
        workers=values["workers"] or min(16, _cores()),
        progress=sys.stderr.isatty(),
    )
    found = evaluate_run(with_totals(read_run(values["run"])), values["real"], options)
    for job, error in found.failures.items():
        _say(f"failed: job {job}: {error}")
    if len(found.samples) < NUM_JOBS:
        _say(f"note: {len(found.samples)} of the {NUM_JOBS} jobs; a published score needs them all")
    if found.samples:
        print(table(found.samples))
    _say(f"wrote {found.folder / 'results.json'}")
    return 1 if found.failures else 0


def _real_masks(which: str, real: Path) -> Path | None:
    folders = {"computed": None, "released": real / "video-masks" / "real"}
    return folders.get(which, Path(which))


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _say(text: str) -> None:
    print(text, file=sys.stderr)
