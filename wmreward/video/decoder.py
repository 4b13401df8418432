"""The frames of one file in display order, with exact times."""

from __future__ import annotations

from collections.abc import Generator
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from wmreward.errors import VideoError
from wmreward.video.container import (
    AGAIN,
    check_size,
    describe,
    explain,
    has_clock,
    nominal_rate,
    open_video,
)
from wmreward.video.messages import Messages
from wmreward.video.rgb import RgbConverter
from wmreward.video.types import SourceFrame, UInt8Array, VideoInfo


class Decoder:
    """Iterates over the frames of one file in display order; errors are `VideoError`s.

    Args:
        path: the file.
        clock: display times in seconds, increasing, for a container whose packets carry none.

    Attributes:
        info: known from the first frame on.
        first_pts: of the first frame, in stream ticks; None without a clock.
        interlaced: whether any frame so far was.
        repeated: frames so far whose time stamp was missing, or no later than that of the frame before.
        messages: errors that FFmpeg reported so far.
    """

    info: VideoInfo
    first_pts: int | None = None
    interlaced = False
    repeated = 0

    def __init__(self, path: Path, clock: NDArray[np.float64] | None = None) -> None:
        self.path = path
        self.messages = Messages()
        self._clock = clock

    def __iter__(self) -> Generator[SourceFrame, None, None]:
        index = -1
        with open_video(self.path, self.messages) as (container, stream):
            # One thread: see `messages`. Videos are decoded side by side instead.
            stream.codec_context.thread_count = 1
            to_rgb = RgbConverter()
            rate = nominal_rate(container, stream)
            time = Fraction(-1)
            frames = container.decode(stream)
            while True:
                with (
                    explain(self.path, f"is damaged after frame {index}", AGAIN),
                    self.messages.heard(),
                ):
                    frame = next(frames, None)
                if frame is None:
                    return
                index += 1
                if frame.is_corrupt:
                    raise VideoError(self.path, f"is damaged at frame {index}; {AGAIN}")
                check_size(self.path, frame.width, frame.height)
                if index == 0:
                    self.info = describe(self.path, container, stream, frame)
                    self.first_pts = frame.pts if has_clock(container) else None
                self.interlaced |= frame.interlaced_frame
                time = self._time(frame, index, rate, time)
                yield SourceFrame(index, time, partial(self._rgb, to_rgb, frame))

    def _rgb(self, to_rgb: RgbConverter, frame: VideoFrame) -> UInt8Array:
        with explain(self.path, "its colours cannot be read", "convert it to 8-bit BT.709 first"):
            return to_rgb(frame)

    def _time(self, frame: VideoFrame, index: int, rate: Fraction, previous: Fraction) -> Fraction:
        if self.first_pts is None:
            if self._clock is None or index >= len(self._clock):
                return previous + 1 / rate if index else Fraction(0)
            return Fraction(self._clock[index]).limit_denominator(1_000_000)
        if frame.pts is not None and frame.time_base:
            time = (frame.pts - self.first_pts) * frame.time_base
            if time > previous:
                return time
        self.repeated += 1
        return previous + 1 / rate  # a missing or repeated time stamp
