"""The error of weights that cannot be had or do not fit."""

from __future__ import annotations

from pathlib import Path


class WeightsError(RuntimeError):
    """Weights are missing, damaged or of another model; the message is one line that says what to do."""

    exit_code = 1


def refused(path: Path, reason: str) -> WeightsError:
    """The error of a file that is none of weights, for functions of `wmfiles`."""
    return WeightsError(f"{path}: {reason}")


def first_line(error: BaseException) -> str:
    """What an error of another package says, as one line."""
    return next(iter(str(error).splitlines()), "")[:_LONGEST] or "no reason is given"


_LONGEST = 200
"""Characters: such errors quote what they found, of any length."""
