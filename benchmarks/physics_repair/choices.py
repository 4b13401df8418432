"""Ways to choose among candidates: which scores, how they are put together, and who wins."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.physics_repair import ceiling
from benchmarks.physics_repair.answers import HIGHER
from benchmarks.physics_repair.scores import KNOWN, RULES, STRIDES, score_name
from benchmarks.shared.bootstrap import Values

CONSENSUS, GEOMETRY, RANK_SUM = "consensus", "geometry", "rank-sum"
SCEPTICS = {
    "sharpest": ("edges", True),
    "blurriest": ("edges", False),
    "stillest": ("energy", False),
}
"""Choices without a world model, besides the medoid: score, and whether the highest wins."""
ORACLES = ("physics", "position", "motion")

DECIDED = {"video": "top, seam 1 + 2 + 3", "image": CONSENSUS}
"""What is compared with all controls, by task: decided on the scenes of seed 1000."""


@dataclass(frozen=True)
class Choice:
    """One way to choose.

    Attributes:
        scores: Of each candidate, the less the better.
        ranked: Whether ranks in the set are added instead of scores that are scaled to the same spread in it.
        also: Scores of sets whose ranks are added, each with the same weight as they all.
    """

    scores: tuple[str, ...]
    ranked: bool = False
    also: tuple[str, ...] = ()

    def total(self, values: Values, size: int) -> Tensor:
        """[N, S], the less the better; comparable within sets of `size`."""
        parts = [values[name] for name in self.scores]
        if not (self.ranked or self.also):
            own = parts if len(parts) == 1 else [_scaled(part, size) for part in parts]
            return torch.stack(own).mean(dim=0)
        total = torch.stack([_ranks(part, size) for part in parts]).mean(dim=0)
        if not self.also:
            return total
        others = (_ranks(-values[f"{name}@{size}"], size) for name in self.also)
        return sum(others, _ranks(total, size))


def _sums(values: Values) -> Iterator[tuple[str, ...]]:
    """Horizons whose scores are put together, as far as they are known."""
    nearest = "seam" if f"plain, seam {STRIDES[0]}" in values else "clip"
    known = tuple(f"{nearest} {k}" for k in STRIDES if f"plain, {nearest} {k}" in values)
    strided = ("clip", *known) if nearest == "clip" else known
    yield from ((one,) for one in (*known, "long"))
    yield from (strided[:count] for count in range(2, len(strided) + 1))
    yield (*strided, "long")


def _sum_name(parts: tuple[str, ...]) -> str:
    """`seam 1`, `seam 2`, `long` → `seam 1 + 2 + long`."""
    first, *others = ("clip 1" if part == "clip" else part for part in parts)
    short = (part.removeprefix(f"{first.split(' ')[0]} ") for part in others)
    return " + ".join((first, *short))


def choices(values: Values, rules: tuple[str, ...] = RULES) -> dict[str, Choice]:
    """All choices by these rules of the surprise that the scores allow.

    The names of the windows' scores are those of `scores.horizons`; a rule alone is of the whole clip.
    """
    found = {}
    judged = any(name.startswith(f"{GEOMETRY}@") for name in values)
    others = (CONSENSUS, GEOMETRY) if judged else (CONSENSUS,)
    for rule in rules:
        if rule in values:
            found[rule] = Choice((rule,))
            found |= {f"{rule} + {other}": Choice((rule,), also=(other,)) for other in others}
        for parts in _sums(values):
            name = score_name(rule, _sum_name(parts))
            scores = tuple(rule if part == "clip" else score_name(rule, part) for part in parts)
            found[name] = Choice(scores)
            if rule in values:
                found |= {f"{name} + {other}": Choice(scores, also=(other,)) for other in others}
    return found


def known_choices(values: Values) -> dict[str, Choice]:
    """What a prediction of the model's latents without any error would choose, and who knows the state."""
    found = {
        score_name(KNOWN, _sum_name(parts)): Choice(
            tuple(score_name(KNOWN, part) for part in parts)
        )
        for parts in _sums(values)
        if all(score_name(KNOWN, part) in values for part in parts)
    }
    by_state = (f"{ceiling.NAME}, {measure}" for measure in ceiling.MEASURES)
    return found | {name: Choice((name,)) for name in by_state if name in values}


def chosen(values: Values, rule: str, size: int) -> Tensor:
    """Indices [N, G] of the best candidates of sets of `size`, by a choice, a sceptic's, or an oracle."""
    score, highest = _score(values, rule, size)
    grouped = score.unflatten(1, (-1, size))
    grouped = grouped.nan_to_num(-torch.inf if highest else torch.inf)
    best = grouped.argmax(dim=2) if highest else grouped.argmin(dim=2)
    return best + size * torch.arange(grouped.shape[1])


def _score(values: Values, rule: str, size: int) -> tuple[Tensor, bool]:
    """Of each candidate [N, S], and whether the highest wins."""
    if rule == RANK_SUM:
        parts = (*(values[name] for name in RULES), -values[f"{CONSENSUS}@{size}"])
        return torch.stack([_ranks(part, size) for part in parts]).sum(dim=0), False
    if rule in (CONSENSUS, GEOMETRY, "medoid"):
        return values[f"{rule}@{size}"], rule != "medoid"
    if rule in SCEPTICS:
        name, highest = SCEPTICS[rule]
        return values[name], highest
    own = choices(values) | known_choices(values)
    if rule in own:
        return own[rule].total(values, size), False
    return values[rule], rule in HIGHER


def correlation(values: Values, rule: str, measure: str, size: int) -> float:
    """Mean over scenes of the correlation of a score with a measure of the error, in the set of a scene.

    Scenes in which either is the same for all candidates are left out.
    """
    score, highest = _score(values, rule, size)
    pair = torch.stack((-score if highest else score, values[measure])).double()
    pair = pair.unflatten(2, (-1, size)).flatten(1, 2)  # [2, N · G, size]
    apart = pair - pair.mean(dim=2, keepdim=True)
    spread = apart.square().mean(dim=2).sqrt().prod(dim=0)
    return (apart.prod(dim=0).mean(dim=1) / spread)[spread > 0].nanmean().item()


def _scaled(score: Tensor, size: int) -> Tensor:
    """Scores [N, S] in units of their spread in the set, from its mean."""
    grouped = score.double().unflatten(1, (-1, size))
    centred = grouped - grouped.mean(dim=2, keepdim=True)
    spread = (
        centred.square().mean(dim=2, keepdim=True).sqrt().clamp_min(torch.finfo(torch.float64).tiny)
    )
    return (centred / spread).flatten(1)


def _ranks(score: Tensor, size: int) -> Tensor:
    """Rank of each candidate [N, S] in its set, 0 for the lowest; equal ones share the mean."""
    grouped = score.unflatten(1, (-1, size))
    below = (grouped.unsqueeze(3) > grouped.unsqueeze(2)).sum(dim=3)
    equal = (grouped.unsqueeze(3) == grouped.unsqueeze(2)).sum(dim=3)
    return (below + (equal - 1) / 2).flatten(1)
