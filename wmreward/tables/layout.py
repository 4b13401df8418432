"""Rows of text as a table: aligned for a terminal, or for a paper, a page or a spreadsheet."""

from __future__ import annotations

import csv
import io
import unicodedata
from collections.abc import Sequence
from typing import Literal, get_args

from wmreward.errors import UsageError

Format = Literal["text", "markdown", "csv", "latex"]
FORMATS: tuple[Format, ...] = get_args(Format)

_LATEX = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
}


def render(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    form: Format = "text",
    *,
    words: Sequence[int] = (0,),
) -> str:
    """One table, without a line end behind it.

    Args:
        header: Names of the columns.
        rows: As many cells each.
        form: ``text`` (aligned columns), ``markdown``, ``csv`` or ``latex`` (needs the package booktabs).
        words: Columns of words, which stand at the left; the others are numbers and stand at the right.

    Raises:
        UsageError: an unknown format.
    """
    if form not in FORMATS:
        raise UsageError(f"unknown format {form!r}: choose one of {', '.join(FORMATS)}")
    left = [column in words for column in range(len(header))]
    lines = [tuple(header), *(tuple(row) for row in rows)]
    if form == "csv":
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(lines)
        return text.getvalue().rstrip("\n")
    if form == "latex":
        return _latex(lines, left)
    if form == "markdown":
        lines = [tuple(_in_markdown(cell) for cell in line) for line in lines]
    aligned = _aligned(lines, left)
    if form == "text":
        return "\n".join("  ".join(line).rstrip() for line in aligned)
    widths = [shown_width(cell) for cell in aligned[0]]
    rule = [
        "-" * width if is_left else "-" * max(1, width - 1) + ":"
        for width, is_left in zip(widths, left, strict=True)
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in (aligned[0], rule, *aligned[1:]))


def _aligned(lines: Sequence[Sequence[str]], left: Sequence[bool]) -> list[list[str]]:
    widths = [max(map(shown_width, column)) for column in zip(*lines, strict=True)]
    return [
        [
            _padded(cell, width, is_left)
            for cell, width, is_left in zip(line, widths, left, strict=True)
        ]
        for line in lines
    ]


def _padded(cell: str, width: int, is_left: bool) -> str:
    blank = " " * (width - shown_width(cell))
    return cell + blank if is_left else blank + cell


def shown_width(text: str) -> int:
    """Columns of a terminal that ``text`` takes.

    Wide letters and signs take two, marks that join the letter before take none.

    Source: Unicode Standard Annex 11, East Asian Width.
    """
    if text.isascii():
        return len(text)
    return sum(
        0
        if unicodedata.category(letter) in ("Mn", "Me", "Cf")
        else 1 + (unicodedata.east_asian_width(letter) in "WF")
        for letter in text
    )


def _in_markdown(cell: str) -> str:
    return cell.replace("\\", "\\\\").replace("|", "\\|")


def _latex(lines: Sequence[Sequence[str]], left: Sequence[bool]) -> str:
    def line(cells: Sequence[str]) -> str:
        shown = ("".join(_LATEX.get(letter, letter) for letter in cell) for cell in cells)
        return f"{' & '.join(shown)} \\\\"

    columns = "".join("l" if is_left else "r" for is_left in left)
    return "\n".join(
        [
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            line(lines[0]),
            r"\midrule",
            *map(line, lines[1:]),
            r"\bottomrule",
            r"\end{tabular}",
        ]
    )
