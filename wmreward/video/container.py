"""Decoding through PyAV: opening with clear errors, exact times, rotation, RGB.

Colours are converted by FFmpeg's `scale` filter with bilinear chroma, which is what the FFmpeg
and decord command lines of most pipelines do: limited or full range and BT.601, BT.709 or BT.2020
are taken from the stream's own tags, and an untagged stream counts as limited-range BT.601.
(PyAV's own `to_ndarray(format="rgb24")` ignored the tags before version 17.) Non-square pixels are
not stretched and interlaced frames are not deinterlaced. FFmpeg's log stays silent, as PyAV leaves
it; what matters of it is in the errors.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, cast

import av
import av.error
import av.filter
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from wmreward.errors import VideoError
from wmreward.video.types import SourceFrame, UInt8Array, VideoInfo

# Containers whose packets carry no display time (B-frames make their order useless as a clock);
# AVI has a constant frame rate by definition.
_CLOCKLESS = {"avi", "h264", "hevc", "m4v", "mpegvideo"}

_STILL_FORMATS = ("_pipe", "image2")

_AGAIN = "copy or download it again"


@contextmanager
def explain(path: Path, what: str, advice: str) -> Iterator[None]:
    """Turn errors of FFmpeg inside the block into a one-line `VideoError` about `path`."""
    try:
        yield
    except (av.error.FFmpegError, OSError) as error:
        detail = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise VideoError(path, f"{what} ({detail.splitlines()[0]}); {advice}") from error


@contextmanager
def open_video(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open a file and find its video stream.

    Raises:
        VideoError: if there is no such file, it is empty or unreadable, or holds no video.
    """
    check_file(path)
    with explain(
        path,
        "is not a video that FFmpeg can read, or was cut off while it was written",
        "check what it is (ffprobe) or make it again",
    ):
        # With a protocol in front, a colon in a file name is just a colon.
        container = av.open(f"file:{path}")
    with container:
        yield container, _video_stream(path, container)


def check_file(path: Path) -> None:
    """Raise a `VideoError` unless `path` is a readable file with something in it."""
    if not path.exists():
        raise VideoError(path, "no such file; check the spelling and the folder")
    if path.is_dir():
        raise VideoError(
            path, "is a folder without images; give a video file or a folder of images"
        )
    if not os.access(path, os.R_OK):
        raise VideoError(path, "permission denied; make it readable (chmod u+r)")
    if path.is_file() and path.stat().st_size == 0:
        raise VideoError(path, f"is empty (0 bytes); {_AGAIN}")


def _video_stream(path: Path, container: InputContainer) -> VideoStream:
    streams = [stream for stream in container.streams.video if not _is_cover(stream)]
    if not streams:
        kinds = ", ".join(sorted({stream.type for stream in container.streams}))
        raise VideoError(path, f"has no video stream, only {kinds or 'an empty container'}")
    stream = streams[0]
    if stream.codec_context is None:
        raise VideoError(
            path, "its codec is unknown to this build of PyAV; convert the video to H.264"
        )
    return stream


def _is_cover(stream: VideoStream) -> bool:
    """Is the stream the cover picture of a sound file? (PyAV before 13 cannot tell.)"""
    disposition = getattr(stream, "disposition", None)
    return bool(disposition) and "attached_pic" in str(disposition)


def probe_file(path: Path) -> VideoInfo:
    """See `wmreward.video_io.probe`."""
    with open_video(path) as (container, stream), explain(path, "cannot be decoded", _AGAIN):
        stream.thread_type = "AUTO"
        frame = next(container.decode(stream), None)
        if frame is None:
            raise VideoError(path, f"not a single frame decodes; the file is damaged; {_AGAIN}")
        return describe(path, container, stream, frame)


def describe(
    path: Path, container: InputContainer, stream: VideoStream, frame: VideoFrame
) -> VideoInfo:
    """Facts about an open video, given its first frame."""
    if frame.width < 1 or frame.height < 1:
        raise VideoError(path, f"has frames of {frame.width} x {frame.height} pixels")
    width, height = frame.width, frame.height
    if _turns_sideways(_display_matrix(frame)):
        width, height = height, width
    is_still = container.format.name.endswith(_STILL_FORMATS)
    if stream.duration is not None and stream.time_base is not None:
        duration_s = float(stream.duration * stream.time_base)
    else:
        duration_s = (container.duration or 0) / 1e6
    return VideoInfo(
        path=path,
        width=width,
        height=height,
        fps=float(_nominal_rate(stream)),
        duration_s=duration_s or None,
        num_frames=1 if is_still else stream.frames or None,
        codec=codec_name(stream),
        pix_fmt=frame.format.name,
    )


def codec_name(stream: VideoStream) -> str:
    """FFmpeg's name of the codec, such as "av1", whichever library decodes it."""
    codec = stream.codec_context.codec
    return str(getattr(codec, "canonical_name", codec.name))  # PyAV before 14 has only the name


def _nominal_rate(stream: VideoStream) -> Fraction:
    """Frames per second by the header. 25 is FFmpeg's own answer where nothing is known."""
    return stream.average_rate or stream.guessed_rate or Fraction(25)


class Decoder:
    """Iterates over the frames of one file in display order; errors are `VideoError`s.

    Args:
        path: the file.
        threads: of the decoder, each of which holds a frame or more; 0 for one per core.

    Attributes:
        info: known from the first frame on.
        first_pts: of the first frame, in stream ticks; None without a clock.
        interlaced: whether any frame so far was.
    """

    info: VideoInfo
    first_pts: int | None = None
    interlaced = False

    def __init__(self, path: Path, *, threads: int = 0) -> None:
        self.path = path
        self._threads = threads

    def __iter__(self) -> Generator[SourceFrame, None, None]:
        index = -1
        with open_video(self.path) as (container, stream):
            stream.thread_type = "AUTO"
            stream.codec_context.thread_count = self._threads
            to_rgb = RgbConverter()
            rate = _nominal_rate(stream)
            has_clock = container.format.name not in _CLOCKLESS
            time = Fraction(-1)
            frames = container.decode(stream)
            while True:
                with explain(self.path, f"is damaged after frame {index}", _AGAIN):
                    frame = next(frames, None)
                if frame is None:
                    return
                index += 1
                if frame.is_corrupt:
                    raise VideoError(self.path, f"is damaged at frame {index}; {_AGAIN}")
                if index == 0:
                    self.info = describe(self.path, container, stream, frame)
                    self.first_pts = frame.pts if has_clock else None
                self.interlaced |= frame.interlaced_frame
                time = self._time(frame, index, rate, time)
                yield SourceFrame(index, time, partial(to_rgb, frame))

    def _time(self, frame: VideoFrame, index: int, rate: Fraction, previous: Fraction) -> Fraction:
        if self.first_pts is None:
            return index / rate
        if frame.pts is not None and frame.time_base:
            time = (frame.pts - self.first_pts) * frame.time_base
            if time > previous:
                return time
        return previous + 1 / rate  # a missing or repeated time stamp


class RgbConverter:
    """Frames of any pixel format to RGB, through one FFmpeg filter for as long as it fits.

    Pictures with transparency are laid on black (decord drops the transparency instead, which
    shows whatever colour lies under it). A stream that changes its picture size is scaled to the
    size of its first frame, and turned as that asks for, as FFmpeg does.
    """

    def __init__(self) -> None:
        self._key: tuple[Any, ...] = ()
        self._size: tuple[int, int] | None = None
        self._matrix: _Matrix | None = None
        self._graph: av.filter.Graph

    def __call__(self, frame: VideoFrame) -> UInt8Array:
        """Convert one frame to uint8 [H, W, 3], turned as its display matrix says."""
        if self._size is None:
            self._size = frame.width, frame.height
            # Not of every frame: asked for its side data, a frame of PyAV lives on in a cycle of
            # references, and frames pile up until Python's garbage collector comes by.
            self._matrix = _display_matrix(frame)
        transparent = _has_alpha(frame)
        key = (frame.width, frame.height, frame.format.name, frame.colorspace, frame.color_range)
        if key != self._key:
            self._key = key
            self._graph = _scale_graph(frame, self._size, "rgba" if transparent else "rgb24")
        self._graph.push(frame)
        picture = cast(UInt8Array, cast(VideoFrame, self._graph.pull()).to_ndarray())
        if transparent:
            picture = _on_black(picture)
        return np.ascontiguousarray(_turn(picture, self._matrix))


def _scale_graph(frame: VideoFrame, size: tuple[int, int], pix_fmt: str) -> av.filter.Graph:
    graph = av.filter.Graph()
    source = graph.add_buffer(
        width=frame.width,
        height=frame.height,
        format=frame.format,
        time_base=frame.time_base or Fraction(1, 1000),
    )
    scale = graph.add("scale", f"{size[0]}:{size[1]}:flags=bilinear")
    convert = graph.add("format", pix_fmt)
    sink = graph.add("buffersink")
    for output, to in ((source, scale), (scale, convert), (convert, sink)):
        output.link_to(to)
    graph.configure()
    return graph


def _has_alpha(frame: VideoFrame) -> bool:
    # The palette of pal8 (GIF, PNG) can hold transparent entries.
    return frame.format.name == "pal8" or any(part.is_alpha for part in frame.format.components)


def _on_black(rgba: UInt8Array) -> UInt8Array:
    alpha = rgba[..., 3:]
    if alpha.min() == 255:
        return rgba[..., :3]
    blended = (rgba[..., :3].astype(np.uint16) * alpha + 127) // 255
    return blended.astype(np.uint8)


# The upper left of the display matrix: source (x, y) is shown at (a x + c y, b x + d y).
_Matrix = tuple[int, int, int, int]


def _display_matrix(frame: VideoFrame) -> _Matrix | None:
    data: Any = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return None
    values = np.frombuffer(bytes(data), dtype=np.int32)
    a, b, c, d = (int(values[i]) for i in (0, 1, 3, 4))
    return a, b, c, d


def _turns_sideways(matrix: _Matrix | None) -> bool:
    return matrix is not None and abs(matrix[0]) < abs(matrix[1])


def _turn(picture: UInt8Array, matrix: _Matrix | None) -> UInt8Array:
    """Apply quarter turns and mirrorings; other angles go to the nearest of these."""
    if matrix is None:
        return picture
    a, b, c, d = matrix
    if _turns_sideways(matrix):
        picture = picture.swapaxes(0, 1)
        a, d = c, b
    if a < 0:
        picture = picture[:, ::-1]
    if d < 0:
        picture = picture[::-1]
    return picture
