"""Clips on disk: what their headers say, their frames, and their frames at another rate."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wmreward.errors import VideoError
from wmreward.video.container import has_clock, nominal_rate, open_video
from wmreward.video.decoder import Decoder
from wmreward.video.read import count_frames
from wmreward.video.types import UInt8Array

_SAME_PROPORTIONS = 0.05  # relative: 832 x 480 is still 16:9

_SAME_RATE = 0.002  # relative: 23.976 counts as 24, and 29.97 as 30


@dataclass(frozen=True)
class Header:
    """What a file says of itself; nothing is decoded.

    Attributes:
        fps: frames per second.
        num_frames: how many there are.
    """

    fps: float
    num_frames: int

    @property
    def rate(self) -> float:
        """Frames per second, whole where it is one but for the NTSC factor of 1.001."""
        whole = round(self.fps)
        return float(whole) if same_rate(self.fps, whole) else self.fps


@dataclass(frozen=True)
class Take(Header):
    """What there is to know of a clip before it is looked at.

    Attributes:
        height, width: of its frames after their rotation, in pixels.
        sample_aspect: width to height of a pixel as it is shown.
    """

    height: int
    width: int
    sample_aspect: float = 1.0

    def is_like(self, other: Take) -> bool:
        """Do frames of both have the same proportions, up to what rounding to blocks of pixels does?"""
        mine, theirs = (clip.width * clip.sample_aspect / clip.height for clip in (self, other))
        return abs(mine / theirs - 1) <= _SAME_PROPORTIONS


def read_header(path: Path) -> Header:
    """Facts about a clip; takes milliseconds.

    Raises:
        VideoError: if it is not a video, or has no frames or no rate.
    """
    with open_video(path) as (container, stream):
        rate = nominal_rate(container, stream)
        is_told = bool(stream.average_rate or stream.guessed_rate)
        # An AVI counts chunks, of which some may be empty.
        num_frames = stream.frames if has_clock(container) else 0
    if not is_told:
        raise VideoError(path, "its header has no frame rate; convert it to a constant rate")
    return Header(float(rate), num_frames or count_frames(path))


def read_take(path: Path) -> Take:
    """Facts about a clip; decodes its first frame.

    Raises:
        VideoError: as `read_header`, and if no frame decodes.
    """
    header = read_header(path)
    source = Decoder(path)
    with closing(iter(source)) as frames:
        if next(frames, None) is None:
            raise VideoError(path, "not a single frame decodes; copy or make it again")
    info = source.info
    return Take(
        **vars(header),
        height=info.height,
        width=info.width,
        sample_aspect=float(info.sample_aspect),
    )


def same_rate(a: float, b: float) -> bool:
    """Are two rates one, but for the NTSC factor?"""
    return abs(a - b) <= _SAME_RATE * max(a, b)


def first_frames(path: Path, count: int) -> Iterator[UInt8Array]:
    """The first `count` frames, uint8 [H, W, 3] RGB, one at a time.

    Raises:
        VideoError: if fewer decode, or FFmpeg reports errors.
    """
    index = -1
    source = Decoder(path)
    with closing(iter(source)) as frames:
        for index, frame in enumerate(frames):
            yield frame.rgb()
            if index + 1 == count:
                break
    if source.messages.count:
        raise VideoError(path, f"is damaged ({source.messages.first}); copy or make it again")
    if index + 1 == count:
        return
    raise VideoError(path, f"only {index + 1} of {count} frames decode; copy or make it again")


def change_rate(
    frames: Iterator[UInt8Array], num_frames: int, num_wanted: int
) -> Iterator[UInt8Array]:
    """`num_frames` frames as `num_wanted`, blended as the benchmark makes its 24 fps and other clips.

    First and last frame stay where they are; every other is a mixture of its two neighbours in
    float32, cut (not rounded) to 8 bits. The benchmark then encodes the result as H.264; this does not.
    """
    position = 0
    before = next(frames)
    after = next(frames, before)
    for index in range(num_wanted):
        place = index * (num_frames - 1) / (num_wanted - 1) if num_wanted > 1 else 0.0
        while position < int(place):
            position += 1
            before, after = after, next(frames, after)
        share = place - position
        if share:
            mixed = np.float32(1 - share) * before + np.float32(share) * after
            yield mixed.astype(np.uint8)
        else:
            yield before
