"""Two files of scores, paired: by the same content, else by the same file name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import numpy as np

from wmreward.errors import UsageError
from wmreward.records.rates import rates_differ
from wmreward.records.scored import NOT_DECISIVE, Record
from wmreward.tables.mean import Mean

LEAST_PAIRS = 6
"""Of fewer, even pairs that all agree are chance in more than 5 % of cases (sign test, 2 · 2⁻ⁿ)."""

LEAST_RANKED = 5
"""Of fewer, even the same order twice is chance in more than 5 % of cases (two-sided, 2 / n!)."""


@dataclass(frozen=True)
class Pair:
    """The surprise of one video in both files, or of the two videos of one name.

    Attributes:
        name: The file name.
        first, second: Surprise in the first and in the second file.
        rates: The two frame rates at which they were seen, in words, where those differ.
    """

    name: str
    first: float
    second: float
    rates: str | None = None

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
        first, second: Means with their 95 % intervals.
        difference: Likewise of second − first, paired; None for scores of different models or settings, which
            are on different scales.
        lower: Share of pairs in which the second has the lower surprise; ties count half. None likewise.
        rank_correlation: Spearman's, of the two orders; None for fewer than three pairs or constant scores.
    """

    pairs: list[Pair]
    alone: tuple[int, int]
    by: str
    same_settings: bool
    first: Mean
    second: Mean
    difference: Mean | None
    lower: float | None
    rank_correlation: float | None

    @property
    def all_equal(self) -> bool:
        """Whether no pair differs."""
        return all(pair.difference == 0 for pair in self.pairs)

    @property
    def can_tell(self) -> bool:
        """Whether there are enough pairs to tell a difference from chance."""
        return len(self.pairs) >= LEAST_PAIRS


def compare(
    first: Sequence[Record], second: Sequence[Record], names: tuple[str, str] = ("A", "B")
) -> Comparison:
    """Pair two lists of records, as a file of scores holds them.

    The same videos scored twice (by two models, say) are found by their content; videos of the same name in
    two folders (plain and guided, say) by their names.

    Args:
        first, second: The records.
        names: Of their files, for messages.

    Raises:
        UsageError: a file holds no scores, nothing pairs, or a name stands for several videos or settings
            in one file.
    """
    one, two = (
        [r for r in records if r.get("surprise") is not None] for records in (first, second)
    )
    for name, records, scored in zip(names, (first, second), (one, two), strict=True):
        if not scored:
            raise UsageError(f"{name}: {_no_scores(records)}; wmreward score --output writes them")
    by, keys = "content", _pairing(one, two, names, lambda record: record.get("video_sha256"))
    if not keys:
        by, keys = "name", _pairing(one, two, names, lambda record: PurePath(record["path"]).name)
    if not keys:
        raise UsageError(
            "the two files have no video in common, neither by content nor by file name"
        )
    pairs = [
        Pair(
            PurePath(ours["path"]).name,
            float(ours["surprise"]),
            float(theirs["surprise"]),
            rates_differ((ours, theirs)),
        )
        for ours, theirs in keys
    ]
    ours, theirs = [pair.first for pair in pairs], [pair.second for pair in pairs]
    mean, other = Mean.of(ours), Mean.of(theirs)
    assert mean is not None and other is not None
    alike = len({record.get("settings_id") for pair in keys for record in pair}) == 1
    differences = [pair.difference for pair in pairs] if alike else []
    return Comparison(
        pairs=pairs,
        alone=(len(one) - len(pairs), len(two) - len(pairs)),
        by=by,
        same_settings=alike,
        first=mean,
        second=other,
        difference=Mean.of(differences),
        lower=float(np.mean([(d < 0) + 0.5 * (d == 0) for d in differences])) if alike else None,
        rank_correlation=_spearman(ours, theirs),
    )


def _pairing(
    one: Sequence[Record],
    two: Sequence[Record],
    names: tuple[str, str],
    key: Callable[[Record], str | None],
) -> list[tuple[Record, Record]]:
    """Records with the same key, in the order of the first."""
    theirs = _by_key(two, key)
    ours = _by_key(one, key)
    common = [name for name in ours if name in theirs]
    for name in common:
        for file, records in zip(names, (ours[name], theirs[name]), strict=True):
            if len(records) > 1:
                raise UsageError(_several(file, records))
    return [(ours[name][0], theirs[name][0]) for name in common]


def _no_scores(records: Sequence[Record]) -> str:
    """What a file holds instead of scores."""
    if any("scores" in record for record in records):
        return "holds what wmreward select judged, not scores"
    return "holds no scores" if not records else "holds no surprise of any video"


def _several(file: str, records: Sequence[Record]) -> str:
    """What is wrong with a file in which several records would be the partner of one."""
    paths = list(dict.fromkeys(record["path"] for record in records))
    count = f"{file} has {len(records)} records"
    if len({record.get("settings_id") for record in records}) == 1:
        shown = " and ".join(paths[:2])
        return f"{count} that pair as one video, {shown}: keep one of them in a file"
    settings = [_plain(record.get("settings") or {}) for record in records]
    differ = [
        f"{name} {' and '.join(dict.fromkeys(str(own.get(name)) for own in settings))}"
        for name in dict.fromkeys(name for own in settings for name in own)
        if len({str(own.get(name)) for own in settings}) > 1
    ]
    told = f" ({'; '.join(differ)})" if differ else ""
    return (
        f"{count} of {paths[0]} by different settings{told}: keep one kind in a file, by --output "
        "under another name"
    )


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that decide a score, those of sampling among the others."""
    flat = {**settings, **settings.get("sampling", {})}
    return {key: value for key, value in flat.items() if key not in {*NOT_DECISIVE, "sampling"}}


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
