"""Writing videos and pictures, complete or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import av.error
import numpy as np
from av.container import OutputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from wmreward.errors import UsageError, VideoError
from wmreward.files import atomic_path, write_bytes
from wmreward.video.sampling import exact_rate
from wmreward.video.types import UInt8Array

# AVCOL_SPC_SMPTE170M and AVCOL_RANGE_MPEG: the conversion below is BT.601, limited range, and the
# file says so, since players otherwise guess BT.709 for large pictures.
_BT601, _LIMITED_RANGE = 6, 1

_MACROBLOCK, _MACROBLOCKS_AT_ONCE = 16, 8

WRITABLE_SUFFIXES = (".mp4", ".mov", ".mkv")


def write_video(
    path: str | os.PathLike[str],
    frames: Iterable[UInt8Array],
    fps: float | Fraction,
    *,
    crf: int = 18,
) -> None:
    """Write frames as H.264 (MPEG-4 where PyAV lacks libx264), readable by every player.

    The file appears only when it is complete. Odd sizes get one more row or column, a copy of
    the last, because 4:2:0 chroma needs even ones.

    Args:
        path: ends in .mp4, .mov or .mkv.
        frames: uint8 [H, W, 3] each, RGB in 0..255, all of one size; an array [T, H, W, 3] does.
            They are consumed one by one, so a generator of any length will do.
        fps: frames per second.
        crf: x264's quality, from 0 (lossless but for the chroma) to 51 (worst).

    Raises:
        UsageError: for another suffix, no frames, a wrong shape or dtype, or a wrong `fps`.
        WMRewardError: if it cannot be written: disk full, no permission.
    """
    path = Path(path)
    if path.suffix.lower() not in WRITABLE_SUFFIXES:
        raise UsageError(f"{path}: video names end in one of {', '.join(WRITABLE_SUFFIXES)}")
    rate = exact_rate(fps)
    pictures = iter(frames)
    first = next(pictures, None)
    if first is None:
        raise UsageError(f"{path}: there are no frames to write")
    _check(path, first, np.shape(first))
    with atomic_path(path) as temporary:
        try:
            _encode(path, temporary, first, pictures, rate, crf)
        except av.error.FFmpegError as error:
            if isinstance(error, OSError):  # disk full and the like: atomic_path explains them
                raise OSError(error.errno, error.strerror, str(temporary)) from error
            raise VideoError(path, f"cannot be encoded ({error.strerror})") from error


def write_png(path: str | os.PathLike[str], picture: UInt8Array) -> None:
    """Write uint8 [H, W, 3], RGB in 0..255, as a PNG; the file appears only when complete.

    Raises:
        UsageError: for a wrong shape or dtype.
        WMRewardError: if it cannot be written.
    """
    _check(Path(path), picture, np.shape(picture))
    encoder = av.CodecContext.create("png", "w")
    encoder.height, encoder.width = picture.shape[:2]
    encoder.pix_fmt, encoder.time_base = "rgb24", Fraction(1)
    frame = VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
    packets = [*encoder.encode(frame), *encoder.encode(None)]
    write_bytes(path, b"".join(bytes(packet) for packet in packets))


def _encode(
    path: Path,
    temporary: Path,
    first: UInt8Array,
    rest: Iterable[UInt8Array],
    rate: Fraction,
    crf: int,
) -> None:
    options = {} if path.suffix.lower() == ".mkv" else {"movflags": "+faststart"}
    with av.open(str(temporary), "w", options=options) as container:
        stream = _add_stream(container, first, rate, crf)
        _encode_picture(container, stream, first, 0, rate)
        for index, picture in enumerate(rest, 1):
            _check(path, picture, first.shape)
            _encode_picture(container, stream, picture, index, rate)
        container.mux(stream.encode(None))


def _add_stream(
    container: OutputContainer, picture: UInt8Array, rate: Fraction, crf: int
) -> VideoStream:
    height, width = (side + side % 2 for side in picture.shape[:2])
    if "libx264" in av.codecs_available:
        stream = container.add_stream("libx264", rate=rate, options=_x264_options(width, crf))
    else:
        stream = container.add_stream("mpeg4", rate=rate)
        stream.bit_rate = int(0.4 * width * height * rate)
    stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
    stream.codec_context.colorspace = _BT601
    stream.codec_context.color_range = _LIMITED_RANGE
    return stream


def _x264_options(width: int, crf: int) -> dict[str, str]:
    options = {"crf": str(crf)}
    if -(-width // _MACROBLOCK) % _MACROBLOCKS_AT_ONCE:
        # Beyond the end of a row x264's macroblock tree reads memory that nobody wrote: equal
        # frames would give one file or another by chance.
        options["x264-params"] = "mbtree=0"
    return options


def _encode_picture(
    container: OutputContainer,
    stream: VideoStream,
    picture: UInt8Array,
    index: int,
    rate: Fraction,
) -> None:
    height, width = picture.shape[:2]
    if height % 2 or width % 2:
        picture = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    frame = VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
    frame = frame.reformat(format="yuv420p", dst_colorspace="ITU601", dst_color_range="MPEG")
    frame.pts, frame.time_base = index, 1 / rate
    container.mux(stream.encode(frame))


def _check(path: Path, picture: UInt8Array, shape: tuple[int, ...]) -> None:
    is_rgb = isinstance(picture, np.ndarray) and picture.ndim == 3 and picture.shape[2] == 3
    if not is_rgb or picture.dtype != np.uint8 or 0 in picture.shape:
        found = f"{getattr(picture, 'dtype', type(picture).__name__)} {list(np.shape(picture))}"
        raise UsageError(f"{path}: frames must be uint8 [H, W, 3], got {found}")
    if picture.shape != shape:
        raise UsageError(
            f"{path}: all frames must have one size, got {list(shape)} and {list(picture.shape)}"
        )
