"""What a world model sees of a frame, so that nothing else of it need be kept."""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from vjepa2.preprocess import from_uint8
from wmreward.video.types import UInt8Array
from wmreward.video_io import Reduction


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
