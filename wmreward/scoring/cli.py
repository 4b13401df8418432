"""The command line of `wmreward score` (`compute_wmreward.py`).

Nothing heavy is imported before the flags are understood.
"""

from __future__ import annotations

from collections.abc import Sequence

from wmreward.commands.ending import run_command
from wmreward.commands.flags import Values
from wmreward.commands.unused import NO_TABLE, Use, tell, without_effect
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
    values = parser.read(argv)
    if not (values["video_path"] or values["weights_info"]):
        parser.error("which videos? name a VIDEO, a folder or a list")
    if values["weights_info"]:
        return _weights_info(values)
    tell(without_effect(values.given, _uses(values)))
    from wmreward.video.find import find_videos

    found = find_videos(values["video_path"])  # what is missing is told before PyTorch is loaded
    from wmreward.scoring.settings import job_from

    job = job_from(values, found)
    from wmreward.devices import slow_to_compile
    from wmreward.scoring.run import run

    tell(slow_to_compile(values["compile"], values["device"]))
    return run(job)


def _uses(values: Values) -> tuple[Use, ...]:
    return (
        Use(frozenset({"format"}), not values["json"], NO_TABLE),
        Use(
            frozenset({"pictures"}),
            values["plot"] or values["map"],
            "there is nothing to draw into it (--plot and --map draw)",
        ),
    )


def _weights_info(values: Values) -> int:
    from wmreward.scoring.run import load_weights
    from wmreward.scoring.settings import model_choice

    print(load_weights(model_choice(values), rehash=True).info)
    return 0
