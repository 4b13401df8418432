"""Frames per second → which frames of a file are sampled, and which of these a window sees."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from fractions import Fraction
from math import gcd, lcm
from typing import Any

from wmreward.errors import UsageError

FASTEST = 240
"""Frames per second that a file is sampled at, at most."""


def at_rates(rates: Sequence[float]) -> tuple[float, tuple[int, ...]]:
    """The rate to sample a file at, and the frame strides at which windows then see it at ``rates``.

    The sampled rate is the lowest that every one of them divides: of 4 and 6 frames per second it is 12, with
    frame strides 3 and 2. What a window sees does not depend on the rate at which the file is stored.

    Raises:
        UsageError: no rate, one twice, one that is not above 0, or rates that have no common multiple up to
            ``FASTEST``.
    """
    shown = " ".join(f"{rate:g}" for rate in rates)
    if not rates or not all(0 < rate <= FASTEST for rate in rates) or len(set(rates)) < len(rates):
        raise UsageError(
            f"rates={shown} must be different numbers of frames per second, above 0 and up to {FASTEST}"
        )
    exact = [Fraction(rate).limit_denominator(1001) for rate in rates]
    common = Fraction(
        lcm(*(rate.numerator for rate in exact)), gcd(*(rate.denominator for rate in exact))
    )
    if common > FASTEST:
        raise UsageError(
            f"rates={shown} have no common multiple up to {FASTEST} frames per second: use rates that "
            "divide one another, such as 6 and 12"
        )
    return float(common), tuple(sorted(int(common / rate) for rate in exact))


def with_rates(values: Mapping[str, Any], given: Collection[str]) -> dict[str, Any]:
    """The values of a command line's flags, with ``--rates`` put into ``fps`` and ``frame_strides``.

    Raises:
        UsageError: another flag says which frames are taken, too; see :func:`at_rates`.
    """
    if values["rates"] is None:
        return dict(values)
    for flag in ("fps", "max_frames", "frame_strides"):
        if flag in given:
            raise UsageError(f"--rates and --{flag} both say which frames are seen: leave out one")
    fps, frame_strides = at_rates(values["rates"])
    return {**values, "fps": fps, "frame_strides": frame_strides}
