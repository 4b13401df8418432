"""The command line of `wmreward evaluate`: its flags, and what it prints."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from wmreward.commands import shared
from wmreward.commands.ending import run_command
from wmreward.commands.flags import Flag, Parser
from wmreward.commands.kinds import Number
from wmreward.commands.unused import NO_TABLE, Use, tell, without_effect

_ENDS = """\
Every flag may also be written with dashes. Files go to RUN/evaluation/PICK: clips/ (the submission, official
names), results.json, results.csv (a row per job), measures.csv (the benchmark's own layout). The table goes
to standard output. What is there already is not made again. Exit code: 0 when every job was evaluated, 1
when not, 2 for wrong flags, names or folders.

examples:
  wmreward evaluate outputs/run-1a2b3c4d --real physics-IQ-benchmark
  wmreward evaluate outputs/run-1a2b3c4d --real physics-IQ-benchmark --pick plain
"""


_CLIPS = (
    shared.REAL.but(required=True),
    Flag(
        "pick",
        "candidate of each job: best (highest score), best:VARIANT, or a VARIANT such as plain (its first "
        "seed, nothing chosen)",
        metavar="WHICH",
        default="best",
    ),
    shared.SECONDS,
    shared.CLIP_FPS.but(note="all are brought to it", usually="that of the videos"),
    Flag(
        "skip",
        "seconds at the beginning of each video that are not part of the answer, as where a video repeats "
        "what it was given",
        metavar="S",
        kind=Number(0, 1e6),
        default=0.0,
    ),
)


def build_parser() -> Parser:
    """All flags."""
    return Parser(
        "wmreward evaluate",
        "Physics-IQ scores of a run: one candidate per job, trimmed, measured.",
        _ENDS,
        {
            "clips": _CLIPS,
            "masks": (shared.MASKS, shared.REAL_MASKS),
            "output": (shared.FORMAT, shared.JSON),
            "running": (shared.WORKERS, shared.CACHE),
        },
        positional=(shared.RUN,),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code. Errors are printed as one line."""
    return run_command(
        _run, argv, interrupted=lambda _: "interrupted; the same command goes on from here"
    )


def _run(argv: Sequence[str]) -> int:
    values = build_parser().read(argv)
    use = Use(frozenset({"format"}), not values["json"], NO_TABLE)
    tell(without_effect(values.given, [use]))
    real = Path(values["real"])
    from wmreward.physics_iq.cli import cores, mask_folder
    from wmreward.physics_iq.dataset import NUM_JOBS, check_fit
    from wmreward.report.run_data import read_run

    real_masks = mask_folder(values["real_masks"], real)
    check_fit(real, masks=real_masks)  # what is missing is told before PyTorch is loaded
    run = read_run(Path(values["run"]))
    from wmreward.evaluate.run import EvaluateOptions, evaluate_run
    from wmreward.physics_iq.report import table
    from wmreward.report.totals import with_totals

    options = EvaluateOptions(
        pick=values["pick"],
        seconds=values["seconds"],
        fps=values["clip_fps"],
        skip_s=values["skip"],
        masks=values["masks"],
        real_masks=real_masks,
        cache="" if values["cache"] == "none" else values["cache"],
        workers=values["workers"] or min(16, cores()),
        progress=sys.stderr.isatty(),
    )
    found = evaluate_run(with_totals(run), real, options)
    if notes := found.notes:
        _say(f"note: {notes[0]}" + (f" ({len(notes) - 1} more like this)" if notes[1:] else ""))
    for job, error in found.failures.items():
        _say(f"failed: job {job}: {error}")
    if len(found.samples) < NUM_JOBS:
        _say(f"note: {len(found.samples)} of the {NUM_JOBS} jobs; a published score needs them all")
    results = found.folder / "results.json"
    if values["json"]:
        print(json.dumps(json.loads(results.read_text(encoding="utf-8")), allow_nan=False))
    elif found.samples:
        print(table(found.samples, values["format"]))
    _say(f"wrote {results}")
    return 1 if found.failures else 0


def _say(text: str) -> None:
    print(text, file=sys.stderr)
