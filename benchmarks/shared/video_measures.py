"""How far a predicted video is from the true one, by the pixels that matter: those that move.

Most of a simulated picture stands still, so that a frozen frame has a small mean error. Here a pixel
counts as moving where any of its channels has left the reference frame by more than 0.06. All videos
are RGB in [0, 1], ``[B, 3, T, H, W]``; all measures are ``[B]``.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

THRESHOLD = 0.06
MOVING_PIXELS = 64
"""Clips with fewer moving pixels have no sharpness or PSNR of what moves: too few to measure on."""

_PIXELS = (1, 2, 3)  # of a mask [B, T, H, W]


def departs(video: Tensor, reference: Tensor) -> Tensor:
    """Where a video differs visibly from a frame [B, 3, 1, H, W]: [B, T, H, W]."""
    return ((video - reference).abs() > THRESHOLD).any(dim=1)


def _masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over the pixels of a mask; 0 where there are none."""
    return (values * mask).sum(dim=_PIXELS) / mask.sum(dim=_PIXELS).clamp(min=1)


def squared_error(video: Tensor, truth: Tensor) -> Tensor:
    """Mean over all pixels and channels."""
    return (video - truth).square().mean(dim=(1, 2, 3, 4))


def motion_error(video: Tensor, truth: Tensor, last: Tensor) -> Tensor:
    """Squared error where the truth has left the last frame of the prefix, [B, 3, 1, H, W].

    0 if nothing moves: there is nothing to get wrong. Blind for what a video invents elsewhere.
    """
    return _masked_mean((video - truth).square().mean(dim=1), departs(truth, last))


def union_error(video: Tensor, truth: Tensor, last: Tensor) -> Tensor:
    """Squared error where the truth or the video has left the last frame.

    Inventing motion counts, but it also enlarges the number of pixels that is divided by: faint noise
    lowers it, so it goes together with `motion_error`.
    """
    mask = departs(truth, last) | departs(video, last)
    return _masked_mean((video - truth).square().mean(dim=1), mask)


def _edges(video: Tensor) -> Tensor:
    """Energy of the edges, [B, T, H, W]: squared differences to the next pixel, down and right.

    Squared, for the sum of plain differences stays the same when blur spreads an edge.
    """
    down = torch.diff(video, dim=-2, append=video[..., -1:, :])
    right = torch.diff(video, dim=-1, append=video[..., -1:])
    return (down.square() + right.square()).sum(dim=1)


def sharpness(video: Tensor, truth: Tensor, last: Tensor) -> Tensor:
    """Root mean square of the edges relative to the truth's, where the truth or the video has left `last`.

    1 for the truth, less for blur and for objects that vanish, more for noise. NaN where the truth
    hardly moves. Both kinds of pixels count, so that a sharp object in the wrong place is sharp.
    """
    moves = departs(truth, last)
    # One pixel wider, or outlines would lie half outside.
    mask = F.max_pool2d((moves | departs(video, last)).to(video.dtype), 3, stride=1, padding=1)
    energy = (_edges(video) * mask).sum(dim=_PIXELS) / (_edges(truth) * mask).sum(dim=_PIXELS)
    return _where_moving(energy.sqrt(), moves)


def _where_moving(values: Tensor, moves: Tensor) -> Tensor:
    return torch.where(moves.sum(dim=_PIXELS) >= MOVING_PIXELS, values, torch.nan)


def psnr(video: Tensor, truth: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB over all pixels; infinite for equal videos."""
    return -10 * squared_error(video, truth).log10()


def moving_psnr(video: Tensor, truth: Tensor) -> Tensor:
    """PSNR over the pixels in which the truth differs visibly from its mean over time; NaN if hardly any."""
    moves = departs(truth, truth.mean(dim=2, keepdim=True))
    error = _masked_mean((video - truth).square().mean(dim=1), moves)
    return _where_moving(-10 * error.log10(), moves)
