"""What the benchmark's mask files do to a mask.

The published evaluation writes every mask as MPEG-4 (OpenCV's writer, fourcc ``mp4v``), reads it back,
and only then scales it down. At full size the threshold undoes the loss, but where half of a small
pixel is on, the codec's noise decides: scores differ by some tenths of a point (up to 2 in small sets).
The encoder settings here are those of OpenCV's writer: with the FFmpeg that it was compared with, the
decoded files are equal in every grey level, also where the rate is too low for a mask.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import cast

import av
import numpy as np
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame

from wmreward.physics_iq.measures.masks import BoolArray
from wmreward.video.types import UInt8Array


def grey_levels(masks: Iterable[BoolArray]) -> Iterator[UInt8Array]:
    """Masks as grey levels 0 and 255."""
    return (mask.view(np.uint8) * np.uint8(255) for mask in masks)


def through_mpeg4(masks: Iterable[BoolArray], fps: int) -> Iterator[UInt8Array]:
    """Masks [H, W] as their files would be read: grey levels, uint8, cut to an even height and width."""
    encoder: VideoCodecContext | None = None
    for index, grey in enumerate(grey_levels(masks)):
        even = np.ascontiguousarray(grey[: len(grey) // 2 * 2, : grey.shape[1] // 2 * 2])
        if encoder is None:
            encoder = _encoder(even.shape[0], even.shape[1], fps)
            encoder.open()  # makes the header, which the decoder needs
            decoder = av.CodecContext.create("mpeg4", "r")
            decoder.extradata, decoder.thread_count = encoder.extradata, 1
        frame = VideoFrame.from_ndarray(even, format="gray").reformat(format="yuv420p")
        frame.pts, frame.time_base = index, Fraction(1, fps)
        for packet in encoder.encode(frame):
            yield from map(_grey, decoder.decode(packet))
    if encoder is not None:
        for packet in encoder.encode(None):
            yield from map(_grey, decoder.decode(packet))
        yield from map(_grey, decoder.decode(None))


def _encoder(height: int, width: int, fps: int) -> VideoCodecContext:
    encoder = av.CodecContext.create("mpeg4", "w")
    encoder.height, encoder.width, encoder.pix_fmt = height, width, "yuv420p"
    encoder.time_base, encoder.framerate = Fraction(1, fps), Fraction(fps)
    encoder.bit_rate = min(2 * height * width * fps, 2**31 - 1)
    encoder.bit_rate_tolerance = encoder.bit_rate
    encoder.gop_size = 12
    # The header comes once, as in a file: else it takes of every key frame's bits. PyAV has attributes for
    # both in its later versions only.
    encoder.options = {"qmin": "3", "flags": "+global_header"}
    encoder.thread_count = 1  # threads cut the picture into slices, which are coded apart
    return encoder


def _grey(frame: VideoFrame) -> UInt8Array:
    return cast(UInt8Array, frame.to_ndarray(format="rgb24"))[..., 0]
