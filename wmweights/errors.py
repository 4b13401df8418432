"""The error of weights that cannot be had or do not fit."""

from __future__ import annotations

from pathlib import Path


class WeightsError(RuntimeError):
    """Weights are missing, damaged or of another model; the message is one line that says what to do."""


def refused(path: Path, reason: str) -> WeightsError:
    """The error of a file that is none of weights, for functions of `wmfiles`."""
    return WeightsError(f"{path}: {reason}")


def first_line(error: Exception) -> str:
    """What an error of another package says, as one line."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__
