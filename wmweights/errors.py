"""The error of weights that cannot be had or do not fit."""

from __future__ import annotations


class WeightsError(RuntimeError):
    """Weights are missing, damaged or of another model; the message is one line that says what to do."""

    exit_code = 1


def first_line(error: BaseException) -> str:
    """What an error of another package says, as one line."""
    return next(iter(str(error).splitlines()), "") or "no reason is given"
