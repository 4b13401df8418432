"""Small capital letters for labels in pictures, without a font file."""

from __future__ import annotations

from functools import cache

import numpy as np

from wmreward.video.types import UInt8Array

_GLYPHS = {
    "0": "75557",
    "1": "26227",
    "2": "71747",
    "3": "71717",
    "4": "55711",
    "5": "74717",
    "6": "74757",
    "7": "71122",
    "8": "75757",
    "9": "75717",
    "A": "25755",
    "B": "65656",
    "C": "34443",
    "D": "65556",
    "E": "74647",
    "F": "74644",
    "G": "34553",
    "H": "55755",
    "I": "72227",
    "J": "11152",
    "K": "55655",
    "L": "44447",
    "M": "57755",
    "N": "65555",
    "O": "25552",
    "P": "65644",
    "Q": "25563",
    "R": "65655",
    "S": "34216",
    "T": "72222",
    "U": "55557",
    "V": "55552",
    "W": "55775",
    "X": "55255",
    "Y": "55222",
    "Z": "71247",
    " ": "00000",
    ".": "00002",
    ",": "00024",
    ":": "02020",
    "-": "00700",
    "+": "02720",
    "_": "00007",
    "/": "11244",
    "=": "07070",
    "%": "51245",
    "(": "12221",
    ")": "42224",
    "#": "57575",
    "*": "05250",
    "|": "22222",
    "'": "22000",
    "!": "22202",
    "?": "71202",
}
"""Five rows of three pixels each, a row as an octal digit."""

HEIGHT, ADVANCE = 5, 4


@cache
def _glyph(character: str) -> UInt8Array:
    rows = _GLYPHS.get(character.upper(), _GLYPHS["?"])
    return np.array([[int(row) >> 2 - column & 1 for column in range(3)] for row in rows], np.uint8)


def text_width(text: str, scale: int) -> int:
    """Pixels that a line takes."""
    return len(text) * ADVANCE * scale


def draw_text(
    picture: UInt8Array,
    text: str,
    top: int,
    left: int,
    scale: int = 2,
    color: tuple[int, int, int] = (255, 255, 255),
) -> None:
    """Write one line into ``picture [H, W, 3]``, ``5 · scale`` pixels high; what does not fit is cut off."""
    for position, character in enumerate(text):
        shape = _glyph(character).repeat(scale, axis=0).repeat(scale, axis=1).astype(bool)
        x = left + position * ADVANCE * scale
        place = picture[top : top + HEIGHT * scale, x : x + 3 * scale]
        place[shape[: place.shape[0], : place.shape[1]]] = color
