"""Clips of every container that is promised, read as the scorer reads them."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import av.error
import av.logging
import numpy as np
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from benchmarks.campaign.targets import Reading, Sample
from wmreward.video_io import read_uniform

NUM_FRAMES, HEIGHT, WIDTH, FPS = 24, 48, 64, 24

CLIPS: dict[str, tuple[str, str, dict[str, str]]] = {
    "h264.mp4": ("libx264", "yuv420p", {"bf": "2"}),
    "h264_front.mp4": ("libx264", "yuv420p", {"movflags": "faststart"}),
    "h264_fragments.mp4": (
        "libx264",
        "yuv420p",
        {"movflags": "frag_keyframe+empty_moov", "g": "8"},
    ),
    "h264.mov": ("libx264", "yuv420p", {}),
    "prores.mov": ("prores_ks", "yuv422p10le", {}),
    "hevc.mp4": ("libx265", "yuv420p", {"x265-params": "log-level=none"}),
    "h264.mkv": ("libx264", "yuv420p", {"bf": "2"}),
    "ffv1.mkv": ("ffv1", "bgr0", {"level": "3", "slicecrc": "1"}),
    "live.mkv": ("libx264", "yuv420p", {"live": "1"}),
    "vp8.webm": ("libvpx", "yuv420p", {}),
    "vp9.webm": ("libvpx-vp9", "yuv420p", {"cpu-used": "8"}),
    "av1.webm": ("libaom-av1", "yuv420p", {"cpu-used": "8"}),
    "mpeg4.avi": ("mpeg4", "yuv420p", {}),
    "mjpeg.avi": ("mjpeg", "yuvj420p", {}),
    "gif.gif": ("gif", "rgb8", {}),
    "h264.ts": ("libx264", "yuv420p", {}),
    "mpeg2.mpg": ("mpeg2video", "yuv420p", {}),
    "vp8.ogv": ("libvpx", "yuv420p", {}),
    "h264.flv": ("libx264", "yuv420p", {}),
    "wmv2.wmv": ("wmv2", "yuv420p", {}),
    "raw.y4m": ("rawvideo", "yuv420p", {}),
    "h264.3gp": ("libx264", "yuv420p", {}),
    "h264.m2ts": ("libx264", "yuv420p", {}),
}
"""Encoder, pixel format and options by name."""

_OF_CONTAINER = {"movflags", "live"}
_ENDLESS = {".ts", ".m2ts", ".y4m"}
"""What says nothing of where it ends."""
_STRICTEST = {"err_detect": "crccheck+bitstream+buffer+careful+explode"}


def pictures() -> Iterator[np.ndarray]:
    """A textured square that moves over a textured ground."""
    random = np.random.default_rng(0)
    ground = random.integers(0, 120, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    square = random.integers(120, 256, (16, 16, 3), dtype=np.uint8)
    for index in range(NUM_FRAMES):
        frame = ground.copy()
        frame[16:32, 2 * index : 2 * index + 16] = square
        yield frame


def make_clip(path: Path, codec: str, pix_fmt: str, options: dict[str, str]) -> None:
    """Write one clip."""
    of_container = {key: value for key, value in options.items() if key in _OF_CONTAINER}
    of_codec = {key: value for key, value in options.items() if key not in _OF_CONTAINER}
    with av.open(str(path), "w", options=of_container) as container:
        stream = container.add_stream(codec, rate=FPS, options=of_codec)
        assert isinstance(stream, VideoStream)
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, pix_fmt
        for index, picture in enumerate(pictures()):
            frame = VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=pix_fmt)
            frame.pts, frame.time_base = index, Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


class Videos:
    """Frames, their numbers and times, as `read_uniform` gives them."""

    def samples(self) -> list[Sample]:
        samples = []
        with tempfile.TemporaryDirectory(prefix="campaign_") as folder:
            for name, (codec, pix_fmt, options) in CLIPS.items():
                if codec in av.codecs_available:
                    path = Path(folder, name)
                    make_clip(path, codec, pix_fmt, options)
                    samples.append(Sample(name, path.read_bytes()))
        return samples

    def read(self, path: Path) -> Reading:
        clip = read_uniform(path)
        digest = hashlib.sha256(repr(clip.frames.shape).encode() + clip.frames.tobytes())
        digest.update(np.round(clip.times_s, 3).tobytes() + clip.indices.tobytes())
        return Reading(digest.hexdigest(), str(clip.faults) or None)

    def is_legal(self, path: Path, intact: Reading, found: Reading) -> bool:
        """FFmpeg at its strictest has nothing to say, and all frames are there.

        Such are: another rate, size, colour or rotation in a header without a checksum, and other bits of a
        picture in a codec whose every bit string decodes (VP8, VP9, H.264 and HEVC mostly, raw video). What
        says nothing of how many frames it has may also have lost some: a GIF anywhere, a transport stream or
        raw video where it was cut exactly between two pictures.
        """
        count = 0
        with av.logging.Capture() as log:
            av.logging.set_level(av.logging.WARNING)
            try:
                with av.open(str(path), options=_STRICTEST, metadata_errors="replace") as container:
                    stream = container.streams.video[0]
                    stream.codec_context.options = _STRICTEST
                    stream.codec_context.thread_count = 1
                    for packet in container.demux(stream):
                        # What an edit list hides is no loss, and is decoded: others may refer to it.
                        count += len(packet.decode()) + (packet.is_discard and packet.size > 0)
            except (av.error.FFmpegError, ValueError):
                return False
            finally:
                av.logging.set_level(None)
        return not log and (
            count >= NUM_FRAMES
            or path.suffix == ".gif"
            or (path.suffix in _ENDLESS and _is_beginning(path))
        )


def _is_beginning(path: Path) -> bool:
    """Is a mutant the beginning of the intact file, which lies beside its folder?"""
    intact = path.parents[1] / "intact" / path.name
    return intact.read_bytes().startswith(path.read_bytes())


def target() -> Videos:
    """The target of this module."""
    return Videos()
