"""From a file or a folder of images to frames and clips."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wmreward.errors import UsageError, VideoError
from wmreward.video.collect import Collector
from wmreward.video.container import probe_file
from wmreward.video.decoder import Decoder
from wmreward.video.decord_reader import DecordReader
from wmreward.video.images import ImageFolder
from wmreward.video.integrity.scan import Scan, scan
from wmreward.video.sampling import (
    Chooser,
    GapError,
    exact_rate,
    nearest_to_clock,
    uniform_indices,
)
from wmreward.video.types import Clip, Faults, Reduction, SourceFrame, UInt8Array, VideoInfo

StrPath = str | os.PathLike[str]

DECODERS = ("pyav", "decord")

_INTERLACED = "its frames are marked as interlaced and read as they are; deinterlace it first"


_ROUNDED_ANGLE = 1.0
"""Degrees that a quarter turn may miss by rounding."""


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
    source: Source = ImageFolder(path, 24) if path.is_dir() else Decoder(path)
    with closing(iter(source)) as frames:
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
    path: StrPath,
    max_frames: int = 49,
    *,
    decoder: str = "pyav",
    image_fps: float = 24.0,
    reduction: Reduction | None = None,
) -> Clip:
    """Read at most `max_frames` frames spread evenly over the whole video (`uniform_indices`).

    The whole video is decoded, so its frame count is exact and damage anywhere is noticed.

    Args:
        path: a video file, or a folder of pictures.
        max_frames: the most frames to take; a shorter video gives all of its frames.
        decoder: "pyav", or "decord" where it is installed.
        image_fps: the rate of a folder of pictures.
        reduction: what to keep of each frame; all of it by default.

    Raises:
        UsageError: for a `max_frames` below 1, or an unknown or missing decoder.
        VideoError: if the video cannot be read, is truncated or damaged.
    """
    path = Path(path)
    if path.is_dir():
        folder = ImageFolder(path, image_fps)
        indices = uniform_indices(len(folder.images), max_frames)
        return _take(folder, indices, reduction, Faults())[0]
    packets = scan(path)
    if _uses_decord(decoder, path):
        return _read_uniform_decord(path, max_frames, packets, reduction)
    expected = max(1, packets.num_packets)
    # Normally one pass. A stream with hidden packets needs a second one, once decoding to the
    # end has shown how many frames there really are.
    for _ in range(2):
        source = Decoder(path, packets.clock)
        indices = uniform_indices(expected, max_frames)
        clip, num_decoded = _take(source, indices, reduction, packets.faults)
        _conclude(source, packets, num_decoded)
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
    source, packets = _source_at_fps(Path(path), image_fps)
    return _pictures(_at_fps(source, packets, rate))


def stream_fps(
    path: StrPath,
    fps: float,
    chunk_frames: int,
    *,
    image_fps: float = 24.0,
    reduction: Reduction | None = None,
    choose: Chooser = nearest_to_clock,
) -> Iterator[Clip]:
    """`iter_frames_at_fps` in clips of `chunk_frames` frames; the last may be shorter.

    `reduction` says what to keep of each frame, all of it by default, and `choose` which frames to take.

    Raises:
        UsageError: if `chunk_frames` is below 1 or a rate is not above 0.
        VideoError: as `iter_frames_at_fps`.
    """
    if chunk_frames < 1:
        raise UsageError(f"chunk_frames must be 1 or more, got {chunk_frames}")
    rate = exact_rate(fps)
    source, packets = _source_at_fps(Path(path), image_fps)
    num_frames = packets.num_packets if packets else source.info.num_frames or 0
    faults = packets.faults if packets else Faults()
    collector = Collector(chunk_frames, num_frames, faults, reduction)
    return _chunks(source, _at_fps(source, packets, rate, choose), collector)


Source = Decoder | ImageFolder


def _source_at_fps(path: Path, image_fps: float) -> tuple[Source, Scan | None]:
    """What gives the frames, and what the packets promise of a file."""
    if path.is_dir():
        return ImageFolder(path, image_fps), None
    packets = scan(path)
    return Decoder(path, packets.clock), packets


def _at_fps(
    source: Source, packets: Scan | None, fps: Fraction, choose: Chooser = nearest_to_clock
) -> Iterator[tuple[SourceFrame, int]]:
    """The chosen frames and how often each is taken; at the end, whether all were there."""
    num_decoded = 0

    def counted() -> Generator[SourceFrame, None, None]:
        nonlocal num_decoded
        with closing(iter(source)) as frames:
            for frame in frames:
                num_decoded += 1
                yield frame

    with closing(counted()) as frames:
        try:
            yield from choose(frames, fps)
        except GapError as error:
            raise VideoError(source.path, str(error)) from error
    if packets is not None and isinstance(source, Decoder):
        _conclude(source, packets, num_decoded)


def _pictures(
    chosen: Iterator[tuple[SourceFrame, int]],
) -> Iterator[tuple[int, float, UInt8Array]]:
    for frame, repeats in chosen:
        picture = frame.rgb()
        for _ in range(repeats):
            yield frame.index, float(frame.time), picture


def _chunks(
    source: Source, chosen: Iterator[tuple[SourceFrame, int]], collector: Collector
) -> Iterator[Clip]:
    for frame, repeats in chosen:
        kept = collector.keep(frame, source.info)
        for _ in range(repeats):
            collector.add(frame, kept, source.info)
            if len(collector) == collector.capacity:
                yield collector.clip(source.info)
    if len(collector):
        yield collector.clip(source.info)


def _take(
    source: Source, indices: NDArray[np.int64], reduction: Reduction | None, faults: Faults
) -> tuple[Clip, int]:
    """The frames at `indices`, and how many frames there are (all of them get decoded)."""
    wanted = set(indices.tolist())
    collector = Collector(len(indices), 0, faults, reduction)
    num_decoded = 0
    with closing(iter(source)) as frames:
        for frame in frames:
            num_decoded += 1
            if frame.index in wanted:
                collector.add(frame, collector.keep(frame, source.info), source.info)
    if not len(collector):
        raise VideoError(source.path, "not a single frame decodes; copy or download it again")
    collector.num_source_frames = num_decoded
    return collector.clip(source.info), num_decoded


def _conclude(source: Decoder, packets: Scan, num_decoded: int) -> None:
    """After the last frame: refuse what is missing, and note what is doubtful."""
    shortage = packets.explain_shortage(num_decoded, source.first_pts, source.interlaced)
    if shortage is not None:
        raise shortage
    faults = packets.faults
    faults.repeated_frames = source.repeated
    if source.interlaced and _INTERLACED not in faults.notes:
        faults.notes.append(_INTERLACED)
    angle = source.info.rotation if num_decoded else 0.0
    if abs(angle - round(angle / 90) * 90) > _ROUNDED_ANGLE:
        faults.notes.append(
            f"it asks to be turned by {angle:.0f} degrees, which is no quarter turn: the nearest one is made"
        )
    if source.messages.count >= faults.decoder_errors:
        # The walk over the packets heard the same about the container.
        faults.decoder_errors = source.messages.count
        faults.first_error = faults.first_error or source.messages.first


def _read_uniform_decord(
    path: Path, max_frames: int, packets: Scan, reduction: Reduction | None
) -> Clip:
    reader = DecordReader(path)
    indices = uniform_indices(len(reader), max_frames)
    if len(reader) != packets.num_packets:
        packets.faults.notes.append(
            f"decord finds {len(reader)} frames of {packets.num_packets} that are coded"
        )
    info, times = probe_file(path), reader.times(indices.tolist())
    collector = Collector(len(indices), len(reader), packets.faults, reduction)
    for index, time in zip(indices.tolist(), times.tolist(), strict=True):
        frame = SourceFrame(index, Fraction(time), partial(reader.frame, index))
        collector.add(frame, collector.keep(frame, info), info)
    return collector.clip(info)


def _uses_decord(decoder: str, path: Path) -> bool:
    if decoder not in DECODERS:
        raise UsageError(f"unknown decoder {decoder!r}: choose one of {', '.join(DECODERS)}")
    # decord cannot read pictures, and their decoding leaves no room for differences anyway.
    return decoder == "decord" and not path.is_dir()


def _too_few(path: Path, wanted: int, found: int) -> VideoError:
    return VideoError(path, f"has {found} frames, so there is no frame {wanted} (counted from 0)")
