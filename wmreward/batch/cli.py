"""`python -m wmreward.batch`: what there is to ask of a run. No generator is needed."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from wmreward.commands.ending import run_command
from wmreward.commands.flags import Parser, underscored
from wmreward.errors import UsageError

_HELP = """\
python -m wmreward.batch COMMAND …

commands:
  status RUN                 how far a run is, who works on it, what failed
  evaluate RUN --real DIR    Physics-IQ scores: one candidate per job, trimmed and measured

Each has --help. Runs are begun by generation/generate_i2v_magi1_multinode.sh and its sibling.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code. Errors are printed as one line."""
    return run_command(_run, argv, interrupted=lambda _: "interrupted")


def _run(argv: Sequence[str]) -> int:
    if not argv or argv[0] in ("-h", "--help"):
        print(_HELP, end="")
        return 0 if argv else 2
    if argv[0] not in COMMANDS:
        raise UsageError(f"{argv[0]!r} is not a command ({', '.join(COMMANDS)})")
    return COMMANDS[argv[0]](argv[1:])


def _status(argv: Sequence[str]) -> int:
    parser = Parser(
        "How far a run is.",
        "Exit code: 0 when all is made, 1 when not, 2 for a folder without a run.",
    )
    parser.prog = "python -m wmreward.batch status"
    parser.add_argument("run", type=Path, metavar="RUN", help="the run's folder")
    parser.add(parser, "--json", "print it as one JSON line", action="store_true")
    parser.add(parser, "--debug", "show where an error came from", action="store_true")
    values: dict[str, Any] = parser.defaults | vars(parser.parse_args(underscored(argv)))
    from wmreward.batch.status import Status

    status = Status.of(values["run"])
    print(json.dumps(status.to_json()) if values["json"] else status.text())
    return 1 if status.left or status.failures else 0


def _evaluate(argv: Sequence[str]) -> int:
    from wmreward.evaluate.cli import evaluate_command

    return evaluate_command(argv)


COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {"status": _status, "evaluate": _evaluate}
"""By name; each takes the arguments after it."""
