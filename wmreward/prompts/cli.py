"""Job lists for batch generation: made from Physics-IQ's own files, and checked.

python -m wmreward.prompts physics-iq --descriptions descriptions.csv --data physics-IQ-benchmark
python -m wmreward.prompts check prompt/embedded.jsonl
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from wmreward.commands.ending import run_command
from wmreward.commands.flags import Parser, underscored
from wmreward.errors import UsageError, WMRewardError

_ENDS = (
    "Exit code: 0 when the files that jobs start from are in order, 1 when not, 2 for wrong flags."
)
_MAKE = f"""\
Every flag may also be written with dashes. {_ENDS} A list with files that are not in order is not written.

examples:
  python -m wmreward.prompts physics-iq --descriptions descriptions.csv --data physics-IQ-benchmark
  python -m wmreward.prompts physics-iq --descriptions descriptions.csv \\
      --data physics-IQ-benchmark-verified --mode v2v --fps 24 --seeds 0-15
"""
_WORKERS = 8


def _make_parser() -> Parser:
    parser = Parser("Make the job list of the Physics-IQ benchmark: 198 jobs.", _MAKE)
    parser.prog = "python -m wmreward.prompts physics-iq"
    parser.add(
        parser, "--descriptions", "the benchmark's descriptions.csv", required=True, metavar="FILE"
    )
    parser.add(
        parser,
        "--data",
        "the benchmark's folder, Original or Verified, or the one that holds it",
        required=True,
        metavar="DIR",
    )
    parser.add(
        parser,
        "--mode",
        "i2v (from switch frames) or v2v (from conditioning clips)",
        default="i2v",
        choices=("i2v", "v2v"),
        metavar="MODE",
    )
    parser.add(
        parser,
        "--fps",
        "of the conditioning clips: 30, 24, 16 or 8, as the model works",
        default=24,
        type=int,
        choices=(30, 24, 16, 8),
        metavar="F",
    )
    parser.add(
        parser,
        "--seeds",
        "one candidate of every job for each, such as 0,1,5 or 0-15",
        default="0",
        metavar="LIST",
    )
    parser.add(
        parser,
        "--output",
        "the list (default: physics_iq_i2v.jsonl or, such as, physics_iq_v2v_24fps.jsonl)",
        metavar="FILE",
    )
    _add_check(parser)
    return parser


def _check_parser() -> Parser:
    parser = Parser("Check a job list and the files that its jobs start from.", _ENDS)
    parser.prog = "python -m wmreward.prompts check"
    parser.add_argument("list", type=Path, metavar="LIST", help="a list of jobs (.jsonl)")
    _add_check(parser)
    return parser


def _add_check(parser: Parser) -> None:
    parser.add(
        parser,
        "--check",
        "full: files open, and videos are whole; exists: they are there",
        default="full",
        choices=("full", "exists"),
        metavar="HOW",
    )
    parser.add(parser, "--debug", "show where an error came from", action="store_true")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code. Errors are printed as one line."""
    return run_command(_run, argv, interrupted=lambda _: "interrupted; nothing was written")


def _run(argv: Sequence[str]) -> int:
    commands = {"physics-iq": (_make_parser, _make), "check": (_check_parser, _check)}
    if not argv or argv[0] not in commands:
        print((__doc__ or "").strip())
        if argv and argv[0] in ("-h", "--help"):
            return 0
        given = f"{argv[0]!r} is not a command" if argv else "which command?"
        raise UsageError(f"{given} ({' or '.join(commands)}; each has --help)")
    make_parser, act = commands[argv[0]]
    parser = make_parser()
    act(parser.defaults | vars(parser.parse_args(underscored(argv[1:]))))
    return 0


def _make(values: dict[str, Any]) -> None:
    from wmreward.prompts.conditioning import physics_iq_jobs
    from wmreward.prompts.jobs import write_jobs

    mode, fps = values["mode"], values["fps"]
    named = "physics_iq_i2v.jsonl" if mode == "i2v" else f"physics_iq_v2v_{fps}fps.jsonl"
    output = Path(values["output"] or named).expanduser()
    if output.suffix != ".jsonl":
        raise UsageError(f"--output {output} must end in .jsonl")
    jobs = physics_iq_jobs(
        Path(values["descriptions"]).expanduser(),
        Path(values["data"]).expanduser().resolve(),
        mode,
        fps=fps,
        seeds=parse_seeds(values["seeds"]),
    )
    _check_files([job.given for job in jobs if job.given], values["check"])
    write_jobs(output, jobs)
    print(f"{output}: {len(jobs)} jobs of {len(jobs[0].seeds)} candidates")


def _check(values: dict[str, Any]) -> None:
    from wmreward.prompts.jobs import read_jobs

    jobs = read_jobs(values["list"])
    files = [job.given for job in jobs if job.given]
    _check_files(files, values["check"])
    candidates = sum(len(job.seeds) for job in jobs)
    print(
        f"{values['list']}: {len(jobs)} jobs, {candidates} candidates, {len(files)} files in order"
    )


def parse_seeds(text: str) -> tuple[int, ...]:
    """Whole numbers and ranges of them, both ends included: ``0-3,8`` → 0, 1, 2, 3, 8.

    Raises:
        UsageError: it is something else, or names a seed twice.
    """
    seeds: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not (first.isdecimal() and (last.isdecimal() if dash else True)):
            raise UsageError(f"--seeds {text!r} must be numbers and ranges, such as 0,1,5 or 0-15")
        seeds += range(int(first), int(last if dash else first) + 1)
    if not seeds or len(set(seeds)) < len(seeds):
        raise UsageError(f"--seeds {text!r} must name one seed or more, each once")
    return tuple(seeds)


def problems_with(files: Sequence[Path], *, full: bool) -> list[str]:
    """One line for each file that is missing, empty or, if ``full``, damaged."""
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
