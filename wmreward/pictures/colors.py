"""Colours of all pictures: the scale of surprise, lines, and the dark page."""

from __future__ import annotations

from functools import cache

import numpy as np

from wmreward.video.types import UInt8Array

# Every 15th entry of the perceptually uniform "inferno" map (S. van der Walt and N. Smith, CC0);
# linear interpolation stays within 2 % of it.
_INFERNO = (
    *((0, 0, 4), (10, 7, 34), (30, 12, 69), (56, 9, 98), (81, 14, 108), (105, 22, 110)),
    *((128, 31, 108), (152, 39, 102), (176, 49, 91), (198, 61, 77), (217, 77, 61), (233, 97, 43)),
    *((244, 121, 24), (250, 148, 7), (252, 176, 20), (248, 205, 55), (242, 234, 105)),
    (252, 255, 164),
)

BACKGROUND, INK, FAINT = (17, 17, 20), (220, 220, 220), (140, 140, 145)
"""The dark page of sheets and videos: its ground, and what is written on it."""
WINNER, GIVEN = (250, 148, 7), (86, 180, 233)
"""What marks the chosen candidate, and frames that were given."""

LINES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#333333")
"""Lines that colour-blind readers can tell apart (Okabe and Ito)."""


@cache
def color_table() -> UInt8Array:
    """The colours of a surprise from low to high: uint8 ``[256, 3]``, black to violet, red, yellow."""
    knots = np.array(_INFERNO, dtype=np.float64)
    at = np.linspace(0, len(knots) - 1, 256)
    channels = [np.interp(at, np.arange(len(knots)), knots[:, c]) for c in range(3)]
    table = np.stack(channels, axis=1).round().astype(np.uint8)
    table.flags.writeable = False
    return table
