"""Streams of packets without a table of contents: made to be cut into, yet not everywhere."""

from __future__ import annotations

import struct
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from wmreward.video.integrity.evidence import CUT, MOST_STEPS, WHOLE, Evidence

_PACKET, _SYNC = 188, 0x47
_AT_ONCE = 1 << 16  # packets
_NO_PID = 0x1FFF  # of packets that fill up


def transport_stream(file: BinaryIO, size: int) -> Evidence:
    """MPEG-TS, also with the 4 bytes of time before each packet that cameras and Blu-rays write.

    Packets have one length and are counted from 0 to 15 for each part of the programme. The last packet
    of a picture is filled up; one that is full to the brim has lost what came after (or, once in 184
    times, was just filled).
    """
    start = file.read(1024)
    for lead, stride in ((0, _PACKET), (4, _PACKET + 4), (0, _PACKET + 16)):
        syncs = start[lead::stride]
        if len(syncs) > 1 and set(syncs) == {_SYNC}:
            break
    else:
        return WHOLE
    file.seek(0)
    counters, is_cut = _Counters(), False
    while block := file.read(stride * _AT_ONCE):
        if rest := len(block) % stride:
            block = block[:-rest]
            is_cut = True
        if block:
            counters.take(
                np.frombuffer(block, np.uint8).reshape(-1, stride)[:, lead : lead + _PACKET]
            )
    return CUT if is_cut else counters.evidence()


class _Counters:
    """Looks at all packets, many at a time."""

    def __init__(self) -> None:
        self.bad = 0
        self.last: dict[int, int] = {}
        self.open_ended: dict[int, bool] = {}  # is the part begun last a picture of unknown length?
        self.full: dict[int, bool] = {}
        self.parts: dict[int, bool] = {}  # does it hold parts, not tables?

    def take(self, packets: NDArray[np.uint8]) -> None:
        header = packets[:, :6].astype(np.int64)
        lost = (header[:, 0] != _SYNC) | (header[:, 1] & 0x80 > 0)
        self.bad += int(lost.sum())
        packets, header = packets[~lost], header[~lost]
        pids = (header[:, 1] & 0x1F) << 8 | header[:, 2]
        for pid in np.unique(pids[pids != _NO_PID]).tolist():
            self._count(pid, packets[pids == pid], header[pids == pid])

    def _count(self, pid: int, packets: NDArray[np.uint8], header: NDArray[np.int64]) -> None:
        counts = header[:, 3] & 15
        has_payload, has_more = header[:, 3] & 0x10 > 0, header[:, 3] & 0x20 > 0
        is_restart = has_more & (header[:, 4] > 0) & (header[:, 5] & 0x80 > 0)
        before = np.concatenate([[self.last.get(pid, (counts[0] - has_payload[0]) % 16)], counts])
        steps = np.diff(before) % 16
        # The same packet may be sent twice.
        self.bad += int(((steps != has_payload) & (steps != 0) & ~is_restart).sum())
        self.last[pid] = int(counts[-1])
        self._look_at_ends(pid, packets, header, has_payload, has_more)

    def _look_at_ends(
        self,
        pid: int,
        packets: NDArray[np.uint8],
        header: NDArray[np.int64],
        has_payload: NDArray[np.bool_],
        has_more: NDArray[np.bool_],
    ) -> None:
        begins = np.flatnonzero((header[:, 1] & 0x40 > 0) & has_payload)
        if len(begins):
            packet = packets[begins[-1]]
            at = 4 + (1 + int(packet[4]) if has_more[begins[-1]] else 0)
            head = packet[at : at + 6].tolist()
            # A part of a picture (0xE0 to 0xEF) without a length of its own.
            is_open = (
                head[:3] == [0, 0, 1] and 0xE0 <= (head + [0] * 4)[3] <= 0xEF and not any(head[4:])
            )
            self.open_ended[pid] = is_open
            self._count_broken(pid, packets[begins], header[begins], has_more[begins])
        self.full[pid] = bool(self.open_ended.get(pid) and has_payload[-1] and not has_more[-1])

    def _count_broken(
        self,
        pid: int,
        packets: NDArray[np.uint8],
        header: NDArray[np.int64],
        has_more: NDArray[np.bool_],
    ) -> None:
        """Parts (pictures, sound) begin with 0, 0, 1; tables (of which most begin otherwise) do not."""
        places = np.minimum(4 + np.where(has_more, 1 + header[:, 4], 0), _PACKET - 3)
        rows = np.arange(len(packets))
        starts = np.stack([packets[rows, places + k] for k in range(3)], axis=1)
        fits = (starts == [0, 0, 1]).all(axis=1)
        seen = self.parts.setdefault(pid, bool(fits[0]))
        if seen:
            self.bad += int((~fits).sum())

    def evidence(self) -> Evidence:
        if self.bad:
            return Evidence(damage=f"{self.bad} of its packets are missing or damaged")
        if any(self.full.values()):
            return Evidence(damage="it may be cut: its last packet is full")
        return WHOLE


def programme_stream(file: BinaryIO, size: int) -> Evidence:
    """MPEG-PS (.mpg, .vob): packs and packets with lengths."""
    position = 0
    for _ in range(MOST_STEPS):
        if position >= size:
            break
        file.seek(position)
        head = file.read(14)
        if head[:3] != b"\0\0\x01"[: len(head)]:
            if not head.strip(b"\0") and not _rest_of(file):
                return WHOLE  # filled up with zeros
            return Evidence(damage="its packets do not follow each other")
        if len(head) < 6:
            return WHOLE if head[3:] == b"\xb9" else CUT
        if head[3] == 0xB9:
            position += 4
        elif head[3] == 0xBA:
            is_mpeg2 = head[4] >> 6 == 1
            position += 14 + (head[13] & 7 if len(head) == 14 else 0) if is_mpeg2 else 12
        elif head[3] >= 0xBB:
            position += 6 + int.from_bytes(head[4:6], "big")
        else:
            return Evidence(damage="its packets do not follow each other")
    return CUT if position > size else WHOLE


def _rest_of(file: BinaryIO) -> bool:
    """Is there anything but zeros?"""
    while block := file.read(1 << 20):
        if block.strip(b"\0"):
            return True
    return False


_LAST_PAGE = 4


def ogg(file: BinaryIO, size: int) -> Evidence:
    """Pages; the last of each stream is marked. (FFmpeg looks at their checksums.)"""
    ended: dict[int, bool] = {}
    position = 0
    for _ in range(MOST_STEPS):
        if position >= size:
            return WHOLE if all(ended.values()) else CUT
        file.seek(position)
        head = file.read(27)
        if len(head) < 27:
            return CUT
        if head[:4] != b"OggS":
            return Evidence(damage="its pages do not follow each other")
        (serial,) = struct.unpack("<I", head[14:18])
        ended[serial] = bool(head[5] & _LAST_PAGE)
        table = file.read(head[26])
        position += 27 + head[26] + sum(table)
        if position > size:
            return CUT
    return WHOLE
