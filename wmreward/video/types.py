"""What a video is and what a clip of it holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

UInt8Array = NDArray[np.uint8]


@dataclass(frozen=True)
class VideoInfo:
    """What the headers and the first frame say about a video.

    Attributes:
        path: the file, or the folder of images.
        width: pixels, as displayed (after the rotation that the file asks for).
        height: pixels, as displayed.
        fps: average frames per second by the header; for a folder of images, the rate it was
            read at. A variable frame rate shows only in `Clip.times_s`.
        duration_s: seconds by the header, None where the header has none (live recordings).
        num_frames: frames by the header, None where it does not say. It can be wrong;
            `count_frames` counts.
        codec: FFmpeg's name of the codec, such as "h264".
        pix_fmt: FFmpeg's name of the pixel format, such as "yuv420p".
    """

    path: Path
    width: int
    height: int
    fps: float
    duration_s: float | None
    num_frames: int | None
    codec: str
    pix_fmt: str


@dataclass(frozen=True, eq=False)
class Clip:
    """Some frames of a video and where they came from.

    Attributes:
        frames: uint8 [T, H, W, 3], RGB in 0..255.
        indices: int64 [T], source frame numbers counted from 0 in display order.
        times_s: float64 [T], display times in seconds since the first frame of the source.
        source: the video.
        num_source_frames: frames in the source. `read_uniform` decoded and counted them all; in
            the chunks of `stream_fps` it is the count of coded frames (see `count_frames`).
    """

    frames: UInt8Array
    indices: NDArray[np.int64]
    times_s: NDArray[np.float64]
    source: VideoInfo
    num_source_frames: int

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def frame_rate(self) -> float:
        """Frames of the clip per second of the source; the source's own rate for one frame."""
        span = float(self.times_s[-1] - self.times_s[0])
        return (len(self.times_s) - 1) / span if span > 0 else self.source.fps


@dataclass(frozen=True, eq=False)
class SourceFrame:
    """One decoded frame; the costly conversion to RGB happens only where `rgb()` is called.

    Attributes:
        index: frame number from 0 in display order.
        time: exact seconds since the first frame.
        rgb: makes the picture, uint8 [H, W, 3].
    """

    index: int
    time: Fraction
    rgb: Callable[[], UInt8Array]
