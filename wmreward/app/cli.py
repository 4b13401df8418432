"""The command line of `wmreward app`. Nothing heavy is imported before the flags are understood."""

from __future__ import annotations

from collections.abc import Sequence

from wmreward.commands import shared
from wmreward.commands.ending import run_command
from wmreward.commands.flags import Flag, Parser
from wmreward.commands.kinds import Whole

_ENDS = """\
The page is seen on this computer only. From another one, forward the port:
  ssh -L 7860:127.0.0.1:7860 HOST
Exit code: 1 when the page cannot be opened, 2 for wrong flags, 130 after Ctrl-C, which ends it.
"""

_PORT = Flag(
    "port",
    "port of the page, at 127.0.0.1; 0: any that is free",
    metavar="N",
    kind=Whole(0, 65535),
    default=7860,
)


def build_parser() -> Parser:
    """All flags."""
    return Parser(
        "wmreward app",
        "Open a page to try it in a browser: the surprise of your clips; generation, plain beside guided.",
        _ENDS,
        {
            "page": (_PORT,),
            "running": (
                shared.MODEL.but(default="tiny", note="the page offers it first"),
                shared.DEVICE,
            ),
        },
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code. Errors are printed as one line."""
    return run_command(_run, argv, interrupted=lambda _: "the page is closed")


def _run(argv: Sequence[str]) -> int:
    values = build_parser().read(argv)
    from wmreward.app.server import check_extra, serve

    check_extra()
    from wmreward.app.models import offered
    from wmreward.devices import find_device

    find_device(values["device"])
    serve(values["port"], offered(values["model"]), device=values["device"], debug=values["debug"])
    return 0
