"""What candidates are chosen by: world models, and the sceptic's looks at sharpness, motion and crowd."""

from __future__ import annotations

import time

import torch
from torch import Tensor

from benchmarks.physics_repair.geometry import geometry_of, geometry_of_sets
from benchmarks.shared.bootstrap import Values
from wmreward.rewards.world import Consensus, SeamReward, SurpriseReward
from wmreward.steering.keep_edges import edge_energy
from wmreward.surprise.scorer import SurpriseScorer

SETS = (4, 8, 16)
"""Sizes of the sets that the best is chosen from: candidates are dealt to them in order."""
RULES = ("plain", "top", "excess", "relative")
SEAM = SeamReward.name


class Judges:
    """Everything that is said of candidates without the truth.

    Args:
        guiding: The world model that guides and chooses; the rule of its scores is that of the seam.
        second: Another one, trained separately: a fall in surprise that it does not see is a trick.
    """

    def __init__(self, guiding: SurpriseScorer, second: SurpriseScorer | None = None) -> None:
        self.scorers = {"": guiding} | ({"second ": second} if second else {})
        self.consensus = Consensus(guiding)
        self.geometry = geometry_of(guiding)

    def __call__(self, made: Tensor, before: Tensor, *, compare: bool) -> tuple[Values, float]:
        """Judge videos [n, S, 3, T, H, W] in [0, 1] that follow frames [n, 3, P, H, W].

        Args:
            made: The candidates of each scene.
            before: What they continue.
            compare: Also compare the candidates of each scene.

        Returns:
            Scores [n, S]: surprise by each rule, at the seam, and of a frozen video (`plain`, `top`,
            `excess`, `relative`, `seam`, `copy`; by the second model as `second plain` …), `edges`,
            `energy` of the motion, and for sets of n candidates `consensus@n` (more is nearer to the
            others for the world model), `geometry@n` (more is smoother in its features) and `medoid@n` (less
            is nearer in pixels). And the seconds that surprise took.
        """
        count, seeds = made.shape[:2]
        videos = torch.cat((before.unsqueeze(1).expand(-1, seeds, -1, -1, -1, -1), made), dim=3)
        flat = (2 * videos - 1).flatten(0, 1)
        values: Values = {}
        seconds = 0.0
        for prefix, scorer in self.scorers.items():
            begun = time.perf_counter()
            parts = dict(SurpriseReward(scorer)(flat).parts)
            del parts["surprise"]  # is that of the scorer's rule
            parts[SEAM] = -SeamReward(scorer).after(flat, before.shape[2]).scores
            parts = {name: part.float().cpu() for name, part in parts.items()}
            values |= {prefix + name: part for name, part in parts.items()}
            seconds = seconds or time.perf_counter() - begun
        new = made.flatten(0, 1)
        values["edges"] = edge_energy(new).cpu()
        values["energy"] = new.diff(dim=2).square().mean(dim=(1, 2, 3, 4)).cpu()
        values = {name: value.unflatten(0, (count, seeds)) for name, value in values.items()}
        return values | (self._compared(flat, made) if compare and sets(seeds) else {}), seconds

    def _compared(self, flat: Tensor, made: Tensor) -> Values:
        count, seeds = made.shape[:2]
        embedded = self.consensus.embed(flat).unflatten(0, (count, seeds))
        values: Values = {}
        if self.geometry is not None:
            values |= geometry_of_sets(self.geometry, flat, seeds, sets(seeds))
        for size in sets(seeds):
            groups = embedded.unflatten(1, (-1, size)).flatten(0, 1)
            near = [self.consensus.compare(group).cpu() for group in groups]
            values[f"consensus@{size}"] = torch.stack(near).view(count, seeds)
            crowd = made.unflatten(1, (-1, size))
            away = (crowd - crowd.mean(dim=2, keepdim=True)).square().flatten(3).mean(dim=-1)
            values[f"medoid@{size}"] = away.flatten(1).cpu()
        return values


def sets(seeds: int) -> list[int]:
    """Sizes of sets that so many candidates fill."""
    return [size for size in SETS if size <= seeds and seeds % size == 0]
