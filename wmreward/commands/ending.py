"""How every command line of ours starts and ends: exit codes, a line per error, Ctrl-C, closed streams.

`start` is the process: a script, ``python -m …`` and the console scripts are one call of it. `run_command`
is what the `main` of a `cli.py` calls; it works without a process of its own, as in tests. Nothing here
imports anything large, as Ctrl-C is to be answered from the first moment.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from wmreward.commands.streams import have_streams, to_nowhere
from wmreward.errors import UsageError, in_words, one_line, speaking_of_flags

INTERRUPTED = 128 + signal.SIGINT
"""Exit code of a process stopped by Ctrl-C, as shells have it; after SIGTERM it is 143."""

_MAGI = Path(__file__).parents[2] / "MAGI-1"
"""In a clone the package `magi1` lies one level down: a dash cannot be imported."""


def start(module: str) -> NoReturn:
    """Be the process of a command line: import ``module``, call its ``main()``, leave with what it returns.

    Args:
        module: Of the command line, such as ``wmreward.scoring.cli``. It may import what it likes: an
            interruption meanwhile ends in one line, and the environment is as PyTorch is to find it.
    """
    have_streams()
    _Interruption.notice()
    # Read when PyTorch is loaded. On a CPU its threads otherwise spin while they wait for one another: with
    # decoding threads or other programs on the same cores everything gets several times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if _MAGI.is_dir():
        sys.path.insert(1, str(_MAGI))
    try:
        code = run_command(lambda _: _command(module).main(), None)
    except SystemExit as ended:  # argparse, after --help
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    _leave(code)


def _command(module: str) -> Any:
    """The module of a command line, imported where PyTorch can be: without a working directory it aborts."""
    try:
        Path.cwd()
    except FileNotFoundError:
        raise UsageError("the working directory was deleted; change to another (cd)") from None
    return import_module(module)


def run_command(
    work: Callable[[Sequence[str]], int],
    argv: Sequence[str] | None,
    *,
    interrupted: Callable[[Sequence[str]], str] = lambda _: "interrupted",
) -> int:
    """Do the work of a command line and return its exit code.

    An error that is meant for people has an attribute ``exit_code``, as `WMRewardError` and those of
    other packages of ours have; its text is the line. Of any other one the line says what is wrong as well
    as can be told.

    Args:
        work: Gets the arguments, returns the exit code.
        argv: The arguments; those of the process by default.
        interrupted: What to say after Ctrl-C.
    """
    argv = sys.argv[1:] if argv is None else argv
    try:
        with speaking_of_flags():
            return work(argv)
    except SystemExit:
        raise
    except BrokenPipeError:  # the reader of our output, such as `head`, has seen enough
        to_nowhere(sys.stdout)
        return 1
    except BaseException as error:
        # Every rank of a distributed run gets here with the same error.
        first = os.environ.get("RANK", "0") == "0"
        if isinstance(error, KeyboardInterrupt) or _Interruption.came:  # some imports replace it
            if first:
                _say(interrupted(argv))
            return 128 + (_Interruption.came or signal.SIGINT)
        if first:
            say_error(error, debug="--debug" in argv)
        return int(getattr(error, "exit_code", 1))


def say_error(error: BaseException, *, debug: bool = False) -> None:
    """The one line of an error, on standard error."""
    if debug:
        traceback.print_exception(error)
    hint = "" if debug or hasattr(error, "exit_code") else "; --debug shows where"
    _say(f"error: {in_words(error)}{hint}")


class _Interruption:
    """Ctrl-C or SIGTERM since the process was started: both let it put away locks and temporary files.

    Attributes:
        came: Which one, or 0.
    """

    came = 0

    @classmethod
    def notice(cls) -> None:
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else a shell ignores it
            signal.signal(signal.SIGINT, cls._note)
        # One of several processes may wait for the others where Python cannot answer: it ends at once.
        alone = "RANK" not in os.environ
        if alone and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, cls._note)

    @classmethod
    def _note(cls, number: int, _frame: FrameType | None) -> None:
        cls.came = number
        raise KeyboardInterrupt


def _say(text: str) -> None:
    print(one_line(text), file=sys.stderr)


def _leave(code: int) -> NoReturn:
    """End the process; what is still to be written is written now, where a failure can be told."""
    try:
        sys.stdout.flush()
    except OSError as error:
        to_nowhere(sys.stdout)  # else Python tries once more, and complains
        if not isinstance(error, BrokenPipeError):
            say_error(error)
        code = code or 1
    # Nothing is left to be interrupted, but threads may be waited for.
    signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))
    raise SystemExit(code)
