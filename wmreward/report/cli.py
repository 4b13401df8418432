"""The command line of `wmreward report RUN`: one HTML page about a batch run."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from wmreward.commands import shared
from wmreward.commands.ending import run_command
from wmreward.commands.flags import Flag, Parser

if TYPE_CHECKING:
    from wmreward.report.run_data import RunData

_ENDS = """\
Every flag may also be written with dashes. The page opens from disk and needs no network; it plays videos
from the run's folder. It may be written while the run is at work. Exit code: 0 when it was written, 1 when
not, 2 for wrong flags or a folder without a run.

examples:
  wmreward report outputs/run-1a2b3c4d
  wmreward report outputs/run-1a2b3c4d --model vitl
"""


def build_parser() -> Parser:
    """All flags."""
    page = shared.OUTPUT.but(note="the page", usually="RUN/report.html")
    model = shared.MODEL.but(
        note="draws heat maps of the gallery's videos, and curves where records have none",
        usually="the one that judged the run, if there is a GPU or little to do",
    )
    return Parser(
        "wmreward report",
        "Write one HTML page about a batch run: scores, videos, failures, settings.",
        _ENDS,
        {
            "page": (page,),
            "surprise": (
                model,
                shared.WEIGHTS.but(rare=False),
                Flag(
                    "no_maps", "draw no heat maps and no missing curves: no world model is loaded"
                ),
            ),
        },
        positional=(shared.RUN,),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code. Errors are printed as one line."""
    return run_command(
        _run, argv, interrupted=lambda _: "interrupted; curves drawn so far are kept"
    )


def _run(argv: Sequence[str]) -> int:
    parser = build_parser()
    values = parser.read(argv)
    folder = Path(values["run"])
    path = Path(values["output"] or folder / "report.html")
    if path.suffix.lower() not in (".html", ".htm"):
        parser.error(f"--output {path} must end in .html")
    from wmreward.report.run_data import read_run

    found = read_run(folder)  # what is no run is told before PyTorch is loaded
    from wmreward.evaluate.run import read_results
    from wmreward.report.page import write_page
    from wmreward.report.surprise import with_surprise
    from wmreward.report.totals import with_totals

    run = with_totals(found)
    if not values["no_maps"]:
        _draw_surprise(run, values["model"], values["weights"])
    write_page(with_surprise(run), read_results(run.path), path)
    print(path)
    return 0


def _draw_surprise(run: RunData, model: str | None, weights: str | None) -> None:
    from wmreward.report.page_data import gallery
    from wmreward.report.surprise import draw_surprise, lacking, usual_model, with_surprise

    shown = {e.name: e for labelled in gallery(with_surprise(run)).values() for _, e in labelled}
    missing = lacking(run, shown.values())
    chosen = model or usual_model(run, len(missing))
    if chosen is None:
        what = "surprise curve" if any(entry.curve is None for entry in missing) else "heat map"
        _say(
            f"note: {len(missing)} videos have no {what}, and there is no GPU; --model tiny draws them on "
            "the CPU"
        )
        return
    failures = draw_surprise(run, missing, chosen, weights, sys.stderr.isatty())
    for error in failures.values():
        _say(f"no curve: {error}")


def _say(text: str) -> None:
    print(text, file=sys.stderr)
