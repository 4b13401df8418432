"""A small still of each video that the page shows, within a budget of bytes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from wmreward.errors import WMRewardError
from wmreward.video.resize import resize_frames
from wmreward.video.types import UInt8Array
from wmreward.video_io import count_frames, read_frames

WORKERS = 8
_WIDTHS = (320, 240, 176, 128)
_QUALITY = 6
"""Of FFmpeg's MJPEG encoder, from 2 (best) to 31."""
_BYTES_PER_PIXEL = 0.16
"""Of a JPEG of this quality, about."""


def posters(videos: Iterable[Path], budget: int, workers: int = WORKERS) -> Mapping[Path, bytes]:
    """The middle frame of each video as a JPEG, all together within ``budget`` bytes.

    The more there are, the smaller they become. Those for which nothing is left, and those of videos that
    cannot be read, are missing. ``workers`` threads decode at the same time.
    """
    from tqdm import tqdm

    paths = list(dict.fromkeys(videos))
    width = _width(len(paths), budget)
    found: dict[Path, bytes] = {}
    with ThreadPoolExecutor(workers) as pool:  # decoding lets go of the interpreter
        stills = pool.map(lambda path: _poster(path, width), paths)
        shown = tqdm(stills, total=len(paths), unit="still", leave=False, disable=None)
        for path, picture in zip(paths, shown, strict=True):
            if picture is not None and len(picture) <= budget:
                found[path] = picture
                budget -= len(picture)
    return found


def _width(count: int, budget: int) -> int:
    """The largest that is likely to fit, of pictures 16:9."""
    fitting = (w for w in _WIDTHS if count * w * w * 9 / 16 * _BYTES_PER_PIXEL <= budget)
    return next(fitting, _WIDTHS[-1])


def _poster(video: Path, width: int) -> bytes | None:
    try:
        frames = read_frames(video, [count_frames(video) // 2])
    except WMRewardError:
        return None
    width = min(width, frames.shape[2])
    height = max(2, round(frames.shape[1] * width / frames.shape[2]))
    return jpeg(resize_frames(frames, height + height % 2, width + width % 2)[0])


def jpeg(picture: UInt8Array) -> bytes:
    """uint8 ``[H, W, 3]`` of even size → a JPEG file."""
    encoder = av.CodecContext.create("mjpeg", "w")
    assert isinstance(encoder, av.VideoCodecContext)
    encoder.height, encoder.width = picture.shape[:2]
    encoder.pix_fmt, encoder.time_base = "yuvj420p", Fraction(1)
    encoder.qmin = encoder.qmax = _QUALITY
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
    frame = frame.reformat(format="yuvj420p", dst_color_range="JPEG")
    packets = [*encoder.encode(frame), *encoder.encode(None)]
    return b"".join(bytes(packet) for packet in packets)
