"""From the surprise of every window to one score per video.

Every rule is the mean over a selection of windows, so a rule is a selection: that is also what
lets a gradient be computed for the selected windows alone.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

import torch
from torch import Tensor

from wmreward.errors import UsageError, named
from wmreward.surprise.windows import Window

MODES_HELP = "mean, max, median, topkK (mean of the K largest) or toppP (of the largest P percent)"

_PATTERN = re.compile(r"(mean|max|median|topk|topp)(\d+(?:\.\d+)?)?")


def selection_size(mode: str, windows: int) -> int:
    """How many of ``windows`` windows ``mode`` averages over; raises ``UsageError`` for a mode
    that cannot be.
    """
    match = _PATTERN.fullmatch(mode)
    if not match or (match[2] is None) != (match[1] in ("mean", "max", "median")):
        raise UsageError(f"unknown mode {mode!r}: use {MODES_HELP}")
    rule, number = match[1], match[2]
    if rule == "mean":
        return windows
    if rule in ("max", "median"):
        return 1
    if rule == "topk":
        if not number.isdigit() or int(number) == 0:
            raise UsageError(f"mode {mode!r}: K must be a whole number of at least 1")
        if int(number) > windows:
            raise UsageError(
                f"mode {mode!r} needs {number} windows, but the video has {windows}: "
                f"use a smaller K, a smaller {named('stride')} or toppP"
            )
        return int(number)
    if not 0 < Fraction(number) <= 100:
        raise UsageError(f"mode {mode!r}: P must be a percentage above 0 and at most 100")
    # In double precision and in this order, as published: P = 28 of 25 windows is 8, not 7.
    return max(1, math.ceil(float(number) / 100 * windows))


def select_windows(per_window: Tensor, mode: str) -> Tensor:
    """Indices ``[B, K]`` of the windows of ``per_window [B, W]`` whose mean is the score.

    The median of an even number of windows is the lower middle one, as in ``torch.median``.
    """
    per_window = per_window.detach()
    if mode == "median":
        return per_window.median(dim=1, keepdim=True).indices
    return per_window.topk(selection_size(mode, per_window.shape[1]), dim=1).indices


def aggregate(per_window: Tensor, mode: str) -> Tensor:
    """Score ``[B]`` of each video from its windows ``[B, W]``; differentiable."""
    if mode == "mean":
        return per_window.mean(dim=1)
    return per_window.gather(1, select_windows(per_window, mode)).mean(dim=1)


class WindowScores(NamedTuple):
    """Surprise of all windows of a batch of videos.

    Attributes:
        values: ``[B, W]``.
        maps: Per token, ``[B, W, t, g, g]``; ``None`` where the similarity has no map.
        windows: Where the W windows lie, by frame stride.
    """

    values: Tensor
    maps: Tensor | None
    windows: Sequence[Window]

    def by_stride(self) -> dict[int, Tensor]:
        """Values of the windows of each frame stride, ``[B, W_k]``."""
        counts = Counter(window.frame_stride for window in self.windows)
        return dict(zip(counts, self.values.split(list(counts.values()), dim=1), strict=True))

    def pooled(self, mode: str) -> Tensor:
        """Score ``[B]`` of each video: the mean over frame strides of what ``mode`` makes of each."""
        return torch.stack([aggregate(v, mode) for v in self.by_stride().values()]).mean(dim=0)

    def ordered(self, windows: Sequence[Window]) -> WindowScores:
        """The same windows in this order."""
        place_of = {window: i for i, window in enumerate(self.windows)}
        order = [place_of[window] for window in windows]
        maps = None if self.maps is None else self.maps[:, order]
        return WindowScores(self.values[:, order], maps, windows)

    @classmethod
    def joined(cls, parts: Sequence[WindowScores]) -> WindowScores:
        """Windows of the same videos, one after the other."""
        maps = [part.maps for part in parts if part.maps is not None]
        return cls(
            torch.cat([part.values for part in parts], dim=1),
            torch.cat(maps, dim=1) if maps else None,
            [window for part in parts for window in part.windows],
        )
