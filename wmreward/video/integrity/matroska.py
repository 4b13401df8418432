"""Matroska and WebM: elements with sizes, some of them with checksums."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import BinaryIO

from wmreward.video.integrity.evidence import CUT, MOST_STEPS, WHOLE, Evidence

_EBML, _SEGMENT, _CLUSTER = 0x1A45DFA3, 0x18538067, 0x1F43B675
_INFO, _TAGS = 0x1549A966, 0x1254C367
_TOP = {
    *(_EBML, _SEGMENT, _CLUSTER),
    *(_INFO, _TAGS, 0x114D9B74, 0x1654AE6B, 0x1C53BB6B, 0x1941A469, 0x1043A770),
    *(0xEC, 0xBF),  # void and checksum may stand anywhere
}
_IN_CLUSTER = {0xE7, 0xA7, 0xAB, 0xA3, 0xA0, 0xAF, 0x5854, 0xEC, 0xBF}

_CHECKSUM = b"\xbf\x84"  # the element's id and its size, 4


def matroska(file: BinaryIO, size: int) -> Evidence:
    """Walk the segment. Live recordings leave sizes open: then their blocks are walked instead."""
    wrong = lost = 0
    segment_end = 0
    for _ in range(MOST_STEPS):
        start = file.tell()
        if start >= size:
            break
        name, length = _read_id(file), _read_size(file)
        if name is None or length is None:
            if file.tell() >= size:
                return CUT
            return Evidence(damage="its elements do not follow each other")
        if name not in _TOP | _IN_CLUSTER:
            return Evidence(cut=segment_end > size, damage="its elements do not follow each other")
        end = file.tell() + length
        if name == _SEGMENT:
            segment_end = 0 if length < 0 else end
            if segment_end > size:
                return CUT
            continue
        if length < 0:  # an open cluster: its blocks come next
            continue
        if end > size:
            return CUT
        if name in _TOP and name != _TAGS:  # titles and the like do not matter
            wrong += not (
                _checksum_fits(file, end) or (name == _INFO and _has_old_title(file, end))
            )
        if name == _CLUSTER:
            lost += not _tiles(file, end)
        file.seek(end)
    if wrong:
        return Evidence(damage=f"{wrong} of its checksums are wrong")
    return Evidence(damage="its blocks do not follow each other") if lost else WHOLE


def _checksum_fits(file: BinaryIO, end: int) -> bool:
    """Is the checksum at the beginning of an element right, if there is one? The file stays where it is."""
    start = file.tell()
    fits = True
    if end - start >= 6 and file.read(2) == _CHECKSUM:
        stated, found = int.from_bytes(file.read(4), "little"), 0
        while left := end - file.tell():
            block = file.read(min(left, 1 << 20))
            if not block:
                break
            found = zlib.crc32(block, found)
        fits = stated == found
    file.seek(start)
    return fits


_TITLE = b"\x7b\xa9"


def _has_old_title(file: BinaryIO, end: int) -> bool:
    """Is the title not UTF-8? Then it was written by something that knows no checksums either."""
    start = file.tell()
    data = file.read(min(end - start, 1 << 16))
    file.seek(start)
    at = data.find(_TITLE) + len(_TITLE)
    if at < len(_TITLE) or at >= len(data):
        return False
    length = data[at] & 0x7F  # longer titles have longer lengths, and more bytes to tell by
    try:
        data[at + 1 : at + 1 + length].decode("utf-8")
    except UnicodeDecodeError:
        return True
    return False


def _tiles(file: BinaryIO, end: int) -> bool:
    """Do the elements of a cluster end where it ends?"""
    while file.tell() < end:
        name, length = _read_id(file), _read_size(file)
        if name not in _IN_CLUSTER or length is None or not 0 <= length <= end - file.tell():
            return False
        file.seek(length, 1)
    return file.tell() == end


def elements(file: BinaryIO, position: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Id, begin and end of the content of each element, up to one of unknown size or at the end."""
    for _ in range(MOST_STEPS):
        if position >= end:
            return
        file.seek(position)
        name, length = _read_id(file), _read_size(file)
        if name is None or length is None:
            return
        start = file.tell()
        position = end if length < 0 else start + length
        yield name, start, min(position, end)


def _read_id(file: BinaryIO) -> int | None:
    first = file.read(1)
    if not first or first[0] < 0x10:
        return None
    rest = file.read(8 - first[0].bit_length())
    return int.from_bytes(first + rest, "big")


def _read_size(file: BinaryIO) -> int | None:
    """The number of leading zero bits gives its length; all ones mean unknown, given as -1."""
    first = file.read(1)
    if not first or not first[0]:
        return None
    length = 9 - first[0].bit_length()
    rest = file.read(length - 1)
    if len(rest) < length - 1:
        return None
    value = int.from_bytes(first + rest, "big") & ((1 << 7 * length) - 1)
    return -1 if value == (1 << 7 * length) - 1 else value
