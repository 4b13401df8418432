"""From measured candidates to the rows of the table: who is chosen, what that is worth, what it costs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from benchmarks.physics_repair.answers import HIGHER, MEASURES
from benchmarks.physics_repair.choices import (
    CONSENSUS,
    GEOMETRY,
    ORACLES,
    RANK_SUM,
    SCEPTICS,
    choices,
    chosen,
    correlation,
    known_choices,
)
from benchmarks.physics_repair.parts import Part
from benchmarks.physics_repair.scores import RULES, SETS, score_name, sets
from benchmarks.shared import bootstrap
from benchmarks.shared.bootstrap import Estimate, Values

PLAIN, GUIDED, RANDOM_PICK = "plain", "guidance", "random pick"
COLUMNS = (
    *MEASURES[:3], "both", *MEASURES[3:], "plain", "excess", "second plain", "second excess",
)  # fmt: skip
GAPS = ("physics", "position", "motion", "union")
"""Columns whose gap between the mean candidate and the best one is shared out."""
HORIZONS = ("seam 1", "clip 2", "long", "seam 1 + 2 + 3", "seam 1 + 2 + 3 + long")
"""Of the choices that have rows."""
USUAL = 16
"""Candidates that are chosen from, if there are as many; larger sets are there for comparison."""


def usual_size(seeds: int) -> int:
    """The largest set of at most the usual size that so many candidates fill; all of them if none."""
    return max((size for size in sets(seeds) if size <= USUAL), default=seeds)


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
    size = usual_size(seeds)
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
    without = rule in (*SCEPTICS, *ORACLES, "medoid") or rule in known_choices(part.values)
    seconds = (part.seconds or 0.0) + (0.0 if without else part.scoring)
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
        candidates=usual_size(seeds),
        time=1.0,
        memory=_memory(plain, plain),
    )


def _memory(part: Part, plain: Part) -> float | None:
    return part.peak / plain.peak if part.peak and plain.peak else None


def shortlist(values: Values, rule: str) -> list[str]:
    """The choices that have rows, among sets of every size and among guided candidates; `rule` is one.

    All the others are in `choice_table`.
    """
    own = choices(values)
    score = rule.split(",")[0].split(" + ")[0]
    score = score if score in RULES else RULES[0]
    wanted = (
        f"{rule} + {CONSENSUS}",
        f"{rule} + {GEOMETRY}",
        *(score_name(score, h) for h in HORIZONS),
    )
    found = (name for name in wanted if name in own)
    geometry = [GEOMETRY] if f"{GEOMETRY}@{SETS[0]}" in values else []
    return list(dict.fromkeys((*RULES, CONSENSUS, *geometry, RANK_SUM, rule, *found)))


def build_rows(parts: Mapping[str, Part], rule: str) -> dict[str, Row]:
    """All rows that the parts made so far allow; the plain ones must be there.

    Args:
        parts: By name.
        rule: The choice that was decided on beforehand.
    """
    plain, guided = parts[PLAIN], parts.get(GUIDED)
    sizes = sets(plain.distance.shape[1])
    usual = usual_size(plain.distance.shape[1])
    short = shortlist(plain.values, rule)
    rows = {name: part_row(part, plain) for name, part in parts.items() if part.seconds is None}
    rows[PLAIN] = part_row(plain, plain)
    rows[RANDOM_PICK] = _random_pick(plain)
    for size in sizes:
        for one in short:
            rows[f"best of {size} by {one}"] = pick_row(plain, plain, one, size)
    if guided:
        rows[GUIDED] = part_row(guided, plain)
        for size in sets(guided.distance.shape[1])[-1:]:
            for one in short:
                name = f"{GUIDED} + best of {size} by {one}"
                rows[name] = pick_row(guided, plain, one, size)
    if sizes:
        for one in known_choices(plain.values):
            rows[f"best of {usual} by {one}"] = pick_row(plain, plain, one, usual)
        for size in dict.fromkeys((usual, sizes[-1])):
            for one in ORACLES:
                rows[f"oracle of {size} by {one}"] = pick_row(plain, plain, one, size)
        for one in (*SCEPTICS, "medoid"):
            rows[f"{one} of {usual}"] = pick_row(plain, plain, one, usual)
    others = (name for name in parts if name not in rows)
    return rows | {name: part_row(parts[name], plain) for name in others}


def choice_table(plain: Part) -> list[dict[str, Any]]:
    """Of every choice among sets of the usual size: the gap it closes, its correlation with the error."""
    values = plain.values
    size = usual_size(plain.distance.shape[1])
    found = []
    others = (name for name in (CONSENSUS, GEOMETRY, "medoid") if f"{name}@{size}" in values)
    for one in (*choices(values), RANK_SUM, *others, *known_choices(values)):
        row = pick_row(plain, plain, one, size)
        for measure in GAPS:
            gap = asdict(gap_closed(row, values, measure))
            if measure != "physics":
                gap["correlation"] = correlation(values, one, measure, size)
            found.append({"choice": one, "of": size, "measure": measure, **gap})
    return found


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
    best = _usual(rows, "best of ", f" by {rule}")
    both = _usual(rows, f"{GUIDED} + best of ", f" by {rule}")
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


def _usual(names: Iterable[str], begin: str, end: str) -> str | None:
    """The row of the largest set of at most the usual size."""
    own = [name for name in names if name.startswith(begin) and name.endswith(end)]
    sizes = {int(name.removeprefix(begin).removesuffix(end)): name for name in own}
    usual = [size for size in sizes if size <= USUAL]
    return sizes[max(usual)] if usual else None
