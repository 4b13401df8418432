"""Is a file whole? Answered from the container alone, without decoding a picture.

The count of frames in a header cannot be relied on: Matroska has none, MP4 counts samples that an
edit list hides, and a truncated file still promises everything. `scan` therefore walks all packets
once, which reads the file but decodes nothing, and counts those that the container wants shown.
Decoding then has the last word (`Scan.explain_shortage`), since a few codecs have packets without
a picture of their own.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from wmreward.errors import VideoError
from wmreward.video.container import codec_name, explain, open_video

# VP8 has packets with hidden reference frames; MPEG-4 in AVI packs two pictures into one packet
# and follows with an empty one.
_CODECS_WITH_HIDDEN_PACKETS = {"vp8", "mpeg4", "msmpeg4v3"}

_AGAIN = "copy or download it again"


@dataclass(frozen=True, eq=False)
class Scan:
    """What the packets of a video stream promise.

    Attributes:
        path: the file.
        num_packets: packets to be shown (those that an edit list discards are left out).
        pts: their display times in stream ticks, sorted; empty if the container has no times.
        codec: FFmpeg's name of the codec.
    """

    path: Path
    num_packets: int
    pts: NDArray[np.int64]
    codec: str

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
            promised -= int(np.searchsorted(self.pts, first_pts))
        if not num_decoded:
            return self.none_decodes()
        if num_decoded < promised:
            return VideoError(
                self.path,
                f"truncated or damaged: {num_decoded} of {promised} frames decode; {_AGAIN}",
            )
        return None

    def none_decodes(self) -> VideoError:
        return VideoError(
            self.path, f"not a single frame decodes; the file is damaged or empty; {_AGAIN}"
        )


def scan(path: Path) -> Scan:
    """Walk the packets of a video file.

    Raises:
        VideoError: if the file cannot be opened, or is visibly truncated or damaged.
    """
    pts: list[int] = []
    num_packets = num_shown = num_damaged = 0
    end_s = 0.0
    with (
        open_video(path) as (container, stream),
        explain(path, "cannot be read to its end", _AGAIN),
    ):
        codec, file_format = codec_name(stream), container.format.name
        rate = float(stream.average_rate or 0)
        duration_s = (container.duration or 0) / 1e6
        start_s = (container.start_time or 0) / 1e6
        promised = stream.frames or round(duration_s * rate)
        # Other streams are walked too: all of them ending early is a sign of truncation.
        for packet in container.demux():
            if packet.pts is not None:
                end = (packet.pts + (packet.duration or 0)) * packet.time_base
                end_s = max(end_s, float(end) - start_s)
            if packet.stream_index != stream.index or not packet.size:
                continue  # a size of 0 marks the end of a stream
            num_packets += 1
            num_damaged += packet.is_corrupt
            if not packet.is_discard:
                num_shown += 1
                if packet.pts is not None:
                    pts.append(packet.pts)
    # An MP4 or AVI whose frames are all there has lost at most what stands behind them.
    has_all = file_format.startswith(("mov", "avi")) and 0 < promised <= num_packets
    cut_short = not has_all and _is_cut_short(path)
    if num_damaged or cut_short:
        whole, of = num_packets - num_damaged, max(promised, num_packets)
        count = f"{whole} of {of} frames are whole" if whole < of else f"ends after {of} frames"
        raise VideoError(path, f"{'truncated' if cut_short else 'damaged'}: {count}; {_AGAIN}")
    sorted_pts = np.sort(np.asarray(pts, dtype=np.int64))
    lost_s = duration_s - end_s
    # A Matroska reader skips over damage without a word. With even times the duration tells; with
    # uneven ones the last frame may well be meant to stay on the screen.
    if "matroska" in file_format and lost_s * rate > 3 and _is_even(sorted_pts):
        raise VideoError(
            path, f"truncated or damaged: {num_packets} of about {promised} frames found; {_AGAIN}"
        )
    return Scan(path, num_shown, sorted_pts, codec)


def _is_even(pts: NDArray[np.int64]) -> bool:
    """Do frames follow each other at one rate, up to rounding?"""
    steps = np.diff(pts)
    return len(steps) > 1 and bool(steps.max() <= 1.5 * np.median(steps))


def _is_cut_short(path: Path) -> bool:
    """Does the file end before the size that its own headers declare?

    True only on clear evidence; containers that declare no size are taken to be whole.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        magic = file.read(12)
        if magic[:4] == b"RIFF":  # AVI: the size of the first chunk, in its header
            return 8 + int.from_bytes(magic[4:8], "little") > size + 1
        if magic[:3] == b"GIF":  # a GIF ends with a semicolon; some writers pad with zeros
            file.seek(max(0, size - 64))
            return not file.read().rstrip(b"\0\r\n").endswith(b";")
        if magic[:4] == b"\x1aE\xdf\xa3":
            return _matroska_end(file) > size
        return _mp4_end(file, size) > size


def _mp4_end(file: BinaryIO, size: int) -> int:
    """Where the last top-level box of an MP4 or MOV file says it ends; 0 if it is something else.

    Unknown boxes end the walk, because some cameras append data of their own.
    """
    known = {b"ftyp", b"moov", b"mdat", b"moof", b"free", b"skip", b"wide", b"sidx", b"uuid"}
    position = end = 0
    while position + 8 <= size:
        file.seek(position)
        length, name = struct.unpack(">I4s", file.read(8))
        if name not in known:
            break
        if length == 1:  # a 64-bit length follows
            length = int.from_bytes(file.read(8), "big")
        if length < 8:  # 0: up to the end of the file
            break
        position += length
        end = position
    return end


def _matroska_end(file: BinaryIO) -> int:
    """Where a Matroska or WebM segment says it ends; 0 if it is left open (live recordings)."""
    file.seek(4)
    header_size = _read_vint(file)
    if header_size is None:
        return 0
    file.seek(header_size, 1)
    if file.read(4) != b"\x18S\x80g":
        return 0
    segment_size = _read_vint(file)
    return 0 if segment_size is None else file.tell() + segment_size


def _read_vint(file: BinaryIO) -> int | None:
    """An EBML size: the number of leading zero bits gives its length; all ones mean unknown."""
    first = file.read(1)
    if not first or not first[0]:
        return None
    length = 9 - first[0].bit_length()
    value = int.from_bytes(first + file.read(length - 1), "big") & ((1 << 7 * length) - 1)
    return None if value == (1 << 7 * length) - 1 else value
