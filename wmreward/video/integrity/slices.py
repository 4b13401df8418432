"""Rows of MPEG-1 and MPEG-2 pictures that are missing at their ends: FFmpeg passes over that in silence."""

from __future__ import annotations

import re
from collections import Counter

CODECS = {"mpeg1video", "mpeg2video"}

# ISO/IEC 13818-2, 6.2.1: the beginning of a picture, of its extensions, and of its slices by their rows.
_START = re.compile(rb"\x00\x00\x01([\x00-\xaf\xb5])", re.DOTALL)
_PICTURE, _EXTENSION, _OF_CODING = 0x00, 0xB5, 8
_FRAME = 3


class Slices:
    """The last rows of pictures; those of frames and those of fields differ."""

    def __init__(self) -> None:
        self._frames: Counter[int] = Counter()
        self._fields: Counter[int] = Counter()

    def add(self, packet: bytes) -> None:
        """A packet, which holds a picture, or one for each field."""
        last, counted = 0, self._frames
        for found in _START.finditer(packet):
            code = found[1][0]
            if code == _PICTURE:
                counted[last] += 1
                last, counted = 0, self._frames
            elif code == _EXTENSION:
                coding = packet[
                    found.end() : found.end() + 3
                ]  # 6.2.3.1: the third ends in the structure
                if len(coding) == 3 and coding[0] >> 4 == _OF_CODING and coding[2] & 3 != _FRAME:
                    counted = self._fields
            else:
                last = max(last, code)
        counted[last] += 1

    @property
    def num_short(self) -> int:
        """Pictures that end before the most of their kind do."""
        return sum(map(_short, (self._frames, self._fields)))


def _short(pictures: Counter[int]) -> int:
    pictures = Counter({last: count for last, count in pictures.items() if last})
    usual = max(pictures, key=pictures.__getitem__, default=0)
    return sum(count for last, count in pictures.items() if last < usual)
