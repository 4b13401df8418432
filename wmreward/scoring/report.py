"""What people read of a run: the table, and the few lines beside it."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from wmreward.records.scored import Record, to_json
from wmreward.tables.layout import Format, render

PATH_WIDTH = 60
SPEED_TOLERANCE = 0.05


@dataclass(frozen=True)
class Row:
    """What became of one video.

    Attributes:
        path: The video.
        record: Its record, if it was scored.
        error: Else the reason, one line.
        was_known: Whether an earlier run had scored it.
    """

    path: Path
    record: Record | None = None
    error: str | None = None
    was_known: bool = False

    def json_line(self) -> str:
        if self.record is None:
            return to_json({"path": str(self.path), "error": self.error})
        return to_json(self.record)


def table(rows: Sequence[Row], form: Format = "text") -> str:
    """A row for each video in the order given; as text, the most plausible of several below."""
    names = short_names([row.path for row in rows])
    cells = [("video", "surprise", "windows", "effective fps")]
    for name, row in zip(names, rows, strict=True):
        if row.record is None:
            cells.append((name, "failed", "-", "-"))
            continue
        rate = row.record["effective_fps"]
        cells.append(
            (
                name,
                f"{row.record['surprise']:.6f}",
                str(row.record["num_windows"]),
                "-" if rate is None else f"{rate:.2f}",
            )
        )
    lines = [render(cells[0], cells[1:], form)]
    scored = [
        (row.record["surprise"], name) for name, row in zip(names, rows, strict=True) if row.record
    ]
    if len(scored) > 1 and form == "text":
        least = min(scored)[0]
        best = [name for surprise, name in scored if surprise == least]
        lines += ["", f"most plausible: {best[0]}{equals(len(best) - 1)}"]
    return "\n".join(lines)


def equals(count: int) -> str:
    """What follows the name of a winner that ``count`` others equal."""
    return f" ({count} more {'is' if count == 1 else 'are'} equal)" * (count > 0)


def short_names(paths: Sequence[Path]) -> list[str]:
    """Paths below their common folder, of bounded length, fit for any terminal."""
    folders = {str(path.parent) for path in paths}
    if len({path.is_absolute() for path in paths}) == 1 and paths:
        common = os.path.commonpath(folders)
        texts = [os.path.relpath(path, common or ".") for path in paths]
    else:
        texts = [str(path) for path in paths]
    return [printable(_elided(text)) for text in texts]


def _elided(text: str) -> str:
    if len(text) <= PATH_WIDTH:
        return text
    return "…" + text[-(PATH_WIDTH - 1) :]


def printable(text: str) -> str:
    """A line fit for any terminal: what cannot be shown, or does something, is written out."""
    encoding = sys.stdout.encoding or "utf-8"
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    return text.encode(encoding, "backslashreplace").decode(encoding)


def rate_warning(records: Sequence[Record | None], *, asked: bool) -> str | None:
    """One line if videos were seen otherwise than they play.

    Args:
        records: Of the videos; None of one that failed.
        asked: Whether a rate was asked for, at which frames may have come twice. Else frames spread over the
            whole length, and things may move at another speed.
    """
    speeds = [
        record["source_fps"] / record["effective_fps"]
        for record in records
        if record and record.get("source_fps") and record.get("effective_fps")
    ]
    if asked:
        slow = sum(speed < 1 - SPEED_TOLERANCE for speed in speeds)
        who = "the video has" if len(records) == 1 else f"{slow} of {len(records)} videos have"
        told = (
            f"note: {who} fewer frames a second than was asked for, so that frames come twice: the surprise "
            "then means little; ask for a lower rate"
        )
        return told if slow else None
    changed = [speed for speed in speeds if abs(speed - 1) > SPEED_TOLERANCE]
    if not changed:
        return None
    low, high = f"{min(changed):.2f}", f"{max(changed):.2f}"
    how = f"{low} times" if low == high else f"{low} to {high} times"
    who = "the video was" if len(records) == 1 else f"{len(changed)} of {len(records)} videos were"
    return (
        f"note: {who} seen at {how} true speed, as --max_frames spreads over the whole length; "
        "--fps F keeps the true rate"
    )


def summary(rows: Sequence[Row]) -> str:
    """How many were scored, were known, failed."""
    known = sum(row.was_known for row in rows)
    failed = sum(row.record is None for row in rows)
    parts = [f"{len(rows) - known - failed} scored"]
    if known:
        parts.append(f"{known} already scored")
    if failed:
        parts.append(f"{failed} failed")
    return ", ".join(parts)
