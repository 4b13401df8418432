"""Flags of benchmarks: the words are those of the commands, and what a flag was called before still works."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any


def adding(parser: argparse.ArgumentParser) -> Callable[..., argparse.Action]:
    """``parser.add_argument``, of whose names the first is listed; the others are earlier ones, and work."""

    def add(*names: str, **how: Any) -> argparse.Action:
        action = parser.add_argument(*names, **how)
        if len(names) > 1:
            action.option_strings = list(names[:1])
        return action

    return add
