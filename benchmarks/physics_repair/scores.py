"""What candidates are chosen by: world models, and the sceptic's looks at sharpness, motion and crowd."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.physics_repair.geometry import geometry_of, geometry_of_sets
from benchmarks.shared.bootstrap import Values
from wmreward.rewards.world import Consensus
from wmreward.steering.keep_edges import edge_energy
from wmreward.surprise.rules import reach
from wmreward.surprise.scorer import SurpriseScorer
from wmreward.surprise.tokens import normalised
from wmreward.surprise.windows import Window, cut_windows

SETS = (4, 8, 16, 64)
"""Sizes of the sets that the best is chosen from: candidates are dealt to them in order."""
RULES = ("plain", "top", "excess", "relative")
KNOWN = "true future"
"""A rule of its own: the distance from the latents of the true future, as if the prediction were perfect."""
STRIDES = (1, 2, 3)
"""Frames from one frame of a window to the next."""
CONTEXT = 16
"""Given frames that the surprise of whole clips is shown, at most."""

Horizons = Mapping[str, tuple[SurpriseScorer, list[Window]]]


def horizons(scorer: SurpriseScorer, frames: int, given: int) -> Horizons:
    """Windows by name, of clips whose first `given` frames were given.

    `seam k`: context given, future new, at stride k. Where no such window fits, as after an image: `clip k`,
    all windows of the clip at stride k from 2 on. `long`: one window with all given frames as context and all
    new ones to predict; after an image half of the clip and the other half.
    """
    model, config = scorer.model, scorer.config
    size, context, batch = config.window_size, config.context_frames, scorer.batch_size
    found: dict[str, tuple[SurpriseScorer, list[Window]]] = {}
    for k in STRIDES:
        strided = SurpriseScorer(model, replace(config, frame_strides=(k,)), batch_size=batch)
        if seam := strided.seam(frames, given):
            found[f"seam {k}"] = strided, seam
        elif given < context and k > 1 and reach(size, k) <= frames:
            found[f"clip {k}"] = strided, strided.windows(frames)
    tubelet = model.config.tubelet
    whole = frames // tubelet * tubelet
    seen = given if given >= context else whole // 2 // tubelet * tubelet
    long = replace(config, window_size=whole, context_frames=seen)
    scorer = SurpriseScorer(model, long, batch_size=max(1, batch * size // whole))
    found["long"] = scorer, cut_windows(frames, whole, frames)
    return found


def score_name(rule: str, horizon: str) -> str:
    """How the surprise of the windows of a horizon is called."""
    return f"{rule}, {horizon}"


class Judges:
    """Everything that is said of candidates without the truth, and what a perfect prediction would say.

    Args:
        guiding: The world model that guides and chooses.
        second: Another one, trained separately: a fall in surprise that it does not see is a trick.
    """

    def __init__(self, guiding: SurpriseScorer, second: SurpriseScorer | None = None) -> None:
        self.scorers = {"": guiding} | ({"second ": second} if second else {})
        self.consensus = Consensus(guiding)
        self.geometry = geometry_of(guiding)

    def __call__(
        self, made: Tensor, before: Tensor, *, compare: bool, truth: Tensor | None = None
    ) -> tuple[Values, float]:
        """Judge videos [n, S, 3, T, H, W] in [0, 1] that follow frames [n, 3, P, H, W].

        Args:
            made: The candidates of each scene.
            before: What they continue.
            compare: Also what candidates are chosen by: the horizons, and how they compare in each scene.
            truth: Their true future [n, 3, T, H, W]; None: nothing is said of a perfect prediction.

        Returns:
            Scores [n, S]: surprise of the clip by each rule and of a frozen video (`plain`, `top`,
            `excess`, `relative`, `copy`; by the second model as `second plain` …), `edges` and `energy` of
            the motion. To compare: the same of the windows of each of the `horizons` (`plain, seam 1` …), the
            distance there from the `true future`, and for sets of n candidates `consensus@n` (more is
            nearer to the others for the world model), `geometry@n` (more is smoother in its features) and
            `medoid@n` (less is nearer in pixels). And the seconds that surprise took.
        """
        count, seeds = made.shape[:2]
        videos = torch.cat((before.unsqueeze(1).expand(-1, seeds, -1, -1, -1, -1), made), dim=3)
        flat = (2 * videos - 1).flatten(0, 1)
        given = before.shape[2]
        clips = flat[:, :, max(0, given - CONTEXT) :]
        values: Values = {}
        seconds = 0.0
        for prefix, scorer in self.scorers.items():
            begun = time.perf_counter()
            found = {
                name: scores.pooled("mean") for name, scores in scorer.score_rules(clips).items()
            }
            looks = horizons(scorer, flat.shape[2], given) if compare else {}
            for horizon, (own, which) in looks.items():
                for rule, scores in own.score_rules(flat, which).items():
                    found[score_name(rule, horizon)] = scores.pooled("mean")
            values |= {prefix + name: score.float().cpu() for name, score in found.items()}
            seconds = seconds or time.perf_counter() - begun
        if truth is not None:
            true = 2 * torch.cat((before, truth), dim=2) - 1
            values |= dict(self._known(flat, true, given))
        new = made.flatten(0, 1)
        values["edges"] = edge_energy(new).cpu()
        values["energy"] = new.diff(dim=2).square().mean(dim=(1, 2, 3, 4)).cpu()
        values = {name: value.unflatten(0, (count, seeds)) for name, value in values.items()}
        return values | (self._compared(clips, made) if compare and sets(seeds) else {}), seconds

    def _known(self, flat: Tensor, true: Tensor, given: int) -> Iterator[tuple[str, Tensor]]:
        """How far candidates [n · S, …] are from the true videos [n, …] in the latents of each horizon."""
        seeds = len(flat) // len(true)
        for horizon, (scorer, which) in horizons(self.scorers[""], flat.shape[2], given).items():
            wanted = normalised(scorer.observed_latents(true, which)).repeat_interleave(
                seeds, dim=0
            )
            seen = normalised(scorer.observed_latents(flat, which))
            apart = 1 - F.cosine_similarity(wanted, seen, dim=-1)
            yield score_name(KNOWN, horizon), apart.flatten(1).mean(dim=1).cpu()

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
