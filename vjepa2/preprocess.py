"""Video → the pixels that the encoder sees. Float throughout, no clamp, no rounding:
differentiable end to end.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def resize(frames: Tensor, crop: int) -> Tensor:
    """Resize ``[..., H, W]`` floating-point frames to ``crop × crop``, ignoring the aspect ratio.

    Bilinear with antialias: without it a strong reduction is off by up to 27 grey levels. A no-op
    at that size.
    """
    if frames.shape[-2:] == (crop, crop):
        return frames
    flat = frames.flatten(0, -4) if frames.ndim > 4 else frames
    out = F.interpolate(
        flat, size=(crop, crop), mode="bilinear", antialias=True, align_corners=False
    )
    return out.unflatten(0, frames.shape[:-3]) if frames.ndim > 4 else out


def normalise(frames: Tensor) -> Tensor:
    """Frames in [0, 1], ``[B, 3, T, H, W]`` → zero mean and unit variance by ImageNet statistics."""
    mean = torch.tensor(IMAGENET_MEAN, dtype=frames.dtype, device=frames.device)
    std = torch.tensor(IMAGENET_STD, dtype=frames.dtype, device=frames.device)
    shape = (-1, 1, 1, 1)
    return (frames - mean.view(shape)) / std.view(shape)


def preprocess(video: Tensor, crop: int) -> Tensor:
    """Prepare a video in [−1, 1].

    Args:
        video: ``[B, 3, T, H, W]``, float32 or float64; half precision is refused because it keeps
            only 8 bits of a grey value. Values outside [−1, 1] pass through, with their gradient.
        crop: Side of the square the model was trained at.

    Returns:
        ``[B, 3, T, crop, crop]`` in the dtype of ``video``.
    """
    if video.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"preprocess needs float32 or float64 video, not {video.dtype}")
    if video.ndim != 5 or video.shape[1] != 3:
        raise ValueError(f"expected a video [B, 3, T, H, W], got {list(video.shape)}")
    grey = resize((video + 1) * 127.5, crop)
    return normalise(grey / 255)


def from_uint8(frames: Tensor, crop: int) -> Tensor:
    """``uint8 [B, 3, T, H, W]`` → resized video in [−1, 1], float32 (the reference's file path).

    Frames are converted a few at a time, so that a long full-size clip never stands in memory as floats.
    """
    if frames.dtype != torch.uint8:
        raise TypeError(f"expected uint8 frames, not {frames.dtype}")
    b, c, t = frames.shape[:3]
    out = torch.empty(b, c, t, crop, crop, dtype=torch.float32, device=frames.device)
    for start in range(0, t, 8):
        part = slice(start, start + 8)
        out[:, :, part] = resize(frames[:, :, part].float(), crop)
    return out.div_(127.5).sub_(1)
