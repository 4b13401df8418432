"""Opening a video through PyAV, with clear errors; and what its headers say.

What a player would show is what is read: the stream that is marked as the default (else the first) and
no cover picture, its own rate, turned as the file asks for. Non-square pixels are not stretched, since
whoever scales the frames stretches them anyway; `VideoInfo.sample_aspect` says how they are shown.
Interlaced frames are not deinterlaced, and that is told. Titles and other texts do not matter, in
whatever encoding.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO, cast

import av
import av.error
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from wmreward.errors import VideoError
from wmreward.files import open_regular
from wmreward.video.messages import Messages
from wmreward.video.rgb import display_matrix, rotation, turns_sideways
from wmreward.video.types import VideoInfo

MAX_PIXELS = 1 << 26
"""Pixels of a frame at most, 67 million: twice 8K. A few kilobytes can ask for gigabytes."""

FORMATS = (
    *("mov", "matroska", "avi", "gif", "mpegts", "mpeg", "asf", "flv", "ogg", "yuv4mpegpipe"),
    *("h264", "hevc", "vvc", "obu", "av1", "ivf", "m4v", "mpegvideo", "mjpeg", "mxf", "nut", "dv"),
    *("apng", "webp", "wtv", "rm", "image2", "png_pipe", "jpeg_pipe", "bmp_pipe", "webp_pipe"),
    *("tiff_pipe", "gif_pipe", "jpegxl_pipe", "jpegxl_anim", "ppm_pipe", "pgm_pipe"),
    # Known only in order to say that there is no video in them.
    *("wav", "mp3", "flac", "aac", "aiff", "caf", "w64", "au", "amr"),
)
"""FFmpeg's names of the kinds of files that are read. Playlists and scripts (HLS, DASH, concat, SDP) are not:
they name other files and servers, which FFmpeg would then open."""

# Nothing but the file itself is read, whatever it says; checksums and ends of pictures are looked at.
_OPTIONS = {
    "format_whitelist": ",".join(FORMATS),
    "protocol_whitelist": "file",
    "max_pixels": str(MAX_PIXELS),
    "err_detect": "crccheck+bitstream+buffer",
}

_NO_VIDEO_BUT = (
    (b"#EXTM3U", "a playlist (HLS)"),
    (b"ffconcat", "a list of files for FFmpeg (concat)"),
    (b"<?xml", "an XML file, perhaps a playlist (DASH)"),
    (b"<MPD", "a playlist (DASH)"),
    (b"v=0", "a description of a broadcast (SDP)"),
)

_WEBP_ANIMATION = 2  # a bit of the flags in the header of a WebP

_STILL_FORMATS = ("_pipe", "image2")

# AVI counts chunks and raw streams count nothing: their packets carry no display time, and with
# B-frames not even their order is that of display.
_CLOCKLESS = {"avi", "h264", "hevc", "m4v", "mpegvideo"}

# Streams without a container. Their rate is what the codec says, if it says one.
_RAW = {"h264", "hevc", "vvc", "m4v", "mpegvideo", "mjpeg", "obu"}

AGAIN = "copy or download it again"


@contextmanager
def explain(path: Path, what: str, advice: str) -> Iterator[None]:
    """Turn errors of FFmpeg inside the block into a one-line `VideoError` about `path`."""
    try:
        yield
    except (av.error.FFmpegError, OSError, UnicodeDecodeError) as error:
        detail = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise VideoError(path, f"{what} ({detail.splitlines()[0][:120]}); {advice}") from error
    except IndexError as error:  # PyAV's table of streams is that of the beginning
        raise VideoError(
            path,
            "another stream begins in the middle of it, which cannot be read; copy the video alone: "
            "ffmpeg -i FILE -map 0:v:0 -c copy NEW.mkv",
        ) from error


@contextmanager
def open_video(
    path: Path, messages: Messages | None = None
) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open a file and find its video stream.

    Args:
        path: The file.
        messages: Where FFmpeg's errors are counted.

    Raises:
        VideoError: if there is no such file, it is empty or unreadable, holds no video, or frames that
            are too large.
    """
    check_file(path)
    # With a protocol in front, a colon in a file name is just a colon.
    with opened(path, f"file:{path}", messages or Messages()) as container:
        yield container, _video_stream(path, container)


_PROBLEM = "is not a video that FFmpeg can read, or was cut off while it was written"


@contextmanager
def opened(
    path: Path,
    source: str | BinaryIO,
    messages: Messages,
    problem: str = _PROBLEM,
    advice: str = "check what it is (ffprobe) or make it again",
) -> Iterator[InputContainer]:
    """Open `source`, the file at `path` or its name, and refuse what is too large to decode.

    `problem` and `advice` make the error for what cannot be read.
    """
    with messages.heard() as log:
        try:
            container = av.open(source, options=_OPTIONS, metadata_errors="replace")
        except (av.error.FFmpegError, OSError, ValueError) as error:
            _refuse_size(path, log)
            # A ValueError is PyAV's own, about headers that make no sense to it.
            detail = getattr(error, "strerror", None) or "its headers make no sense"
            raise VideoError(path, f"{problem} ({detail}); {advice}") from error
    with cast(InputContainer, container):
        _refuse_size(path, log)
        for stream in container.streams.video:
            if stream.codec_context is not None:
                check_size(path, stream.codec_context.width, stream.codec_context.height)
                stream.codec_context.options = {
                    key: _OPTIONS[key] for key in ("max_pixels", "err_detect")
                }
        yield cast(InputContainer, container)


def check_file(path: Path) -> None:
    """Raise a `VideoError` unless `path` is a readable file with something in it."""
    if path.is_dir():
        raise VideoError(
            path, "is a folder without images; give a video file or a folder of images"
        )
    with open_regular(path, refuse=VideoError) as file:
        refuse_animated_webp(path, file)
        start = file.read(16).lstrip(b"\xef\xbb\xbf \r\n\t")
    for beginning, kind in _NO_VIDEO_BUT:
        if start.lower().startswith(beginning.lower()):
            raise VideoError(path, f"is not a video but {kind}; give the video itself")


def refuse_animated_webp(path: Path, file: BinaryIO) -> None:
    """Raise a `VideoError` for one: FFmpeg reads still ones only. Leaves the file at its beginning."""
    head = file.read(21)
    file.seek(0)
    if head[8:16] == b"WEBPVP8X" and head[20:] and head[20] & _WEBP_ANIMATION:
        raise VideoError(
            path, "is an animated WebP, which is not read; convert it to GIF or MP4 first"
        )


def check_size(path: Path, width: int, height: int) -> None:
    """Raise a `VideoError` for frames of more than `MAX_PIXELS`."""
    if width * height > MAX_PIXELS:
        raise VideoError(
            path,
            f"its frames of {width} x {height} pixels are too large: at most "
            f"{MAX_PIXELS // 10**6} million pixels are read; scale it down first",
        )


def _refuse_size(path: Path, log: list[tuple[int, str, str]]) -> None:
    """The same where FFmpeg refused: then only its log knows the size."""
    for _, _, text in log:
        if found := re.search(r"size (\d+)x(\d+) exceeds", text):
            check_size(path, int(found[1]), int(found[2]))


def videos_in(container: InputContainer) -> list[VideoStream]:
    """The streams of which a player shows one: those that are marked as the default, else all."""
    # A cover picture or a strip of thumbnails is no video.
    aside = ("attached_pic", "timed_thumbnails")
    streams = [
        stream
        for stream in container.streams.video
        if not any(is_marked(stream, mark) for mark in aside)
    ]
    return [stream for stream in streams if is_marked(stream, "default")] or streams


def _video_stream(path: Path, container: InputContainer) -> VideoStream:
    """The stream that players show: the first of `videos_in`."""
    streams = videos_in(container)
    if not streams:
        kinds = ", ".join(sorted({stream.type for stream in container.streams}))
        raise VideoError(path, f"has no video stream, only {kinds or 'an empty container'}")
    stream = streams[0]
    if stream.codec_context is None:
        raise VideoError(
            path, "its codec is unknown to this build of PyAV; convert the video to H.264"
        )
    return stream


def is_marked(stream: VideoStream, mark: str) -> bool:
    """Is a stream marked as the default, or as something else that FFmpeg has a name for?"""
    marks: Any = getattr(stream, "disposition", 0)  # PyAV before 13 cannot tell
    return bool(marks & getattr(type(marks), mark, 0))


def probe_file(path: Path) -> VideoInfo:
    """See `wmreward.video_io.probe`."""
    with open_video(path) as (container, stream), explain(path, "cannot be decoded", AGAIN):
        stream.codec_context.thread_count = 1
        frame = next(container.decode(stream), None)
        if frame is None:
            raise VideoError(path, f"not a single frame decodes; the file is damaged; {AGAIN}")
        return describe(path, container, stream, frame)


def describe(
    path: Path, container: InputContainer, stream: VideoStream, frame: VideoFrame
) -> VideoInfo:
    """Facts about an open video, given its first frame."""
    if frame.width < 1 or frame.height < 1:
        raise VideoError(path, f"has frames of {frame.width} x {frame.height} pixels")
    width, height, aspect = frame.width, frame.height, _sample_aspect(stream)
    matrix = display_matrix(frame)
    if turns_sideways(matrix):
        width, height, aspect = height, width, 1 / aspect
    is_still = container.format.name.endswith(_STILL_FORMATS)
    if stream.duration is not None and stream.time_base is not None:
        duration_s = float(stream.duration * stream.time_base)
    else:
        duration_s = (container.duration or 0) / 1e6
    return VideoInfo(
        path=path,
        width=width,
        height=height,
        fps=float(nominal_rate(container, stream)),
        duration_s=duration_s or None,
        num_frames=1 if is_still else stream.frames or None,
        codec=codec_name(stream),
        pix_fmt=frame.format.name,
        sample_aspect=aspect,
        rotation=rotation(matrix),
    )


def codec_name(stream: VideoStream) -> str:
    """FFmpeg's name of the codec, such as "av1", whichever library decodes it."""
    codec = stream.codec_context.codec
    return str(getattr(codec, "canonical_name", codec.name))  # PyAV before 14 has only the name


def has_clock(container: InputContainer) -> bool:
    """Do packets carry display times?"""
    return container.format.name not in _CLOCKLESS


def nominal_rate(container: InputContainer, stream: VideoStream) -> Fraction:
    """Frames per second by the header. 25 is FFmpeg's own answer where nothing is known.

    The rate in an AVI's header counts chunks, of which every other one may be empty (H.264 with
    B-frames that was copied into it), and that of a raw stream is always 25; FFmpeg's guess looks at
    what is in them.
    """
    rates: list[Any] = [stream.average_rate, stream.guessed_rate]
    if container.format.name == "avi" or is_raw(container):
        rates.reverse()
    return next((Fraction(rate) for rate in rates if rate), Fraction(25))


def is_raw(container: InputContainer) -> bool:
    """Is it a stream without a container, which need not state a rate?"""
    return container.format.name in _RAW


def _sample_aspect(stream: VideoStream) -> Fraction:
    """Width to height of a pixel as it is shown; nonsense counts as square."""
    aspect = stream.sample_aspect_ratio
    return Fraction(aspect) if aspect and Fraction(1, 20) < aspect < 20 else Fraction(1)
