"""What is kept of each frame while a file is decoded: memory does not depend on the size of frames."""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vjepa2.preprocess import from_uint8
from wmreward.video.types import UInt8Array
from wmreward.video_io import Clip, Reduction


def seen_by(crop: int, device: torch.device) -> Reduction:
    """What is kept of each frame while a video is decoded: what a model sees of it, float32 ``[3, c, c]``.

    The arithmetic is that of whole frames, so scores are the same to the last bit, and memory does not
    depend on the size of the frames.
    """

    def seen(frame: UInt8Array) -> NDArray[np.float32]:
        pixels = torch.from_numpy(frame).movedim(-1, 0)[None, :, None].to(device)
        small = from_uint8(pixels, crop)[0, :, 0]
        return cast(NDArray[np.float32], small.cpu().numpy())

    return seen


def as_floats(frame: UInt8Array) -> NDArray[np.float32]:
    """A `Reduction` that keeps whole frames, ``[3, H, W]`` in [−1, 1], so that no second copy is needed."""
    floats = frame.transpose(2, 0, 1).astype(np.float32)
    floats /= np.float32(127.5)
    floats -= 1
    return floats


def tensor_of(clip: Clip) -> Tensor:
    """``[3, T, H, W]`` of a clip: uint8 of whole frames, or in [−1, 1] of what a reduction here made."""
    frames = torch.from_numpy(clip.frames)
    return frames.movedim(-1, 0) if frames.dtype == torch.uint8 else frames.movedim(0, 1)
