"""The image or video that generation starts from."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from magi1.pipeline import MAX_PREFIX_FRAMES
from wmreward.errors import VideoError
from wmreward.video.images import read_image
from wmreward.video.resize import resize_frames
from wmreward.video_io import iter_frames_at_fps


@dataclass(frozen=True)
class GivenFrames:
    """Frames as the generator takes them.

    Attributes:
        frames: uint8 ``[T, H, W, 3]``.
        sha256: Of these frames.
    """

    frames: Tensor
    sha256: str


def given_frames(
    image: str | None, video: str | None, size: tuple[int, int], fps: int
) -> GivenFrames | None:
    """The image, or the first 32 frames of the video at ``fps``, scaled to ``size`` (height, width).

    The aspect ratio is not kept, as in the released pipeline.

    Raises:
        VideoError: a file that is missing, damaged or too short.
    """
    if image:
        pictures = [read_image(Path(image))]
    elif video:
        wanted = islice(iter_frames_at_fps(video, fps), MAX_PREFIX_FRAMES)
        pictures = [picture for _, _, picture in wanted]
        if len(pictures) < 4:
            raise VideoError(
                Path(video),
                f"has {len(pictures)} frames at {fps} per second; at least 4 are needed to continue it",
            )
    else:
        return None
    frames = np.concatenate([resize_frames(picture[None], *size) for picture in pictures])
    digest = hashlib.sha256(repr(frames.shape).encode() + frames.tobytes()).hexdigest()
    return GivenFrames(torch.from_numpy(frames), digest)
