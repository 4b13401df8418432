"""The image or video that generation starts from."""

from __future__ import annotations

import hashlib
from collections import deque
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from magi1.pipeline import MAX_PREFIX_FRAMES, usable_frames
from wmreward.errors import VideoError
from wmreward.video.images import probe_image, read_image
from wmreward.video.resize import resize_frames
from wmreward.video.sampling import by_rounded_times, nearest_to_clock
from wmreward.video.types import UInt8Array
from wmreward.video_io import Faults, probe, stream_fps

LATENT_FRAMES = 4
"""Frames of video that one latent frame stands for: a continued video is used in such steps."""


@dataclass(frozen=True)
class GivenFrames:
    """Frames as the generator takes them.

    Attributes:
        frames: uint8 ``[T, H, W, 3]``.
        sha256: Of these frames.
        faults: What is doubtful about the video they come from.
    """

    frames: Tensor
    sha256: str
    faults: Faults = field(default_factory=Faults)


def given_frames(
    image: str | None,
    video: str | None,
    size: tuple[int, int],
    fps: int,
    *,
    released: bool = False,
) -> GivenFrames | None:
    """The image, or the last 32 frames of the video at ``fps``, scaled to ``size`` (height, width).

    So the new frames follow where the video ends. The released pipeline takes the first 32, chosen by
    FFmpeg (``released``), after which most of a longer video would come twice. The aspect ratio is not kept.

    Raises:
        VideoError: a file that is missing, damaged or too short.
    """
    faults = Faults()
    if image:
        pictures = [resize_frames(opening_image(Path(image))[None], *size)[0]]
    elif video:
        pictures, faults = _part_of(video, size, fps, released)
        if len(pictures) < LATENT_FRAMES:
            raise _too_short(Path(video), len(pictures), fps)
    else:
        return None
    used = usable_frames(len(pictures), LATENT_FRAMES)
    pictures = pictures[:used] if released else pictures[-used:]
    frames = np.stack(pictures)
    digest = hashlib.sha256(repr(frames.shape).encode() + frames.tobytes()).hexdigest()
    return GivenFrames(torch.from_numpy(frames), digest, faults)


def opens_output(given: Tensor) -> bool:
    """Whether given frames ``[T, H, W, 3]`` are the first of what is made, as an image is: so is a video that
    one latent frame holds.
    """
    return len(given) < 2 * LATENT_FRAMES


def opening_image(path: Path) -> UInt8Array:
    """The image that opens a video, uint8 ``[H, W, 3]``.

    Raises:
        VideoError: it cannot be read, or is a video, of which the first frame would be taken.
    """
    picture = read_image(path)
    if probe_image(path).num_frames != 1:
        raise VideoError(
            path, "is a video, but --init_image takes an image; --init_video continues a video"
        )
    return picture


def _too_short(video: Path, frames: int, fps: int) -> VideoError:
    if probe(video).num_frames == 1:
        return VideoError(
            video,
            "is an image, but --init_video takes a video; --init_image opens one with an image",
        )
    return VideoError(
        video, f"has {frames} frames at {fps} per second; at least 4 are needed to continue it"
    )


def _part_of(
    video: str, size: tuple[int, int], fps: int, released: bool
) -> tuple[list[UInt8Array], Faults]:
    """The 32 frames of a video that are used, scaled as they are decoded."""

    def scaled(picture: UInt8Array) -> UInt8Array:
        return resize_frames(picture[None], *size)[0]

    choose = by_rounded_times if released else nearest_to_clock
    clips = stream_fps(video, fps, MAX_PREFIX_FRAMES, reduction=scaled, choose=choose)
    kept: deque[UInt8Array] = deque(maxlen=MAX_PREFIX_FRAMES)
    faults = Faults()
    for clip in islice(clips, 1) if released else clips:
        kept.extend(clip.frames)
        faults = clip.faults
    return list(kept), faults
