"""Lines of text in pictures that are arrays."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from wmfiles import printable
from wmreward.pictures.colors import INK
from wmreward.video.types import UInt8Array

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont


@cache
def _font(size: int) -> FreeTypeFont:
    # The font that Matplotlib brings along has Latin, Greek and Cyrillic letters.
    import matplotlib
    from PIL import ImageFont

    return ImageFont.truetype(
        str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), size
    )


def line_height(size: int) -> int:
    """Pixels between the tops of two lines of text."""
    return -(-size * 4 // 3)


def text_width(text: str, size: int) -> int:
    """Pixels that a line takes."""
    return int(np.ceil(_font(size).getlength(printable(text))))


def shortened(text: str, size: int, width: int) -> str:
    """The line, or as much of its beginning as ``width`` pixels hold, with an ellipsis."""
    if text_width(text, size) <= width:
        return text
    while text and text_width(text + "…", size) > width:
        text = text[:-1]
    return text + "…"


def draw_text(
    picture: UInt8Array,
    text: str,
    top: int,
    left: int,
    size: int,
    color: tuple[int, int, int] = INK,
) -> None:
    """Write one line into ``picture [H, W, 3]``, ``size`` pixels high; what does not fit is cut off."""
    from PIL import Image, ImageDraw

    place = picture[top : top + line_height(size), left:]
    if not place.size:
        return
    image = Image.fromarray(np.ascontiguousarray(place))
    ImageDraw.Draw(image).text((0, 0), printable(text), font=_font(size), fill=color)
    place[:] = np.asarray(image)
