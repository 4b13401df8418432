"""The arithmetic of settings: how far a window reaches, how many windows a rule averages. Nothing heavy."""

from __future__ import annotations

import math
import re
from fractions import Fraction

from wmreward.errors import UsageError, named

MODES_HELP = "mean, max, median, topkK (mean of the K largest) or toppP (of the largest P percent)"

_PATTERN = re.compile(r"(mean|max|median|topk|topp)(\d+(?:\.\d+)?)?")


def selection_size(mode: str, windows: int) -> int:
    """How many of ``windows`` windows ``mode`` averages over; raises ``UsageError`` for a mode
    that cannot be.
    """
    match, told = _PATTERN.fullmatch(mode), named("mode", mode, flag="aggregate")
    if not match or (match[2] is None) != (match[1] in ("mean", "max", "median")):
        raise UsageError(f"unknown mode {mode!r}: use {MODES_HELP}")
    rule, number = match[1], match[2]
    if rule == "mean":
        return windows
    if rule in ("max", "median"):
        return 1
    if rule == "topk":
        if not number.isdigit() or int(number) == 0:
            raise UsageError(f"{told}: K must be a whole number of at least 1")
        if int(number) > windows:
            raise UsageError(
                f"{told} needs {number} windows, but the video has {windows}: "
                f"use a smaller K, a smaller {named('stride')} or toppP"
            )
        return int(number)
    if not 0 < Fraction(number) <= 100:
        raise UsageError(f"{told}: P must be a percentage above 0 and at most 100")
    # In double precision and in this order, as published: P = 28 of 25 windows is 8, not 7.
    return max(1, math.ceil(float(number) / 100 * windows))


def reach(window_size: int, frame_stride: int) -> int:
    """Frames from the first to the last of a window, both included."""
    return (window_size - 1) * frame_stride + 1
