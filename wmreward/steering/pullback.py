"""A video, and the way back from its pixels to the latents."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from wmreward.protocols import PullsBack
from wmreward.steering.checks import checked_pullback

PullBack = Callable[[Sequence[Tensor]], list[Tensor]]
"""Gradients at the video → gradients at the latents. Can be asked once."""


def decoded(decode: Callable[[Tensor], Tensor], latents: Tensor) -> tuple[Tensor, PullBack]:
    """The video of ``latents [B, C, T, H, W]``, without a graph, and the way back through the decoder.

    Args:
        decode: Latents → video; differentiable, or one that :class:`wmreward.protocols.PullsBack`.
        latents: Detached by this.
    """
    if isinstance(decode, PullsBack):
        with torch.no_grad():
            return decode(latents), partial(_asked, decode, latents)
    leaf = latents.detach().requires_grad_()
    with torch.enable_grad():
        video = decode(leaf)

    def pull_back(towards: Sequence[Tensor]) -> list[Tensor]:
        """All but the last leave the graph as it is."""
        last = len(towards) - 1
        return [
            torch.autograd.grad(video, leaf, one, retain_graph=i < last)[0]
            for i, one in enumerate(towards)
        ]

    return video.detach(), pull_back


def _asked(decoder: PullsBack, latents: Tensor, towards: Sequence[Tensor]) -> list[Tensor]:
    found = decoder.pulled_back(latents, towards)
    return checked_pullback(found, latents, len(towards), decoder)
