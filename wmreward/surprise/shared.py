"""Windows dealt to the processes that share a video: each scores and differentiates some; all have the sum.

Every process makes the same calls with the same videos and has the same results: those of one process up to
the order in which gradients are added.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch import distributed as dist

from wmreward.surprise.aggregate import WindowScores
from wmreward.surprise.scorer import Chosen, SurpriseScorer
from wmreward.surprise.windows import Window


class SharedScorer(SurpriseScorer):
    """A scorer like another one whose windows are dealt to a group of processes. It has no maps.

    Args:
        scorer: The other one; each process has its model.
        group: The processes.
    """

    def __init__(self, scorer: SurpriseScorer, group: dist.ProcessGroup) -> None:
        super().__init__(
            scorer.model,
            scorer.config,
            batch_size=scorer.batch_size,
            grad_batch_size=scorer.grad_batch_size,
        )
        self.group = group
        self._own = slice(dist.get_rank(group), None, dist.get_world_size(group))

    def score_rules(
        self, video: Tensor, windows: Sequence[Window] | None = None
    ) -> dict[str, WindowScores]:
        windows = self.windows(video.shape[2]) if windows is None else windows
        values = video.new_zeros(len(self.rules), len(video), len(windows))
        if own := windows[self._own]:
            found = super().score_rules(video, own)
            values[..., self._own] = torch.stack([found[rule].values for rule in self.rules])
        dist.all_reduce(values, group=self.group)
        named = zip(self.rules, values, strict=True)
        return {rule: WindowScores(of_rule, None, windows) for rule, of_rule in named}

    def _parts(
        self,
        pixels: Tensor,
        which: Sequence[Chosen],
        batch_size: int,
        gradient: Tensor | None,
    ) -> list[tuple[Tensor, Tensor | None]]:
        if gradient is None and pixels.requires_grad and torch.is_grad_enabled():
            return super()._parts(pixels, which, batch_size, gradient)  # for plain autograd
        values = pixels.new_zeros(len(which))
        share = None if gradient is None else torch.zeros_like(gradient)
        if own := which[self._own]:
            found = super()._parts(pixels, own, batch_size, share)
            values[self._own] = torch.cat([of_some for of_some, _ in found]).to(values)
        dist.all_reduce(values, group=self.group)
        if gradient is not None and share is not None:
            dist.all_reduce(share, group=self.group)
            gradient += share
        return [(values, None)]
