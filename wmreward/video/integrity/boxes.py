"""Containers whose parts state their sizes: does the last of them fit into the file?"""

from __future__ import annotations

import struct
import zlib
from typing import BinaryIO

from wmreward.video.integrity.evidence import CUT, MOST_STEPS, WHOLE, Evidence

_MP4_BOXES = {
    *(b"ftyp", b"moov", b"mdat", b"moof", b"free", b"skip", b"wide", b"sidx", b"uuid", b"meta"),
    *(b"styp", b"mfra", b"udta", b"emsg", b"prft", b"ssix", b"pnot", b"PICT"),
}


def mp4(file: BinaryIO, size: int) -> Evidence:
    """MP4, MOV, 3GP. Some cameras append data of their own: it may be anything, but no more boxes follow."""
    position = media = 0
    unknown = damaged = False
    for _ in range(MOST_STEPS):
        if position + 8 > size:
            break
        file.seek(position)
        length, name = struct.unpack(">I4s", file.read(8))
        if name in _MP4_BOXES:
            damaged |= unknown
        elif position == 0:
            return WHOLE  # something else
        else:
            unknown = True
        if length == 1:  # a 64-bit length follows
            length = int.from_bytes(file.read(8), "big")
        if unknown and (length < 8 or position + length > size):
            damaged |= _has_fragment(file)
            break
        if length < 8:  # 0: up to the end of the file
            position = size
            break
        position += length
        media += length - 8 if name == b"mdat" else 0
    if not unknown and position != size and position > 0:
        return CUT  # up to 7 bytes may be left of a box that was just begun
    damage = "one of its boxes is of an unknown kind" if damaged else ""
    return Evidence(damage=damage, media_bytes=media)


def _has_fragment(file: BinaryIO) -> bool:
    """Does another part of a fragmented file come later?"""
    before = b""
    while block := file.read(1 << 20):
        if any(name in before + block for name in (b"moof", b"mdat", b"mfra")):
            return True
        before = block[-3:]
    return False


def riff(file: BinaryIO, size: int) -> Evidence:
    """AVI (one RIFF chunk for each gigabyte) and WebP. Of an unfinished file the size is 0."""
    position = 0
    while position + 8 <= size:
        file.seek(position)
        name, length = struct.unpack("<4sI", file.read(8))
        if name != b"RIFF":
            return WHOLE  # something was appended
        if length in (0, 0xFFFFFFFF):
            return Evidence(damage="its header was never finished")
        position += 8 + length + length % 2
        # The byte that makes a length even is often left out at the end.
        if position - length % 2 > size:
            return CUT
    return WHOLE


def gif(file: BinaryIO, size: int) -> Evidence:
    """Blocks up to the semicolon; some writers pad with zeros."""
    header = file.read(13)
    if len(header) < 13:
        return CUT
    file.seek(_colours(header[10]), 1)
    num_frames = 0
    for _ in range(MOST_STEPS):
        kind = file.read(1)
        if kind == b";":
            is_end = not file.read().strip(b"\0\r\n")
            damage = "" if is_end else "its end comes before the end of the file"
            return Evidence(damage=damage, num_frames=num_frames)
        if kind == b"!":
            file.seek(1, 1)
        elif kind == b",":
            num_frames += 1
            description = file.read(9)
            file.seek(_colours(description[8]) + 1 if len(description) == 9 else 0, 1)
        elif kind:
            return Evidence(damage="its blocks do not follow each other")
        if not _pass_pieces(file, size):
            return CUT
    return WHOLE


def _pass_pieces(file: BinaryIO, size: int) -> bool:
    """Data comes in pieces of up to 255 bytes, the last of which is empty. Is it there?"""
    while (length := file.read(1)) and file.tell() <= size:
        if length == b"\0":
            return True
        file.seek(length[0], 1)
    return False


def _colours(flags: int) -> int:
    """Bytes of a colour table."""
    return 3 * (2 << (flags & 7)) if flags & 0x80 else 0


def flv(file: BinaryIO, size: int) -> Evidence:
    """Tags, each followed by its size; the first may state the size of the file.

    FFmpeg passes over tags of unknown kinds without a word.
    """
    start = file.read(4096)
    at = start.find(b"\0\x08filesize\0")
    if at >= 0 and len(start) >= at + 19:
        (stated,) = struct.unpack(">d", start[at + 11 : at + 19])
        if size < stated < 2**53:
            return CUT
    position = int.from_bytes(start[5:9], "big") + 4
    kinds: set[bytes] = set()
    codecs: set[int] = set()
    for _ in range(MOST_STEPS):
        if position >= size:
            break
        file.seek(position)
        tag = file.read(11)
        length = 11 + int.from_bytes(tag[1:4], "big")
        kinds.add(tag[:1])
        if tag[:1] == _FLV_PICTURE:
            codecs.add(_flv_codec(file.read(1)))
        position += length
        file.seek(position)
        before = file.read(4)
        position += 4
        if len(before) == 4 and int.from_bytes(before, "big") not in (0, length):
            return Evidence(damage="its tags do not follow each other")
    if position > size:
        return CUT
    has_sound = len(start) > 4 and start[4] & 4
    if kinds - _FLV_KINDS or (b"\x08" in kinds and not has_sound) or len(codecs) > 1:
        return Evidence(damage="one of its tags is of a kind that it does not announce")
    return WHOLE


_FLV_PICTURE = b"\x09"
_FLV_KINDS = {b"\x08", _FLV_PICTURE, b"\x0f", b"\x12"}  # sound, pictures, two kinds of data
_FLV_COMMAND = (
    5  # in place of the kind of a frame: there is no picture (FLV specification 10.1, E.4.3.1)
)


def _flv_codec(first: bytes) -> int:
    """The codec that a tag of a picture names; -1 if it holds none."""
    flags = int.from_bytes(first, "big")
    if flags & 0x80:  # an extension, which names the codec elsewhere
        return 0x80
    return -1 if flags >> 4 in (0, _FLV_COMMAND) else flags & 15


_ASF_FILE_PROPERTIES = b"\xa1\xdc\xab\x8cG\xa9\xcf\x11\x8e\xe4\0\xc0\x0c Se"


def asf(file: BinaryIO, size: int) -> Evidence:
    """WMV: the header states the size of the file, unless it was broadcast."""
    start = file.read(1 << 16)
    at = start.find(_ASF_FILE_PROPERTIES)
    properties = start[at + 24 : at + 24 + 80]
    if at < 0 or len(properties) < 68:
        return WHOLE
    (stated,) = struct.unpack("<Q", properties[16:24])
    is_broadcast = struct.unpack("<I", properties[64:68])[0] & 1
    if is_broadcast or stated in (0, size):
        return WHOLE
    return CUT if stated > size else Evidence(damage="it is longer than its header says")


def png(file: BinaryIO, size: int) -> Evidence:
    """Chunks with checksums up to IEND. A checksum that fails may be of a text, and only of that."""
    file.seek(8)
    for _ in range(MOST_STEPS):
        head = file.read(8)
        if len(head) < 8:
            return CUT
        length, name = struct.unpack(">I4s", head)
        if file.tell() + length + 4 > size:
            return CUT
        checksum = zlib.crc32(file.read(length), zlib.crc32(name))
        if file.read(4) != checksum.to_bytes(4, "big") and name[:1].isupper():
            return Evidence(damage="a checksum in it is wrong")
        if name == b"IEND":
            return WHOLE
    return WHOLE


def jpeg(file: BinaryIO, size: int) -> Evidence:
    """The end marker comes after the last start of a scan; phones append data of their own."""
    data = file.read()
    return WHOLE if data.rfind(b"\xff\xd9") > data.rfind(b"\xff\xda") else CUT


def bmp(file: BinaryIO, size: int) -> Evidence:
    """The header states the size of the file."""
    (stated,) = struct.unpack("<I", file.read(6)[2:6].ljust(4, b"\0"))
    return CUT if stated > size else WHOLE


def y4m(header: bytes, size: int, packet_size: int) -> Evidence:
    """Frames of one size without any count: the file ends with a whole one."""
    end = header.find(b"\n") + 1
    # Frames may have parameters of their own, which nobody writes.
    return CUT if end and packet_size and (size - end) % (len(b"FRAME\n") + packet_size) else WHOLE
