"""Scaling frames to a given size."""

from __future__ import annotations

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation

from wmreward.video.types import UInt8Array, VideoInfo


def resize_frames(frames: UInt8Array, height: int, width: int) -> UInt8Array:
    """Frames uint8 [T, H, W, 3] at exactly ``height × width``; the aspect ratio is not kept.

    FFmpeg's bicubic scaling, the default of its command line.
    """
    if frames.shape[1:3] == (height, width):
        return frames
    scaled = [
        VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
        .reformat(width=width, height=height, format="rgb24", interpolation=Interpolation.BICUBIC)
        .to_ndarray()
        for frame in frames
    ]
    return np.stack(scaled)


def as_shown(frames: UInt8Array, source: VideoInfo) -> UInt8Array:
    """Frames [T, H, W, 3] of a video whose pixels may not be square, as wide as a player shows them."""
    if source.sample_aspect == 1:
        return frames
    return resize_frames(
        frames, frames.shape[1], max(1, round(frames.shape[2] * source.sample_aspect))
    )
