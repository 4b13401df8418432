"""The one command, `wmreward COMMAND …`: a table of commands, each imported when it is used.

A new command is one row of `COMMANDS`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NoReturn

from wmreward.commands.dispatch import Command, dispatch
from wmreward.commands.ending import run_command, start

_ABOUT = """\
How surprised is a world model by a video? Scores the physics of videos, chooses among them, generates
and steers them."""

COMMANDS = (
    Command(
        "score",
        "the surprise of videos: the lower, the more plausible",
        "wmreward.scoring.cli:main",
        ("wmreward.scoring.flags:build_parser",),
    ),
    Command(
        "generate",
        "a video from a text, an image or the beginning of a video, steered if asked for",
        "wmreward.generation.cli:main",
        ("wmreward.generation.flags:build_parser",),
    ),
    Command(
        "select",
        "the best of existing videos, whoever made them",
        "wmreward.select.cli:main",
        ("wmreward.select.cli:build_parser",),
    ),
    Command(
        "batch",
        "the videos of a whole job list, on any number of processes; batch status RUN",
        "wmreward.batch.cli:main",
        ("wmreward.generation.batch.flags:build_parser", "wmreward.batch.cli:status_parser"),
    ),
    Command(
        "compare",
        "two files of scores, video by video, with intervals",
        "wmreward.compare.cli:main",
        ("wmreward.compare.cli:build_parser",),
    ),
    Command(
        "report",
        "one HTML page about a batch run",
        "wmreward.report.cli:main",
        ("wmreward.report.cli:build_parser",),
    ),
    Command(
        "evaluate",
        "Physics-IQ scores of a batch run",
        "wmreward.evaluate.cli:main",
        ("wmreward.evaluate.cli:build_parser",),
    ),
    Command(
        "prompts",
        "job lists: made from Physics-IQ's files, and checked",
        "wmreward.prompts.cli:main",
        ("wmreward.prompts.cli:make_parser", "wmreward.prompts.cli:check_parser"),
    ),
    Command(
        "physics-iq",
        "Physics-IQ scores of any folder of generated videos",
        "wmreward.physics_iq.cli:main",
        ("wmreward.physics_iq.cli:build_parser",),
    ),
    Command(
        "app",
        "a page to try it in a browser, on this computer only",
        "wmreward.app.cli:main",
        ("wmreward.app.cli:build_parser",),
    ),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code. Errors are printed as one line."""
    return run_command(partial(dispatch, "wmreward", _ABOUT, COMMANDS, of_files="score"), argv)


def process() -> NoReturn:
    """The command line, as a process of its own."""
    start("wmreward.cli")
