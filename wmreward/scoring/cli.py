"""The command line of `compute_wmreward.py`: what its flags start, and how errors end the process.

Nothing heavy is imported before the flags are understood.
"""

from __future__ import annotations

from collections.abc import Sequence

from wmreward.commands.ending import run_command
from wmreward.commands.flags import underscored
from wmreward.scoring.flags import build_parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code. Errors are printed as one line."""
    return run_command(_run, argv, interrupted=_interrupted)


def _interrupted(argv: Sequence[str]) -> str:
    if any(word.startswith("--output") for word in argv):
        return "interrupted; the same command goes on from here"
    return "interrupted; with --output FILE the next run could have gone on from here"


def _run(argv: Sequence[str]) -> int:
    parser = build_parser()
    given = vars(parser.parse_args(underscored(argv)))
    values = parser.defaults | given
    if values["version"]:
        from wmreward.version import __version__

        print(f"wmreward {__version__}")
        return 0
    if not (values["video_path"] or values["weights_info"]):
        parser.error("--video_path is missing: which videos?")
    from wmreward.scoring.settings import job_from, model_choice

    if values["weights_info"]:
        from wmreward.scoring.run import load_weights

        print(load_weights(model_choice(values)).info)
        return 0
    job = job_from(values, set(given))
    from wmreward.scoring.run import run

    return run(job)
