"""The command line of `wmreward batch`: the run itself, and what there is to ask of one."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from wmreward.commands import shared
from wmreward.commands.dispatch import Command, dispatch
from wmreward.commands.ending import run_command
from wmreward.commands.flags import Parser

COMMANDS = (
    Command(
        "status", "how far a run is, who works on it, what failed", "wmreward.batch.cli:status"
    ),
    Command("evaluate", "as wmreward evaluate", "wmreward.evaluate.cli:main"),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code. Errors are printed as one line."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0].startswith("-"):
        from wmreward.generation.batch.cli import main as run

        return run(argv)
    about = "What there is to ask of a run; without a command, flags begin one (--help)."
    return run_command(
        partial(dispatch, "wmreward batch", about, COMMANDS, of_files="--jobs"), argv
    )


def status_parser() -> Parser:
    """All flags of `wmreward batch status`."""
    return Parser(
        "wmreward batch status",
        "How far a run is.",
        "Exit code: 0 when all is made, 1 when not, 2 for a folder without a run.",
        {"output": (shared.JSON,)},
        positional=(shared.RUN,),
    )


def status(argv: Sequence[str]) -> int:
    """Print how far a run is; returns the exit code."""
    values = status_parser().read(argv)
    from wmreward.batch.status import Status

    found = Status.of(Path(values["run"]))
    print(json.dumps(found.to_json()) if values["json"] else found.text())
    return 1 if found.left or found.failures else 0
