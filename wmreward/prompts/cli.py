"""Job lists for batch generation: made from Physics-IQ's own files, and checked.

wmreward prompts physics-iq --descriptions descriptions.csv --real physics-IQ-benchmark
wmreward prompts check prompt/embedded.jsonl
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from wmreward.commands import shared
from wmreward.commands.dispatch import Command, dispatch
from wmreward.commands.ending import run_command
from wmreward.commands.flags import Flag, Parser, Positional
from wmreward.commands.kinds import OneOf, place
from wmreward.errors import UsageError, WMRewardError

_ENDS = (
    "Exit code: 0 when the files that jobs start from are in order, 1 when not, 2 for wrong flags."
)
_MAKE = f"""\
Every flag may also be written with dashes. {_ENDS} A list with files that are not in order is not written.

examples:
  wmreward prompts physics-iq --descriptions descriptions.csv --real physics-IQ-benchmark
  wmreward prompts physics-iq --descriptions descriptions.csv --real physics-IQ-benchmark-verified \\
      --mode v2v --clip_fps 24 --seeds 0-15
"""
_WORKERS = 8
_RATES = (30, 24, 16, 8)

_CHECK = Flag(
    "check",
    "full: files open, and videos are whole; exists: they are there",
    metavar="HOW",
    kind=OneOf(("full", "exists")),
    default="full",
)


def make_parser() -> Parser:
    """All flags of `wmreward prompts physics-iq`."""
    flags = (
        shared.DESCRIPTIONS.but(required=True),
        shared.REAL.but(required=True, note="Original or Verified"),
        shared.MODE.but(
            default="i2v", note="here i2v (from switch frames) or v2v (from conditioning clips)"
        ),
        shared.CLIP_FPS.but(default=24, note="30, 24, 16 or 8, as the model works"),
        shared.SEEDS.but(usually="0"),
        shared.OUTPUT.but(
            note="the list (.jsonl)",
            usually="physics_iq_i2v.jsonl or, such as, physics_iq_v2v_24fps.jsonl",
        ),
        _CHECK,
    )
    return Parser(
        "wmreward prompts physics-iq",
        "Make the job list of the Physics-IQ benchmark: 198 jobs.",
        _MAKE,
        {"list": flags},
        old={"data": "real"},
    )


def check_parser() -> Parser:
    """All flags of `wmreward prompts check`."""
    return Parser(
        "wmreward prompts check",
        "Check a job list and the files that its jobs start from.",
        _ENDS,
        {"files": (_CHECK,)},
        positional=(Positional("list", "a list of jobs (.jsonl)", "LIST", kind=place),),
    )


COMMANDS = (
    Command("physics-iq", "make the list of that benchmark", "wmreward.prompts.cli:make"),
    Command(
        "check", "check a list and the files that its jobs start from", "wmreward.prompts.cli:check"
    ),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code. Errors are printed as one line."""
    about = "Job lists for batch generation: made from Physics-IQ's own files, and checked."
    return run_command(
        partial(dispatch, "wmreward prompts", about, COMMANDS),
        argv,
        interrupted=lambda _: "interrupted; nothing was written",
    )


def make(argv: Sequence[str]) -> int:
    """Make and write a list; returns the exit code."""
    parser = make_parser()
    values = parser.read(argv)
    if values["mode"] == "t2v":
        parser.error("--mode t2v: jobs of Physics-IQ are i2v or v2v")
    if values["clip_fps"] not in _RATES:
        parser.error(f"--clip_fps must be one of {', '.join(map(str, _RATES))}")
    _make(values)
    return 0


def check(argv: Sequence[str]) -> int:
    """Check a list; returns the exit code."""
    _check(check_parser().read(argv))
    return 0


def _make(values: dict[str, Any]) -> None:
    from wmreward.files import user_path
    from wmreward.prompts.conditioning import physics_iq_jobs
    from wmreward.prompts.jobs import write_jobs

    mode, fps = values["mode"], values["clip_fps"]
    named = "physics_iq_i2v.jsonl" if mode == "i2v" else f"physics_iq_v2v_{fps}fps.jsonl"
    output = user_path(values["output"] or named)
    if output.suffix != ".jsonl":
        raise UsageError(f"--output {output} must end in .jsonl")
    jobs = physics_iq_jobs(
        user_path(values["descriptions"]),
        user_path(values["real"]).resolve(),
        mode,
        fps=fps,
        seeds=values["seeds"] or (0,),
    )
    _check_files([job.given for job in jobs if job.given], values["check"])
    write_jobs(output, jobs)
    print(f"{output}: {len(jobs)} jobs of {len(jobs[0].seeds)} candidates")


def _check(values: dict[str, Any]) -> None:
    from wmreward.files import user_path
    from wmreward.prompts.jobs import read_jobs

    jobs = read_jobs(user_path(values["list"]))
    files = [job.given for job in jobs if job.given]
    _check_files(files, values["check"])
    candidates = sum(len(job.seeds) for job in jobs)
    print(
        f"{values['list']}: {len(jobs)} jobs, {candidates} candidates, {len(files)} files in order"
    )


def problems_with(files: Sequence[Path], *, full: bool) -> list[str]:
    """One line for each file that is missing, empty or, if ``full``, damaged."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(_WORKERS) as pool:  # decoding lets go of the interpreter
        return [line for line in pool.map(partial(_problem_with, full=full), files) if line]


def _problem_with(file: Path, *, full: bool) -> str | None:
    from wmreward.errors import VideoError
    from wmreward.video.container import check_file
    from wmreward.video.images import is_image, read_image
    from wmreward.video_io import count_frames, probe

    try:
        check_file(file)
        if full and is_image(file):
            read_image(file)
        elif full:
            probe(file)
            count_frames(file)  # walks the whole file: notices one that was cut short
    except VideoError as error:
        return str(error)
    return None


def _check_files(files: Sequence[Path], how: str) -> None:
    """All that is wrong on standard error, and one line in the end."""
    problems = problems_with(files, full=how == "full")
    for line in problems:
        print(line, file=sys.stderr)
    if problems:
        raise WMRewardError(
            f"{len(problems)} of {len(files)} files that jobs start from are not in order (listed above)"
        )
