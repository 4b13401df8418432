"""Tables of comma-separated values that others wrote, within limits."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from wmfiles.json_text import line_of
from wmfiles.opening import Refusal
from wmfiles.text import read_text, short

MOST_COLUMNS = 1000


class CSVError(ValueError):
    """What is wrong with a table.

    Attributes:
        line: Where, counted from 1.
        is_open: Whether the table just ends within quotes.
    """

    def __init__(self, line: int, reason: str, is_open: bool = False) -> None:
        super().__init__(line, reason, is_open)
        self.line, self.reason, self.is_open = line, reason, is_open

    def __str__(self) -> str:
        return self.reason


def parse_csv(lines: Iterable[str]) -> Iterator[tuple[int, list[str]]]:
    """Rows with the number of the line that each ends in; blank lines are passed over.

    Args:
        lines: With their ends.

    Raises:
        CSVError: quotes that do not end, or text behind them; a cell of absurd length.
    """
    reader = csv.reader(lines, strict=True)
    while True:
        begun = reader.line_num + 1
        try:
            row = next(reader, None)
        except csv.Error as error:
            is_open = "unexpected end" in str(error)
            raise CSVError(begun, _in_words(str(error)), is_open) from None
        if row is None:
            return
        if len(row) > MOST_COLUMNS:
            raise CSVError(begun, f"{len(row)} columns")
        if row:
            yield reader.line_num, row


def csv_rows(
    path: str | os.PathLike[str], *, needs: Iterable[str] = (), refuse: Refusal
) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows of a table with a head line, by column, with the number of the line that each ends in.

    Args:
        path: The file.
        needs: Columns that must be there.
        refuse: Makes the error; where a line is wrong, the path it gets ends in ``, line N``.
    """
    path = Path(path)
    rows = parse_csv(io.StringIO(read_text(path, refuse=refuse), newline=""))
    try:
        _, head = next(rows, (1, []))
        if missing := [name for name in needs if name not in head]:
            named = ", ".join(map(repr, missing))
            raise CSVError(1, f"the head of the table names no column {named}")
        if len(set(head)) < len(head):
            twice = next(name for name in head if head.count(name) > 1)
            raise CSVError(1, f"two columns are called {short(twice)}")
        for number, row in rows:
            if len(row) != len(head):
                raise CSVError(number, f"{len(row)} columns where the head names {len(head)}")
            yield number, dict(zip(head, row, strict=True))
    except CSVError as error:
        raise refuse(line_of(path, error.line), error.reason) from None


def _in_words(reason: str) -> str:
    if "field limit" in reason or "field larger" in reason:
        return f"a cell of more than {csv.field_size_limit()} characters"
    if "unexpected end" in reason:
        return "a quote opens here that is never closed"
    if "expected after" in reason:
        return "text follows a closing quote (a quote within a cell is written twice)"
    return f"not comma-separated values ({reason})"
