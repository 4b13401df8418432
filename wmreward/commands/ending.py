"""How a command line of ours ends: exit codes, one line for each error, Ctrl-C, a reader that went away."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Sequence

from wmreward.errors import WMRewardError

INTERRUPTED = 130
"""Exit code of a process stopped by Ctrl-C, as shells have it."""


def run_command(
    work: Callable[[Sequence[str]], int],
    argv: Sequence[str] | None,
    *,
    interrupted: Callable[[Sequence[str]], str],
    expected: tuple[type[Exception], ...] = (),
) -> int:
    """Do the work of a command line and return its exit code.

    Args:
        work: Gets the arguments, returns the exit code.
        argv: The arguments; those of the process by default.
        interrupted: What to say after Ctrl-C.
        expected: Errors of other packages that are meant for people, beside ``WMRewardError``; an
            attribute ``exit_code`` says how to leave (1 by default).
    """
    argv = sys.argv[1:] if argv is None else argv
    debug = "--debug" in argv
    for_people: tuple[type[Exception], ...] = (WMRewardError, *expected)
    try:
        return work(argv)
    except KeyboardInterrupt:
        _say(interrupted(argv))
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except for_people as error:
        # Every rank of a distributed run gets here with the same error.
        if os.environ.get("RANK", "0") == "0":
            _say_error(error, str(error), debug)
        return int(getattr(error, "exit_code", 1))
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
        _say_error(error, text if debug else f"{text} (--debug shows where)", debug)
        return 1


def _say(text: str) -> None:
    print(" ".join(text.split("\n")), file=sys.stderr)


def _say_error(error: BaseException, text: str, debug: bool) -> None:
    if debug:
        traceback.print_exception(error)
    _say(f"error: {text}")
