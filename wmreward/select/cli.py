"""Choose the best of existing videos, whoever made them: `python -m wmreward.select --videos clips/`."""

from __future__ import annotations

from collections.abc import Sequence

from wmreward.commands.ending import run_command
from wmreward.commands.flags import Parser, underscored
from wmreward.commands.reward_flags import add_reward_flags

_EPILOG = """\
Every flag may also be written with dashes (--group-by). Results go to standard output, all else to
standard error. Exit code: 0 when all videos were judged, 1 when one failed, 2 for wrong flags, 130 after
Ctrl-C; with --output the same command then goes on where it was.

examples:
  python -m wmreward.select --videos clips/ --reward_model tiny
  python -m wmreward.select --videos clips/ --group_by '(.*)_seed' --output selection.jsonl --copy_to best/
  python -m wmreward.select --videos prompts.csv --reward surprise consensus=0.5 --combine rank
"""


def build_parser() -> Parser:
    """All flags, in groups."""
    parser = Parser(
        "Rank videos by physics rewards and choose the best of every group of candidates.", _EPILOG
    )
    parser.prog = "python -m wmreward.select"
    _add_videos(parser)
    add_reward_flags(parser, "vitg")
    _add_output(parser)
    _add_running(parser)
    return parser


def _add_videos(parser: Parser) -> None:
    group = parser.add_argument_group("videos")
    parser.add(
        group,
        "--videos",
        "files, folders, patterns, .txt lists, and tables (.csv with a head, .jsonl) of 'video' and 'prompt'",
        nargs="+",
        action="extend",
        metavar="PATH",
    )
    parser.add(
        group,
        "--group_by",
        "which videos are candidates of one: prompt (of the tables), folder, or a regular expression on "
        "file names, whose groups (or else whole match) they have in common (default: the prompt where "
        "there is one, else all are)",
        metavar="HOW",
    )
    parser.add(
        group,
        "--max_frames",
        "frames taken of each video, evenly over its whole length",
        type=int,
        default=49,
        metavar="N",
    )
    parser.add(
        group,
        "--fps",
        "take F frames per second over the whole video instead",
        type=float,
        metavar="F",
    )


def _add_output(parser: Parser) -> None:
    group = parser.add_argument_group("output")
    parser.add(
        group,
        "--output",
        "keep a record of every video in FILE (.jsonl); what is there is not judged again",
        metavar="FILE",
    )
    parser.add(group, "--copy_to", "copy the winners there", metavar="FOLDER")
    parser.add(
        group,
        "--contact_sheets",
        "draw the candidates of every group, with their scores, into this folder (PNG)",
        metavar="FOLDER",
    )
    parser.add(
        group, "--json", "print one JSON line per group instead of tables", action="store_true"
    )


def _add_running(parser: Parser) -> None:
    group = parser.add_argument_group("running")
    parser.add(
        group,
        "--device",
        "auto (a GPU where there is one), cpu, cuda or cuda:N",
        default="auto",
        metavar="NAME",
    )
    parser.add(
        group,
        "--workers",
        "videos decoded ahead of the one being judged, each in a thread",
        type=int,
        default=2,
        metavar="N",
    )
    parser.add(group, "--debug", "show the traceback of errors", action="store_true")
    parser.add(group, "--version", "print the version and stop", action="store_true")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code. Errors are printed as one line."""
    return run_command(
        _run,
        argv,
        interrupted=lambda _: "interrupted; with --output FILE the same command goes on from here",
    )


def _run(argv: Sequence[str]) -> int:
    parser = build_parser()
    values = parser.defaults | vars(parser.parse_args(underscored(argv)))
    if values["version"]:
        from wmreward.version import __version__

        print(f"wmreward {__version__}")
        return 0
    if not values["videos"]:
        parser.error("--videos is missing: which videos?")
    from wmreward.select.run import job_from, run

    return run(job_from(values))
