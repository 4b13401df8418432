"""What the command lines have in common in their flags. Nothing heavy is imported here."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, NoReturn

from wmreward.errors import UsageError


class Parser(argparse.ArgumentParser):
    """Knows which flags were given; answers mistakes with one line."""

    def __init__(self, description: str, epilog: str) -> None:
        super().__init__(
            description=description,
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
            argument_default=argparse.SUPPRESS,
        )
        self.defaults: dict[str, Any] = {}

    def add(self, group: argparse._ActionsContainer, flag: str, text: str, **how: Any) -> None:
        """Add a flag whose default stands in its help; the default is not filled in by argparse."""
        default = how.pop("default", False if how.get("action") == "store_true" else None)
        self.defaults[flag.removeprefix("--")] = default
        shown = f"{text} (default: {default})" if default not in (None, False) else text
        group.add_argument(flag, help=shown, default=argparse.SUPPRESS, **how)

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (--help lists all flags)")


def underscored(argv: Sequence[str]) -> list[str]:
    """`--video-path` and `--video-path=x` with the underscores that flags have here."""
    out: list[str] = []
    for position, word in enumerate(argv):
        if word == "--":
            return [*out, *argv[position:]]
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            word = f"--{name.replace('-', '_')}{equals}{value}"
        out.append(word)
    return out
