"""What a video is and what a clip of it holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

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
        sample_aspect: width to height of a pixel as it is shown, after the rotation. Frames are not
            stretched by it.
        rotation: degrees by which the file asks to turn its pictures; quarter turns are applied, others
            to the nearest of these.
    """

    path: Path
    width: int
    height: int
    fps: float
    duration_s: float | None
    num_frames: int | None
    codec: str
    pix_fmt: str
    sample_aspect: Fraction = Fraction(1)
    rotation: float = 0.0


@dataclass(kw_only=True)
class Faults:
    """What is doubtful about a video that could be read all the same. Filled while it is decoded.

    Attributes:
        decoder_errors: that FFmpeg reported.
        dropped_frames: coded frames that did not decode.
        repeated_frames: whose time stamp was missing, or no later than that of the frame before.
        missing_frames: that the time stamps leave out, in a video of one rate.
        gaps: pauses between frames, over a second and ten times longer than is usual in the video.
        longest_gap_s: of these, in seconds.
        notes: what else, each in a few words.
        first_error: what FFmpeg reported first.
    """

    decoder_errors: int = 0
    dropped_frames: int = 0
    repeated_frames: int = 0
    missing_frames: int = 0
    gaps: int = 0
    longest_gap_s: float = 0.0
    notes: list[str] = field(default_factory=list)
    first_error: str = ""

    def __bool__(self) -> bool:
        return any(vars(self).values())

    def to_json(self) -> dict[str, Any]:
        """For a record."""
        return {key: value for key, value in vars(self).items() if key != "first_error"}

    def __str__(self) -> str:
        """All of it in a line; "" for a sound video."""
        error = f" ({self.first_error})" if self.first_error else ""
        counts = (
            ("errors while decoding", self.decoder_errors, error),
            ("frames that do not decode", self.dropped_frames, ""),
            ("frames without a time of their own", self.repeated_frames, ""),
            ("frames missing by the times of the others", self.missing_frames, ""),
            ("gaps between frames", self.gaps, f" (up to {self.longest_gap_s:.6g} s)"),
        )
        told = (f"{what}: {count}{more}" for what, count, more in counts if count)
        return "; ".join([*self.notes, *told])


Reduction = Callable[[UInt8Array], NDArray[Any]]
"""What is kept of each frame while a video is decoded: uint8 [H, W, 3] to what `Clip.frames` holds, of one
shape. The frame itself, of any size, is let go at once."""


@dataclass(frozen=True, eq=False)
class Clip:
    """Some frames of a video and where they came from.

    Attributes:
        frames: uint8 [T, H, W, 3], RGB in 0..255; or what a `Reduction` made of them, [T, ...].
        indices: int64 [T], source frame numbers counted from 0 in display order.
        times_s: float64 [T], display times in seconds since the first frame of the source.
        source: the video.
        num_source_frames: frames in the source. `read_uniform` decoded and counted them all; in
            the chunks of `stream_fps` it is the count of coded frames (see `count_frames`).
        faults: what is doubtful about the source; complete once its last clip has been taken.
    """

    frames: NDArray[Any]
    indices: NDArray[np.int64]
    times_s: NDArray[np.float64]
    source: VideoInfo
    num_source_frames: int
    faults: Faults = field(default_factory=Faults)

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
