"""From a file or a folder of images to frames and clips."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import closing
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wmreward.errors import UsageError, VideoError
from wmreward.video.container import Decoder, probe_file
from wmreward.video.decord_reader import DecordReader
from wmreward.video.images import ImageFolder
from wmreward.video.integrity import Scan, scan
from wmreward.video.sampling import exact_rate, nearest_to_clock, uniform_indices
from wmreward.video.types import Clip, SourceFrame, UInt8Array, VideoInfo

StrPath = str | os.PathLike[str]

DECODERS = ("pyav", "decord")


def probe(path: StrPath, *, image_fps: float = 24.0) -> VideoInfo:
    """Facts about a video from its headers and its first frame; takes milliseconds.

    Args:
        path: a video file, a picture, or a folder of pictures.
        image_fps: the rate that a folder of pictures is read at.

    Raises:
        VideoError: if it cannot be read.
    """
    path = Path(path)
    return ImageFolder(path, image_fps).info if path.is_dir() else probe_file(path)


def count_frames(path: StrPath) -> int:
    """Count the coded frames of a video by walking its packets, without decoding them.

    This is what decoding gives for ordinary files; a few kinds of streams (VP8 with hidden
    frames, interlaced fields, recordings cut in mid-stream) decode to fewer frames.

    Raises:
        VideoError: if it cannot be read, or is truncated.
    """
    path = Path(path)
    return len(ImageFolder(path, 24).images) if path.is_dir() else scan(path).num_packets


def read_frames(
    path: StrPath, indices: Sequence[int] | NDArray[np.integer], *, decoder: str = "pyav"
) -> UInt8Array:
    """Read frames by number, counted from 0 in display order.

    PyAV decodes from the start up to the last one asked for, since seeking cannot be trusted to
    be exact; only the frames asked for are converted to RGB.

    Args:
        path: a video file, or a folder of pictures.
        indices: frame numbers in any order, repeats allowed.
        decoder: "pyav", or "decord" where it is installed.

    Returns:
        uint8 [T, H, W, 3], RGB in 0..255, in the order of `indices`.

    Raises:
        UsageError: for no or negative indices, or an unknown or missing decoder.
        VideoError: if the video cannot be read or has too few frames.
    """
    wanted = [int(index) for index in indices]
    if not wanted or min(wanted) < 0:
        raise UsageError(f"indices must be one or more frame numbers from 0 on, got {wanted}")
    path = Path(path)
    if _uses_decord(decoder, path):
        reader = DecordReader(path)
        if max(wanted) >= len(reader):
            raise _too_few(path, max(wanted), len(reader))
        return reader.read(wanted)
    missing, last = set(wanted), max(wanted)
    pictures = {}
    num_decoded = 0
    with closing(iter(_source(path))) as frames:
        for frame in frames:
            num_decoded += 1
            if frame.index in missing:
                pictures[frame.index] = frame.rgb()
            if frame.index == last:
                break
    if num_decoded <= last:
        raise _too_few(path, last, num_decoded)
    return np.stack([pictures[index] for index in wanted])


def read_uniform(
    path: StrPath, max_frames: int = 49, *, decoder: str = "pyav", image_fps: float = 24.0
) -> Clip:
    """Read at most `max_frames` frames spread evenly over the whole video (`uniform_indices`).

    The whole video is decoded, so its frame count is exact and damage anywhere is noticed.

    Args:
        path: a video file, or a folder of pictures.
        max_frames: the most frames to take; a shorter video gives all of its frames.
        decoder: "pyav", or "decord" where it is installed.
        image_fps: the rate of a folder of pictures.

    Raises:
        UsageError: for a `max_frames` below 1, or an unknown or missing decoder.
        VideoError: if the video cannot be read, is truncated or damaged.
    """
    path = Path(path)
    if _uses_decord(decoder, path):
        return _read_uniform_decord(path, max_frames)
    if path.is_dir():
        folder = ImageFolder(path, image_fps)
        return _take(folder, uniform_indices(len(folder.images), max_frames))[0]
    packets = scan(path)
    expected = max(1, packets.num_packets)
    # Normally one pass. A stream with hidden packets needs a second one, once decoding to the
    # end has shown how many frames there really are.
    for _ in range(2):
        source = Decoder(path)
        clip, num_decoded = _take(source, uniform_indices(expected, max_frames))
        shortage = packets.explain_shortage(num_decoded, source.first_pts, source.interlaced)
        if shortage is not None:
            raise shortage
        if num_decoded == expected:
            return clip
        expected = num_decoded
    raise VideoError(path, "decodes differently each time; convert it to H.264 first")


def iter_frames_at_fps(
    path: StrPath, fps: float, *, image_fps: float = 24.0
) -> Iterator[tuple[int, float, UInt8Array]]:
    """The frame nearest to each of the times 0, 1/fps, 2/fps, ... up to the last frame.

    Works on true display times, so a variable frame rate comes out even. Memory stays bounded
    however long the video is. An `fps` above the source's repeats frames.

    Args:
        path: a video file, or a folder of pictures.
        fps: frames per second to take.
        image_fps: the rate of a folder of pictures.

    Yields:
        (frame number, display time in seconds since the first frame, uint8 [H, W, 3]).

    Raises:
        UsageError: if a rate is not above 0.
        VideoError: if the video cannot be read, is truncated or damaged (at once where the
            container shows it, else when the damage is reached).
    """
    rate = exact_rate(fps)
    path = Path(path)
    source = _source(path, image_fps)
    packets = scan(path) if isinstance(source, Decoder) else None
    return _at_fps(source, packets, rate)


def stream_fps(
    path: StrPath, fps: float, chunk_frames: int, *, image_fps: float = 24.0
) -> Iterator[Clip]:
    """`iter_frames_at_fps` in clips of `chunk_frames` frames; the last may be shorter.

    Raises:
        UsageError: if `chunk_frames` is below 1 or a rate is not above 0.
        VideoError: as `iter_frames_at_fps`.
    """
    if chunk_frames < 1:
        raise UsageError(f"chunk_frames must be 1 or more, got {chunk_frames}")
    rate = exact_rate(fps)
    path = Path(path)
    source = _source(path, image_fps)
    packets = scan(path) if isinstance(source, Decoder) else None
    num_frames = packets.num_packets if packets else source.info.num_frames or 0
    return _chunks(source, _at_fps(source, packets, rate), chunk_frames, num_frames)


def _chunks(
    source: Decoder | ImageFolder,
    frames: Iterator[tuple[int, float, UInt8Array]],
    chunk_frames: int,
    num_frames: int,
) -> Iterator[Clip]:
    chunk: list[tuple[int, float, UInt8Array]] = []
    for frame in frames:
        chunk.append(frame)
        if len(chunk) == chunk_frames:
            yield _clip(source.info, chunk, num_frames)
            chunk = []
    if chunk:
        yield _clip(source.info, chunk, num_frames)


def _at_fps(
    source: Decoder | ImageFolder, packets: Scan | None, fps: Fraction
) -> Iterator[tuple[int, float, UInt8Array]]:
    num_decoded = 0

    def counted() -> Iterator[SourceFrame]:
        nonlocal num_decoded
        for frame in source:
            num_decoded += 1
            yield frame

    for frame, repeats in nearest_to_clock(counted(), fps):
        picture = frame.rgb()
        for _ in range(repeats):
            yield frame.index, float(frame.time), picture
    if packets is not None and isinstance(source, Decoder):
        shortage = packets.explain_shortage(num_decoded, source.first_pts, source.interlaced)
        if shortage is not None:
            raise shortage


def _take(source: Decoder | ImageFolder, indices: NDArray[np.int64]) -> tuple[Clip, int]:
    """The frames at `indices`, and how many frames there are (all of them get decoded)."""
    wanted = set(indices.tolist())
    picked = []
    num_decoded = 0
    for frame in source:
        num_decoded += 1
        if frame.index in wanted:
            picked.append((frame.index, float(frame.time), frame.rgb()))
    if not picked:
        raise VideoError(source.path, "not a single frame decodes; copy or download it again")
    return _clip(source.info, picked, num_decoded), num_decoded


def _clip(
    info: VideoInfo, frames: Sequence[tuple[int, float, UInt8Array]], num_source_frames: int
) -> Clip:
    indices, times, pictures = zip(*frames, strict=True)
    return Clip(
        frames=np.stack(pictures),
        indices=np.array(indices, dtype=np.int64),
        times_s=np.array(times, dtype=np.float64),
        source=info,
        num_source_frames=num_source_frames,
    )


def _read_uniform_decord(path: Path, max_frames: int) -> Clip:
    reader = DecordReader(path)
    indices = uniform_indices(len(reader), max_frames)
    return Clip(
        frames=reader.read(indices.tolist()),
        indices=indices,
        times_s=reader.times(indices.tolist()),
        source=probe_file(path),
        num_source_frames=len(reader),
    )


def _source(path: Path, image_fps: float = 24.0) -> Decoder | ImageFolder:
    return ImageFolder(path, image_fps) if path.is_dir() else Decoder(path)


def _uses_decord(decoder: str, path: Path) -> bool:
    if decoder not in DECODERS:
        raise UsageError(f"unknown decoder {decoder!r}: choose one of {', '.join(DECODERS)}")
    # decord cannot read pictures, and their decoding leaves no room for differences anyway.
    return decoder == "decord" and not path.is_dir()


def _too_few(path: Path, wanted: int, found: int) -> VideoError:
    return VideoError(path, f"has {found} frames, so there is no frame {wanted} (counted from 0)")
