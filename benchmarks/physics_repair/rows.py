"""From measured candidates to the rows of the table: who is chosen, what that is worth, what it costs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from benchmarks.physics_repair.answers import HIGHER, MEASURES
from benchmarks.physics_repair.parts import Part
from benchmarks.physics_repair.scores import RULES, SEAM, sets
from benchmarks.shared import bootstrap
from benchmarks.shared.bootstrap import Estimate, Values

PLAIN, GUIDED, RANDOM_PICK = "plain", "guidance", "random pick"
COLUMNS = (
    *MEASURES[:3], "both", *MEASURES[3:], "plain", "excess", "second plain", "second excess",
)  # fmt: skip
GAPS = ("physics", "position", "motion", "union")
"""Columns whose gap between the mean candidate and the best one is shared out."""

CHOICES = (*RULES, SEAM, "consensus", "geometry", "rank-sum")
"""What a world model chooses by."""
SCEPTICS = {
    "sharpest": ("edges", True),
    "blurriest": ("edges", False),
    "stillest": ("energy", False),
}
"""Choices without a world model, besides the medoid: score, and whether the highest wins."""
ORACLES = ("physics", "position", "motion")


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        values: Of `COLUMNS` as far as known, [N, K] results per scene; `both` is the change of the
            distance of those objects that are found in both clips, this and a plain one.
        against: The same of plain candidates from the same seeds, or of all of them.
        candidates: How many plain ones its oracle chooses from.
        by_seed: The results are those of the seeds 0, 1, …, and `against` has the same.
        time: Seconds of one result over those of a plain one, or None if it is not generated.
        memory: The same of peak memory.
    """

    values: Values
    against: Values
    candidates: int
    by_seed: bool = False
    time: float | None = None
    memory: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Its estimates, and those of the paired differences to plain."""
        known = [name for name in COLUMNS if name in self.values]
        return {
            "values": {name: asdict(bootstrap.mean(self.values[name])) for name in known},
            "differences": {
                name: asdict(bootstrap.difference(self.values[name], self.against[name]))
                for name in known
            },
            "time": self.time,
            "memory": self.memory,
        }


def chosen(values: Values, rule: str, size: int) -> Tensor:
    """Indices [N, G] of the best candidates of sets of `size`, by a choice, a sceptic's, or an oracle."""
    if rule == "rank-sum":
        parts = (*(values[name] for name in RULES), -values[f"consensus@{size}"])
        score, highest = torch.stack([_ranks(part, size) for part in parts]).sum(dim=0), False
    elif rule in ("consensus", "geometry", "medoid"):
        score, highest = values[f"{rule}@{size}"], rule != "medoid"
    elif rule in SCEPTICS:
        name, highest = SCEPTICS[rule]
        score = values[name]
    else:
        score, highest = values[rule], rule in HIGHER
    grouped = score.unflatten(1, (-1, size))
    best = grouped.argmax(dim=2) if highest else grouped.argmin(dim=2)
    return best + size * torch.arange(grouped.shape[1])


def _ranks(score: Tensor, size: int) -> Tensor:
    """Rank of each candidate [N, S] in its set, 0 for the lowest; equal ones share the mean."""
    grouped = score.unflatten(1, (-1, size))
    below = (grouped.unsqueeze(3) > grouped.unsqueeze(2)).sum(dim=3)
    equal = (grouped.unsqueeze(3) == grouped.unsqueeze(2)).sum(dim=3)
    return (below + (equal - 1) / 2).flatten(1)


def found_in_both(own: Tensor, plain: Tensor, partners: Tensor) -> Tensor:
    """Change of the distance of objects that are found in both clips of a pair, [N, K].

    Args:
        own: Distances [N, K, T, C], NaN where not found.
        plain: Of the plain candidates, [N, S, T, C].
        partners: Which of them each of the K is compared with, [K, P].
    """
    change = own.unsqueeze(2) - plain[:, partners]
    return change.flatten(3).nanmean(dim=3).nanmean(dim=2)


def _row(values: Values, distance: Tensor, plain: Part, partners: Tensor, **about: Any) -> Row:
    both = found_in_both(distance, plain.distance, partners)
    against = plain.values | {"both": torch.zeros_like(plain.values["mse"])}
    return Row(values | {"both": both}, against, **about)


def part_row(part: Part, plain: Part) -> Row:
    """The mean of all results of a part: seed by seed if they were generated, else against all plain ones."""
    count, seeds = part.distance.shape[1], plain.distance.shape[1]
    size = max(sets(seeds), default=seeds)
    if part.seconds is None:
        return _row(part.values, part.distance, plain, torch.arange(seeds)[None], candidates=size)
    row = _row(
        part.values,
        part.distance,
        plain,
        torch.arange(count)[:, None],
        candidates=size,
        by_seed=True,
        time=part.seconds / plain.seconds if plain.seconds else None,
        memory=_memory(part, plain),
    )
    return replace(row, against={key: value[:, :count] for key, value in row.against.items()})


def pick_row(part: Part, plain: Part, rule: str, size: int) -> Row:
    """The best candidates of a part by a rule, out of sets of `size`."""
    index = chosen(part.values, rule, size)
    scenes = torch.arange(len(index))[:, None]
    seconds = (part.seconds or 0.0) + (part.scoring if rule in CHOICES else 0.0)
    return _row(
        {name: value[scenes, index] for name, value in part.values.items()},
        part.distance[scenes, index],
        plain,
        torch.arange(index.shape[1] * size).unflatten(0, (-1, size)),
        candidates=size,
        time=size * seconds / plain.seconds if plain.seconds else None,
        memory=_memory(part, plain),
    )


def _random_pick(plain: Part) -> Row:
    seeds = plain.distance.shape[1]
    return _row(
        {name: value[:, :1] for name, value in plain.values.items()},
        plain.distance[:, :1],
        plain,
        torch.arange(seeds)[None],
        candidates=max(sets(seeds), default=seeds),
        time=1.0,
        memory=_memory(plain, plain),
    )


def _memory(part: Part, plain: Part) -> float | None:
    return part.peak / plain.peak if part.peak and plain.peak else None


def build_rows(parts: Mapping[str, Part]) -> dict[str, Row]:
    """All rows that the parts made so far allow; the plain ones must be there."""
    plain, guided = parts[PLAIN], parts.get(GUIDED)
    sizes = sets(plain.distance.shape[1])
    rows = {name: part_row(part, plain) for name, part in parts.items() if part.seconds is None}
    rows[PLAIN] = part_row(plain, plain)
    rows[RANDOM_PICK] = _random_pick(plain)
    for size in sizes:
        for rule in _choices(plain, size):
            rows[f"best of {size} by {rule}"] = pick_row(plain, plain, rule, size)
    if guided:
        rows[GUIDED] = part_row(guided, plain)
        for size in sets(guided.distance.shape[1])[-1:]:
            for rule in _choices(guided, size):
                name = f"{GUIDED} + best of {size} by {rule}"
                rows[name] = pick_row(guided, plain, rule, size)
    for size in sizes[-1:]:
        for rule in ORACLES:
            rows[f"oracle of {size} by {rule}"] = pick_row(plain, plain, rule, size)
        for rule in (*SCEPTICS, "medoid"):
            rows[f"{rule} of {size}"] = pick_row(plain, plain, rule, size)
    others = (name for name in parts if name not in rows)
    return rows | {name: part_row(parts[name], plain) for name in others}


def _choices(part: Part, size: int) -> list[str]:
    """What its candidates can be chosen by: blocks that were made before there was geometry have none."""
    return [rule for rule in CHOICES if rule != "geometry" or f"{rule}@{size}" in part.values]


def gap_closed(row: Row, plain: Values, measure: str) -> Estimate:
    """How much of the way from the mean plain candidate to the best one of its set a row goes."""
    every = plain[measure]
    grouped = every.unflatten(1, (-1, row.candidates))
    best = grouped.amax(dim=2) if measure in HIGHER else grouped.amin(dim=2)
    mean = row.against[measure].double().nanmean(dim=1)
    gain = row.values[measure].double().nanmean(dim=1) - mean
    whole = best.double().nanmean(dim=1) - every.double().nanmean(dim=1)
    return bootstrap.ratio(gain, whole)


def comparisons(rows: Mapping[str, Row], rule: str) -> dict[str, dict[str, Any]]:
    """Paired differences between what should win and what it should beat.

    Args:
        rows: From `build_rows`.
        rule: The choice that was decided on beforehand.
    """
    best = _last(rows, "best of ", f" by {rule}")
    both = _last(rows, "guidance + best of ", f" by {rule}")
    sceptics = [name for name in rows if name.split(" of ")[0] in (*SCEPTICS, "medoid")]
    shared = [
        name
        for name in rows
        if name.startswith(("fewer steps", "slight blur", "previous-chunk", "copy", "constant"))
    ]
    nulls = [name for name in rows if name.startswith("guidance, ")]
    pairs = [(best, other) for other in (RANDOM_PICK, *sceptics, *shared) if best]
    if GUIDED in rows:
        pairs += [(GUIDED, other) for other in (PLAIN, *nulls, *shared)]
    if both:
        pairs += [(both, other) for other in (PLAIN, best, GUIDED, *sceptics) if other]
    return {
        f"{one} − {other}": {
            name: asdict(_paired(rows[one], rows[other], name))
            for name in COLUMNS
            if name in rows[one].values and name in rows[other].values
        }
        for one, other in pairs
    }


def _paired(one: Row, other: Row, name: str) -> Estimate:
    """Difference over scenes; of two variants of the sampler, over the seeds that both have."""
    a, b = one.values[name], other.values[name]
    if one.by_seed and other.by_seed:
        common = min(a.shape[1], b.shape[1])
        a, b = a[:, :common], b[:, :common]
    return bootstrap.difference(a, b)


def _last(names: Iterable[str], begin: str, end: str) -> str | None:
    found = [name for name in names if name.startswith(begin) and name.endswith(end)]
    return found[-1] if found else None
