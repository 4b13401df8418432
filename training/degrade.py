"""What cameras and codecs do to clips. Without it the model takes such artefacts for surprising events."""

from __future__ import annotations

import math

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

BLOCK = 4
"""Side of the codec's transform in pixels: a 64-pixel picture is a larger one made smaller."""
COARSEST = 0.1
"""Largest step of the codec's quantiser, for pictures in [0, 1]."""
DEAD_ZONE = 1 / 6
"""Rounding is biased towards zero by this part of a step, as encoders do to save bits."""


def degrade(clips: Tensor, generator: torch.Generator) -> Tensor:
    """A part of the clips each: blur, faded contrast, noise, and every third through a codec.

    ``[B, 3, T, H, W]`` in [0, 1], before and after.
    """
    count = len(clips)

    def draw(share: float, high: float) -> Tensor:
        """Uniform up to ``high`` in a ``share`` of the clips, else 0; ``[B, 1, 1, 1, 1]``."""
        value = torch.rand(2, count, generator=generator, device=clips.device)
        return ((value[0] < share) * value[1] * high).view(-1, 1, 1, 1, 1)

    soft = F.avg_pool3d(clips, (1, 3, 3), stride=1, padding=(0, 1, 1), count_include_pad=False)
    clips = clips.lerp(soft, draw(0.3, 1.0))
    middle = clips.mean(dim=(2, 3, 4), keepdim=True)
    clips = middle + (clips - middle) * (1 - draw(0.2, 0.5))
    noise = torch.randn(clips.shape, generator=generator, device=clips.device)
    clips = clips + noise * draw(0.3, 0.05)
    some = torch.arange(0, count, 3, device=clips.device)
    step = COARSEST * torch.rand(len(some), generator=generator, device=clips.device)
    clips[some] = compressed(clips[some], step)
    return clips.clamp(0, 1)


def compressed(clips: Tensor, step: Tensor) -> Tensor:
    """Clips through the core of a video codec: a frame is the one before and a quantised correction.

    What hardly changes is repeated, what moves loses its fine detail and leaves traces.

    Args:
        clips: ``[B, C, T, H, W]``; H and W multiples of ``BLOCK``.
        step: Of the quantiser, ``[B]``, in units of an orthonormal transform of the pixels.
    """
    basis = _cosines(clips.device)
    step = step.view(-1, 1, 1, 1, 1).clamp_min(1e-4)
    frame = torch.full_like(clips[:, :, 0], 0.5)
    frames = []
    for wanted in clips.unbind(dim=2):
        change = rearrange(wanted - frame, "b c (h i) (w j) -> b c h w (i j)", i=BLOCK, j=BLOCK)
        steps = change @ basis.T / step
        steps = steps.sign() * (steps.abs() + 0.5 - DEAD_ZONE).floor()
        change = (steps * step) @ basis
        frame = frame + rearrange(change, "b c h w (i j) -> b c (h i) (w j)", i=BLOCK, j=BLOCK)
        frames.append(frame)
    return torch.stack(frames, dim=2)


def _cosines(device: torch.device) -> Tensor:
    """The orthonormal cosine transform of a block, ``[BLOCK², BLOCK²]``: a row for each frequency."""
    place = torch.arange(BLOCK, device=device, dtype=torch.float32)
    rows = torch.cos(math.pi / BLOCK * (place + 0.5) * place[:, None])
    rows = rows / rows.norm(dim=1, keepdim=True)
    return torch.kron(rows, rows)
