"""Whether videos that are compared with one another were seen at the same frame rate."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

TOLERANCE = 0.05
"""24 and 25 frames a second are the same to a world model, 24 and 30 are not."""


def rates_differ(records: Iterable[Mapping[str, Any]]) -> str | None:
    """At which frame rates videos were seen, in words, if not all at about the same; else None.

    Args:
        records: Of scored videos. What holds no ``effective_fps``, as that of a video without a clock, has no
            part in it.
    """
    rates = [rate for record in records if (rate := record.get("effective_fps"))]
    if not rates or max(rates) <= min(rates) * (1 + TOLERANCE):
        return None
    return f"{min(rates):.4g} to {max(rates):.4g} frames a second"


def lowest_source_rate(records: Iterable[Mapping[str, Any]]) -> float | None:
    """That of the slowest file: at higher rates its frames would come twice."""
    return min((rate for record in records if (rate := record.get("source_fps"))), default=None)


def rates_note(
    records: Iterable[Mapping[str, Any]], who: str = "the videos were", how: str = "--rates F"
) -> str | None:
    """One line if videos that are ranked were not seen at the same rate; else None.

    Args:
        records: Of the videos.
        who: Begins the sentence.
        how: What makes them alike.
    """
    records = list(records)
    if (differ := rates_differ(records)) is None:
        return None
    slowest = lowest_source_rate(records)
    most = "" if slowest is None else f", with F up to {slowest:.4g}"
    return (
        f"note: {who} not seen at the same rate ({differ}), so that their scores do not compare well; "
        f"{how} shows all at the same{most}"
    )
