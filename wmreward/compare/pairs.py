"""Two files of scores, paired: by the same content, else by the same file name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePath

import numpy as np

from wmreward.errors import UsageError
from wmreward.records.scored import Record
from wmreward.tables.mean import Mean


@dataclass(frozen=True)
class Pair:
    """The surprise of one video in both files, or of the two videos of one name.

    Attributes:
        name: The file name.
        first, second: Surprise in the first and in the second file.
    """

    name: str
    first: float
    second: float

    @property
    def difference(self) -> float:
        """Below zero: the second is the more plausible."""
        return self.second - self.first


@dataclass(frozen=True)
class Comparison:
    """What two files of scores say of one another.

    Attributes:
        pairs: Those that both files have, in the order of the first.
        alone: How many records of each file have no partner.
        by: What pairs were found by: ``content`` or ``name``.
        same_settings: Whether one model with one set of settings gave all scores.
        first, second, difference: Means with their 95 % intervals; the difference is second − first, paired.
        lower: Share of pairs in which the second has the lower surprise; ties count half.
        rank_correlation: Spearman's, of the two orders; None for fewer than three pairs or constant scores.
    """

    pairs: list[Pair]
    alone: tuple[int, int]
    by: str
    same_settings: bool
    first: Mean
    second: Mean
    difference: Mean
    lower: float
    rank_correlation: float | None


def compare(first: Sequence[Record], second: Sequence[Record]) -> Comparison:
    """Pair two lists of records, as a file of scores holds them.

    The same videos scored twice (by two models, say) are found by their content; videos of the same name in
    two folders (plain and guided, say) by their names.

    Raises:
        UsageError: nothing pairs, or a name stands for several videos or settings in one file.
    """
    one, two = (
        [r for r in records if r.get("surprise") is not None] for records in (first, second)
    )
    by, keys = "content", _pairing(one, two, lambda record: record.get("video_sha256"))
    if not keys:
        by, keys = "name", _pairing(one, two, lambda record: PurePath(record["path"]).name)
    if not keys:
        raise UsageError(
            "the two files have no video in common, neither by content nor by file name"
        )
    pairs = [
        Pair(PurePath(ours["path"]).name, float(ours["surprise"]), float(theirs["surprise"]))
        for ours, theirs in keys
    ]
    differences = [pair.difference for pair in pairs]
    means = [
        Mean.of(values)
        for values in ([p.first for p in pairs], [p.second for p in pairs], differences)
    ]
    assert means[0] is not None and means[1] is not None and means[2] is not None
    settings = {record.get("settings_id") for pair in keys for record in pair}
    return Comparison(
        pairs=pairs,
        alone=(len(one) - len(pairs), len(two) - len(pairs)),
        by=by,
        same_settings=len(settings) == 1,
        first=means[0],
        second=means[1],
        difference=means[2],
        lower=float(np.mean([(d < 0) + 0.5 * (d == 0) for d in differences])),
        rank_correlation=_spearman([p.first for p in pairs], [p.second for p in pairs]),
    )


def _pairing(
    one: Sequence[Record], two: Sequence[Record], key: Callable[[Record], str | None]
) -> list[tuple[Record, Record]]:
    """Records with the same key, in the order of the first."""
    theirs = _by_key(two, key)
    ours = _by_key(one, key)
    common = [name for name in ours if name in theirs]
    for name in common:
        for records in (ours[name], theirs[name]):
            if len(records) > 1:
                raise UsageError(
                    f"{records[0]['path']}: its file has {len(records)} records of it "
                    "(other settings, or videos of the same name): keep one kind in a file"
                )
    return [(ours[name][0], theirs[name][0]) for name in common]


def _by_key(
    records: Sequence[Record], key: Callable[[Record], str | None]
) -> dict[str, list[Record]]:
    found: dict[str, list[Record]] = {}
    for record in records:
        if name := key(record):
            found.setdefault(name, []).append(record)
    return found


def _spearman(first: Sequence[float], second: Sequence[float]) -> float | None:
    if len(first) < 3:
        return None
    ours, theirs = _ranks(np.asarray(first)), _ranks(np.asarray(second))
    if not np.ptp(ours) or not np.ptp(theirs):
        return None
    return float(np.corrcoef(ours, theirs)[0, 1])


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 0; equal values share their mean rank."""
    _, group, sizes = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(sizes) - 1
    return (last - (sizes - 1) / 2)[group]
