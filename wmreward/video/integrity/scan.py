"""Are all frames there? A walk over the packets, and what the container says of itself.

The count of frames in a header cannot be relied on: Matroska has none, MP4 counts samples that an
edit list hides, and a truncated file still promises everything. `scan` therefore walks all packets
once, which reads the file but decodes nothing, and counts those that the container wants shown.
Decoding then has the last word (`Scan.explain_shortage`), since a few codecs have packets without
a picture of their own.
"""

from __future__ import annotations

from array import array
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from av import CodecContext
from av.container import InputContainer
from av.error import FFmpegError
from av.video.stream import VideoStream
from numpy.typing import NDArray

from wmreward.errors import VideoError
from wmreward.files import open_regular
from wmreward.video.container import (
    AGAIN,
    codec_name,
    explain,
    has_clock,
    is_marked,
    is_raw,
    nominal_rate,
    open_video,
    videos_in,
)
from wmreward.video.integrity import slices as mpeg
from wmreward.video.integrity.boxes import y4m
from wmreward.video.integrity.cropping import cropped_size
from wmreward.video.integrity.structure import walk
from wmreward.video.messages import Messages
from wmreward.video.types import Faults

# VP8 has packets with hidden reference frames; MPEG-4 in AVI packs two pictures into one packet
# and follows with an empty one.
_CODECS_WITH_HIDDEN_PACKETS = {"vp8", "mpeg4", "msmpeg4v3"}

_SHORTEST_GAP_S, _GAP_TO_USUAL = 1.0, 10.0

_EVEN = 0.9
"""Of the steps between frames, in a video of one rate with some frames missing."""


@dataclass(frozen=True, eq=False)
class Scan:
    """What the packets of a video stream promise.

    Attributes:
        path: the file.
        num_packets: packets to be shown (those that an edit list discards are left out).
        pts: their display times in stream ticks, sorted; empty if the container has no times.
        codec: FFmpeg's name of the codec.
        faults: what is doubtful about the file, without decoding it.
        clock: display times in seconds, where the container has no times but counts packets.
    """

    path: Path
    num_packets: int
    pts: NDArray[np.int64]
    codec: str
    faults: Faults = field(default_factory=Faults)
    clock: NDArray[np.float64] | None = None

    def explain_shortage(
        self, num_decoded: int, first_pts: int | None, interlaced: bool
    ) -> VideoError | None:
        """An error if frames that should have decoded did not, None if all is well.

        Packets shown before the first decoded frame are not missed: a recording cut in the
        middle of a group of pictures starts with frames that nobody can decode. Interlaced
        streams may hold one packet for each field.
        """
        if self.codec in _CODECS_WITH_HIDDEN_PACKETS or interlaced:
            return None if num_decoded else self.none_decodes()
        promised = self.num_packets
        if first_pts is not None and len(self.pts) == self.num_packets:
            before = int(np.searchsorted(self.pts, first_pts))
            self.faults.dropped_frames = before
            promised -= before
        if not num_decoded:
            return self.none_decodes()
        if num_decoded < promised:
            return VideoError(
                self.path,
                f"truncated or damaged: {num_decoded} of {promised} frames decode; {AGAIN}",
            )
        return None

    def none_decodes(self) -> VideoError:
        return VideoError(
            self.path, f"not a single frame decodes; the file is damaged or empty; {AGAIN}"
        )


def scan(path: Path) -> Scan:
    """Walk the packets of a video file.

    Raises:
        VideoError: if the file cannot be opened, or is visibly truncated or damaged.
    """
    pts, dts = array("q"), array("q")
    num_packets = num_shown = num_damaged = largest = num_bytes = 0
    end_s = 0.0
    messages, slices = Messages(), mpeg.Slices()
    with (
        open_video(path, messages) as (container, stream),
        explain(path, "cannot be read to its end", AGAIN),
        messages.heard(),
    ):
        codec, file_format = codec_name(stream), container.format.name
        shown_otherwise = _shown_otherwise(path, container, stream)
        _open_strictly(stream)
        tick_s = float(stream.time_base or 0)
        rate = float(stream.average_rate or 0)
        duration_s = (container.duration or 0) / 1e6
        start_s = (container.start_time or 0) / 1e6
        timed = has_clock(container)
        in_header = stream.frames
        promised = max(0, in_header) or round(duration_s * rate)
        # Other streams are walked too: all of them ending early is a sign of truncation.
        for packet in container.demux():
            num_bytes += packet.size
            if packet.pts is not None:
                end = (packet.pts + (packet.duration or 0)) * packet.time_base
                end_s = max(end_s, float(end) - start_s)
            if packet.stream_index != stream.index or not packet.size:
                continue  # a size of 0 marks the end of a stream, or an empty chunk of an AVI
            num_packets += 1
            if codec in mpeg.CODECS:
                slices.add(bytes(packet))
            largest = max(largest, packet.size)
            num_damaged += packet.is_corrupt
            if not packet.is_discard:
                num_shown += 1
                if packet.pts is not None:
                    pts.append(packet.pts)
                if packet.dts is not None:
                    dts.append(packet.dts)
    found = walk(path)
    cut = found.cut or (file_format == "yuv4mpegpipe" and _ends_in_a_frame(path, largest))
    # An MP4 or AVI whose frames are all there has lost at most what stands behind them.
    has_all = file_format.startswith(("mov", "avi")) and 0 < promised <= num_packets
    if num_damaged or (cut and not has_all):
        whole, of = num_packets - num_damaged, max(promised, num_packets)
        count = f"{whole} of {of} frames are whole" if whole < of else f"ends after {of} frames"
        raise VideoError(path, f"{'truncated' if cut else 'damaged'}: {count}; {AGAIN}")
    faults = Faults(decoder_errors=messages.count, first_error=messages.first)
    if cut:
        faults.notes.append("cut off after its last frame")
    if found.damage:
        faults.notes.append(found.damage)
    if slices.num_short:
        faults.notes.append(f"{slices.num_short} of its pictures lack their last rows")
    faults.notes += shown_otherwise
    if num_bytes < _REACHED * found.media_bytes:
        share = 100 * num_bytes // found.media_bytes
        faults.notes.append(f"only {share} % of its media data belongs to a frame")
    if num_shown < num_packets / 2:
        faults.notes.append(f"it hides {num_packets - num_shown} of its {num_packets} frames")
    in_file = num_packets if timed else _num_chunks(dts)
    in_header = max(in_header, found.num_frames)
    if in_header > 0 and in_header != in_file:
        faults.notes.append(f"it promises {in_header} frames, and {in_file} are there")
    sorted_pts = np.sort(np.frombuffer(pts, dtype=np.int64))
    clock = (
        _clock(dts, tick_s, num_shown)
        if file_format == "avi" and codec not in _CODECS_WITH_HIDDEN_PACKETS
        else None
    )
    times_s = sorted_pts.astype(np.float64) * tick_s if clock is None else clock
    _note_times(faults, times_s, tick_s, file_format)
    # Some writers count the duration from 0, whenever the first frame comes.
    lost = (duration_s - max(end_s, end_s + start_s)) * rate
    # A Matroska reader skips over damage without a word. With even times the duration tells; with
    # uneven ones the last frame may well be meant to stay on the screen.
    allowed = 1.5 if "matroska" in file_format else 3.5
    if lost > allowed and _is_even(sorted_pts) and file_format.startswith(_WITH_DURATION):
        if "matroska" in file_format and lost > 3:
            raise VideoError(
                path,
                f"truncated or damaged: {num_packets} of about {promised} frames found; {AGAIN}",
            )
        faults.notes.append(f"its header promises {lost / rate:.2g} s more than there are")
    return Scan(path, num_shown, sorted_pts, codec, faults, clock)


_WITH_HEADERS = {"h264", "hevc", "vvc"}


def _open_strictly(stream: VideoStream) -> None:
    """Let FFmpeg say what is wrong with the headers of a codec, which it passes over otherwise."""
    context = stream.codec_context
    if codec_name(stream) in _WITH_HEADERS and context.extradata:
        strict = CodecContext.create(context.codec.name, "r")
        strict.extradata = context.extradata
        strict.options = {"err_detect": "explode"}
        with suppress(FFmpegError):
            strict.open()


def _shown_otherwise(path: Path, container: InputContainer, stream: VideoStream) -> list[str]:
    """What a player does with the pictures that is not done here, or may do otherwise."""
    context, notes = stream.codec_context, []
    if (count := len(videos_in(container))) > 1:
        told = f"it marks {count} videos to be shown: the first of them is read"
        if not is_marked(stream, "default"):
            told = f"it holds {count} videos and marks none of them to be shown: the first is read"
        notes.append(told)
    if is_raw(container) and not context.framerate:
        notes.append(
            f"it states no frame rate: {float(nominal_rate(container, stream)):g} is assumed"
        )
    if "1" in (stream.metadata.get(key) for key in ("alpha_mode", "ALPHA_MODE")):
        notes.append("its transparency is not read, only the colours under it")
    transfer = _HDR.get(int(getattr(context, "color_trc", 0) or 0))
    if transfer:
        notes.append(f"HDR colours ({transfer}), read as they are: paler than a player shows them")
    if shown := cropped_size(path, context.width, context.height):
        whole = f"{context.width} x {context.height}"
        notes.append(f"a player shows {shown[0]} x {shown[1]} of its {whole} pixels, all are read")
    return notes


_HDR = {16: "PQ", 18: "HLG"}
"""Transfer functions that need tone mapping, by their numbers in ITU-T H.273."""

_REACHED = 0.9
"""Of the media data of an MP4, by what belongs to a frame (or a piece of sound)."""


def _num_chunks(dts: array[int]) -> int:
    """Chunks of an AVI, empty ones included: where every other one is empty, so may be the last."""
    times = np.sort(np.frombuffer(dts, dtype=np.int64))
    return int(times[-1] + np.median(np.diff(times))) if len(times) > 1 else len(times)


_WITH_DURATION = ("matroska", "flv", "asf")


def _clock(dts: array[int], tick_s: float, num_shown: int) -> NDArray[np.float64] | None:
    """Times of frames from the order of decoding: with B-frames it differs, but its steps do not."""
    if len(dts) != num_shown or not num_shown:
        return None
    times = np.sort(np.frombuffer(dts, dtype=np.int64))
    steps = np.diff(times)
    return (times - times[0]) * tick_s if tick_s and (steps > 0).all() else None


def _note_times(
    faults: Faults, times_s: NDArray[np.float64], tick_s: float, file_format: str
) -> None:
    """Gaps; and frames that an otherwise even clock leaves out (in a GIF, each frame has its own time)."""
    steps = np.diff(times_s)
    if len(steps) < 2:
        return
    usual = float(np.median(steps))
    is_gap = steps > max(_SHORTEST_GAP_S, _GAP_TO_USUAL * usual)
    if len(gaps := steps[is_gap]):
        faults.gaps, faults.longest_gap_s = len(gaps), round(float(gaps.max()), 3)
    near = np.abs(steps - usual) <= max(1.01 * tick_s, 0.1 * usual)
    long = steps[~near & ~is_gap & (steps > 1.5 * usual)]
    if file_format != "gif" and usual > 0 and near.mean() >= _EVEN and len(long):
        faults.missing_frames = int(np.rint(long / usual - 1).sum())


def _ends_in_a_frame(path: Path, packet_size: int) -> bool:
    with open_regular(path, refuse=VideoError) as file:
        return y4m(file.read(1024), file.seek(0, 2), packet_size).cut


def _is_even(pts: NDArray[np.int64]) -> bool:
    """Do frames follow each other at one rate, up to rounding?"""
    steps = np.diff(pts)
    return len(steps) > 1 and bool(steps.max() <= 1.5 * np.median(steps))
