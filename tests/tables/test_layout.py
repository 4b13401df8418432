"""Tables come out as each reader of theirs wants them."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest

from wmreward.errors import UsageError
from wmreward.tables.layout import render

HEADER, ROWS = ("video", "surprise"), [("a_b.mp4", "0.5"), ("c|d, 100%", "0.25")]


def test_text_is_aligned() -> None:
    assert render(HEADER, ROWS).splitlines() == [
        "video      surprise",
        "a_b.mp4         0.5",
        "c|d, 100%      0.25",
    ]


def test_markdown_escapes_its_own_signs() -> None:
    lines = render(HEADER, ROWS, "markdown").splitlines()
    assert lines[0] == "| video      | surprise |"
    assert lines[1] == "| ---------- | -------: |"
    assert lines[3] == r"| c\|d, 100% |     0.25 |"


def test_csv_can_be_read_back() -> None:
    text = render(HEADER, ROWS, "csv")
    assert list(csv.reader(io.StringIO(text))) == [list(HEADER), *map(list, ROWS)]


def test_latex_escapes_its_own_signs() -> None:
    lines = render(HEADER, [*ROWS, ("~\\^", "{1}")], "latex").splitlines()
    assert lines[0] == r"\begin{tabular}{lr}" and lines[-1] == r"\end{tabular}"
    assert r"a\_b.mp4 & 0.5 \\" in lines and r"c|d, 100\% & 0.25 \\" in lines
    assert r"\textasciitilde{}\textbackslash{}\textasciicircum{} & \{1\} \\" in lines


def test_an_unknown_format_is_named() -> None:
    wrong: Any = "html"
    with pytest.raises(UsageError, match=r"'html'.*markdown"):
        render(HEADER, ROWS, wrong)


def test_wide_letters_take_two_columns_of_a_terminal() -> None:
    lines = render(
        HEADER, [("視頻.mp4", "0.5"), ("e\u0301.mp4", "1.5"), ("🎬", "2.5")]
    ).splitlines()
    assert lines == [
        "video     surprise",
        "視頻.mp4       0.5",
        "e\u0301.mp4          1.5",
        "🎬             2.5",
    ]
    assert render(HEADER, [("視頻", "1")], "markdown").splitlines()[2] == "| 視頻  |        1 |"
