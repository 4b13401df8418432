"""From the surprise of every window to one score per video.

Every rule is the mean over a selection of windows, so a rule is a selection: that is also what
lets a gradient be computed for the selected windows alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from wmreward.surprise.rules import selection_size
from wmreward.surprise.windows import Window


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
