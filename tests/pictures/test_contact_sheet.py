"""Contact sheets and the words in them."""

from __future__ import annotations

import numpy as np
import pytest

from wmreward.errors import UsageError
from wmreward.pictures.contact_sheet import SheetRow, contact_sheet
from wmreward.pictures.text import draw_text, line_height, shortened, text_width


def test_sheets_of_videos_of_any_size() -> None:
    rng = np.random.default_rng(0)
    rows = [
        SheetRow("wide", "", rng.integers(0, 256, (3, 20, 80, 3), np.uint8), wins=True),
        SheetRow("tall", "0.3", rng.integers(0, 256, (5, 300, 100, 3), np.uint8)),
    ]
    plain, titled = contact_sheet(rows), contact_sheet(rows, title="a ball")
    assert plain.shape[2] == 3 and len(titled) > len(plain)
    assert (titled[-len(plain) :, : plain.shape[1]] == plain).all()
    with pytest.raises(UsageError):
        contact_sheet([])


def test_letters_are_told_apart_and_stay_in_the_picture() -> None:
    shapes = set()
    for character in "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz.,:-+=/()%#éжλ":
        picture = np.zeros((line_height(15), 20, 3), np.uint8)
        draw_text(picture, character, 0, 0, 15)
        assert picture.any()
        shapes.add(picture.tobytes())
    assert len(shapes) == 10 + 26 + 26 + 11 + 3
    picture = np.zeros((30, 40, 3), np.uint8)
    draw_text(picture, "too long for it", 12, 5, 15)
    assert picture.any() and not picture[:12].any() and not picture[:, :5].any()
    draw_text(picture, "outside", 40, 50, 15)
    draw_text(picture, "bytes \udcff that are no text", 0, 0, 15)


def test_long_lines_are_shortened_to_their_room() -> None:
    text = "a prompt that goes on and on"
    cut = shortened(text, 15, 100)
    assert cut.endswith("…") and text.startswith(cut[:-1]) and text_width(cut, 15) <= 100
    assert shortened("short", 15, 100) == "short"
