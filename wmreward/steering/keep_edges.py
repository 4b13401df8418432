"""A constraint for rewards that guide: they may not blur.

Less detail is easier to predict, so the gradient of surprise also takes some away. What of it would blur is
left out where the push acts, in the latents: left out in pixels, half of it comes back through the decoder.
"""

from __future__ import annotations

from torch import Tensor

_TINY = 1e-12


def edge_energy(videos: Tensor) -> Tensor:
    """Mean squared difference between neighbouring pixels of ``[B, 3, T, H, W]``, ``[B]``."""
    down, right = videos.diff(dim=-2), videos.diff(dim=-1)
    return down.square().mean(dim=(1, 2, 3, 4)) + right.square().mean(dim=(1, 2, 3, 4))


def without_blur(gradient: Tensor, sharpens: Tensor, chunk_width: int) -> Tensor:
    """A gradient that takes no edge energy away, to first order.

    Args:
        gradient: Of a reward with respect to latents ``[B, C, T, H, W]``.
        sharpens: That of the edge energy of the decoded video.
        chunk_width: Latent frames per chunk; each chunk is pushed by itself, so each keeps its edges.

    Returns:
        The gradient without its projection on what blurs; whole where it sharpens.
    """
    ours, edges = (part.unflatten(2, (-1, chunk_width)) for part in (gradient, sharpens))
    over = (1, 3, 4, 5)
    along = (ours * edges).sum(dim=over, keepdim=True)
    size = edges.square().sum(dim=over, keepdim=True).clamp_min(_TINY)
    return (ours - (along / size).clamp(max=0) * edges).flatten(2, 3)
