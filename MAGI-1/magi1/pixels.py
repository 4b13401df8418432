"""Between the bytes of video frames and the VAE's values in [-1, 1]."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor

from magi1.errors import MagiUsageError


def from_uint8(frames: Tensor, dtype: torch.dtype) -> Tensor:
    """Bytes → ``byte / 127.5 - 1``, computed in float32 and rounded to ``dtype``.

    Args:
        frames: ``[..., T, H, W, 3]`` uint8, RGB.
        dtype: Precision of the result; MAGI-1's VAE takes bfloat16.

    Returns:
        ``[..., 3, T, H, W]`` in [-1, 1].

    Raises:
        MagiUsageError: Frames that are not uint8 or have not three channels at the end.
    """
    if frames.dtype != torch.uint8 or frames.ndim < 4 or frames.shape[-1] != 3:
        shape = tuple(frames.shape)
        raise MagiUsageError(f"frames must be uint8 [..., T, H, W, 3], got {frames.dtype} {shape}")
    wide = torch.promote_types(dtype, torch.float32)
    return rearrange(frames.to(wide) / 127.5 - 1, "... t h w c -> ... c t h w").to(dtype)


def to_uint8(video: Tensor) -> Tensor:
    """Values of about [-1, 1] → bytes: ``127.5 x + 127.5``, clamped to [0, 255], fraction cut off.

    All arithmetic is in the precision of ``video``: MAGI-1 rounds bfloat16 at every step, which decides
    about the last bit of bright pixels.

    Args:
        video: ``[..., 3, T, H, W]``.

    Returns:
        ``[..., T, H, W, 3]`` uint8, RGB.
    """
    scaled = (video.detach() * 127.5 + 127.5).clamp(0, 255)
    return rearrange(scaled.to(torch.uint8), "... c t h w -> ... t h w c")
