"""The command line of `wmreward select`: choose the best of existing videos, whoever made them."""

from __future__ import annotations

from collections.abc import Sequence

from wmreward.commands import shared
from wmreward.commands.ending import run_command
from wmreward.commands.flags import Flag, Parser
from wmreward.commands.kinds import place

_EPILOG = """\
Every flag may also be written with dashes (--group-by). Results go to standard output, all else to
standard error. Exit code: 0 when all videos were judged, 1 when one failed, 2 for wrong flags, 130 after
Ctrl-C; with --output the same command then goes on where it was.

examples:
  wmreward select clips/ --model tiny
  wmreward select clips/ --group_by '(.*)_seed' --output selection.jsonl --copy_to best/
  wmreward select prompts.csv --reward surprise consensus=0.5 --combine rank
  wmreward select --rescore best.candidates/candidates.jsonl --reward geometry surprise --combine rank
"""

_OLD = {
    "videos": "video_path",
    "reward_mode": "aggregate",
    **{
        f"reward_{name}": name
        for name in ("model", "weights", "window_size", "context_frames", "stride")
    },
}

_VIDEOS = (
    shared.VIDEO_PATH.but(
        note="and tables (.csv with a head, .jsonl) of 'video' and 'prompt'",
    ),
    Flag(
        "group_by",
        "which videos are candidates of one: prompt (of the tables), folder (of a batch run: job), or a "
        "regular expression on file names, whose groups (or else whole match) they have in common",
        metavar="HOW",
        usually="the prompt where there is one, else all are",
    ),
    shared.MAX_FRAMES,
    shared.FPS,
    shared.RATES,
    shared.IMAGE_FPS,
    shared.STRICT,
)

_REWARDS = (
    *shared.REWARDS,
    *shared.WORLD_MODEL,
    *shared.surprise(stride=2, score="plain"),
)

_OUTPUT = (
    shared.OUTPUT.but(
        note="a record of every video is kept there (.jsonl); what is there is not judged again"
    ),
    Flag(
        "rescore",
        "compare anew, by --reward and --combine, the candidates whose records are in FILE: of --output, or "
        "candidates.jsonl beside a generated video; no video is read, nothing is judged",
        metavar="FILE",
        kind=place,
    ),
    Flag("copy_to", "copy the winners there", metavar="DIR", kind=place),
    Flag(
        "contact_sheets",
        "draw the candidates of every group, with their scores, into this folder (PNG)",
        metavar="DIR",
        kind=place,
    ),
    Flag(
        "plots",
        "draw the candidates of every group over time, by every reward that says when a video is implausible "
        "(surprise, seam, geometry), into this folder (PNG)",
        metavar="DIR",
        kind=place,
    ),
    shared.JSON,
    shared.FORMAT,
)


def build_parser() -> Parser:
    """All flags, in groups."""
    return Parser(
        "wmreward select",
        "Rank videos by physics rewards and choose the best of every group of candidates.",
        _EPILOG,
        {
            "videos": _VIDEOS,
            "rewards": _REWARDS,
            "output": _OUTPUT,
            "running": (shared.DEVICE, shared.READ_AHEAD),
        },
        positional=(shared.VIDEO,),
        old=_OLD,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code. Errors are printed as one line."""
    return run_command(
        _run,
        argv,
        interrupted=lambda _: "interrupted; with --output FILE the same command goes on from here",
    )


def _run(argv: Sequence[str]) -> int:
    parser = build_parser()
    values = parser.read(argv)
    from wmreward.select.early import check_early, check_rescoring

    if values["rescore"] is not None:
        file = check_rescoring(values)
        from wmreward.select.rescore import rescore

        return rescore(values, file)
    if not values["video_path"]:
        parser.error("which videos? name a VIDEO, a folder, a list or a table")
    from wmreward.select.groups import videos_of

    found, left_out = videos_of(values["video_path"])
    groups = check_early(values, found)
    from wmreward.select.run import job_from, run

    return run(job_from(values, found, groups, left_out))
