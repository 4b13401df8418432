"""Commands of commands: the first word says which one, and only that one is imported."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path, PurePath
from typing import Any

from wmreward.commands.kinds import quoted
from wmreward.errors import UsageError, did_you_mean
from wmreward.version import __version__

_SHOWN = 200
"""Characters of what was typed, at most."""


@dataclass(frozen=True)
class Command:
    """One of them.

    Attributes:
        name: The first word.
        text: What it does, one line.
        main: ``module:function`` that gets the words after it and returns the exit code.
        parsers: ``module:function`` that makes a parser, for each that it has; for the table of flags.
    """

    name: str
    text: str
    main: str
    parsers: tuple[str, ...] = ()


def dispatch(
    prog: str, about: str, commands: Sequence[Command], argv: Sequence[str], *, of_files: str = ""
) -> int:
    """Run the command that the first word names; returns the exit code.

    Args:
        prog: How it is called.
        about: What it does.
        commands: What there is.
        argv: The words after ``prog``.
        of_files: The command that is meant where a file stands in the place of one, if any is.

    Raises:
        UsageError: there is none of this name, or no word at all.
    """
    names = [command.name for command in commands]
    if argv and argv[0] in names:
        return int(found(commands[names.index(argv[0])].main)(argv[1:]))
    if argv and argv[0] in ("-h", "--help", "help"):
        print(_help(prog, about, commands))
        return 0
    if argv and argv[0] == "--version":
        print(f"wmreward {__version__}")
        return 0
    if not argv:
        raise UsageError(f"which command? {', '.join(names)} ({prog} --help tells of each)")
    if of_files and _is_file(argv[0]):
        raise UsageError(
            f"which command? did you mean {prog} {of_files} {shlex.join(argv)[:_SHOWN]}? "
            f"({', '.join(names)})"
        )
    hint = did_you_mean(argv[0], names) or f" ({', '.join(names)})"
    raise UsageError(f"{quoted(argv[0])} is not a command of {prog}{hint}")


def _is_file(word: str) -> bool:
    return bool(PurePath(word).suffix) or os.sep in word or Path(word).exists()


def found(place: str) -> Any:
    """What ``module:name`` names."""
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)


def _help(prog: str, about: str, commands: Sequence[Command]) -> str:
    width = max(len(command.name) for command in commands)
    rows = [f"  {command.name:<{width}}  {command.text}" for command in commands]
    return "\n".join(
        [
            f"usage: {prog} COMMAND …",
            "",
            about,
            "",
            *rows,
            "",
            f"Each has --help. {prog} --version prints the version.",
        ]
    )
