"""The command line of `compute_wmreward.py`: what its flags start, and how errors end the process.

Nothing heavy is imported before the flags are understood.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence

from wmreward.errors import WMRewardError
from wmreward.score_flags import build_parser, underscored

INTERRUPTED = 130
"""Exit code of a process stopped by Ctrl-C, as shells have it."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code. Errors are printed as one line."""
    argv = sys.argv[1:] if argv is None else argv
    debug = "--debug" in argv
    try:
        return _run(argv)
    except KeyboardInterrupt:
        saved = any(word.startswith("--output") for word in argv)
        _say(
            "interrupted; the same command goes on from here"
            if saved
            else "interrupted; with --output FILE the next run could have gone on from here"
        )
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except WMRewardError as error:
        # Every rank of a distributed run gets here with the same error.
        if os.environ.get("RANK", "0") == "0":
            _say_error(error, str(error), debug)
        return error.exit_code
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
        _say_error(error, text if debug else f"{text} (--debug shows where)", debug)
        return 1


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
    from wmreward.score_settings import job_from, model_choice

    if values["weights_info"]:
        from wmreward.score_run import load_weights

        print(load_weights(model_choice(values)).info)
        return 0
    job = job_from(values, set(given))
    from wmreward.score_run import run

    return run(job)


def _say(text: str) -> None:
    print(" ".join(text.split("\n")), file=sys.stderr)


def _say_error(error: BaseException, text: str, debug: bool) -> None:
    if debug:
        traceback.print_exception(error)
    _say(f"error: {text}")
