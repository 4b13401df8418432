"""The parts of the repair benchmark: candidates of one kind for all scenes, measured, block by block.

Every block is written when it is finished, so that a stopped run goes on where it was.
"""

from __future__ import annotations

import re
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from tqdm import tqdm

from benchmarks.physics_repair.answers import Answers
from benchmarks.physics_repair.guides import GuideMaker
from benchmarks.physics_repair.scores import Judges
from benchmarks.shared.bootstrap import Values
from benchmarks.shared.generators import Generator
from wmreward.files import atomic_path
from wmreward.steering.guidance import effect

SHOWN = 4
"""Scenes whose candidates are kept for pictures."""
EVERY = 4
"""Of their frames, one in so many."""


class Factory(Protocol):
    """Makes generators; networks are loaded once."""

    def __call__(
        self, *, device: torch.device, make_guide: GuideMaker | None = None, **settings: Any
    ) -> Generator: ...


@dataclass(frozen=True)
class Retouch:
    """Something simple done to finished videos.

    Attributes:
        name: Of its row.
        apply: To videos [..., 3, T, H, W].
        seeds: Candidates per scene that it is done to.
    """

    name: str
    apply: Callable[[Tensor], Tensor]
    seeds: int


@dataclass(frozen=True)
class Variant:
    """One kind of candidates.

    Attributes:
        name: Of its row.
        seeds: Candidates per scene.
        settings: Of the generator.
        guide: Makes guides, given a seed of random directions; None: no guidance.
        compare: Whether the best of them are chosen.
        retouches: What else becomes of the finished videos, as rows of their own.
    """

    name: str
    seeds: int
    settings: Mapping[str, Any] = field(default_factory=dict)
    guide: Callable[[int], GuideMaker] | None = None
    compare: bool = False
    retouches: Sequence[Retouch] = ()


@dataclass(frozen=True)
class Part:
    """What is known of N scenes and S candidates each.

    Attributes:
        values: Measures and scores, [N, S].
        distance: Of objects from where they should be, [N, S, T, C]; NaN if not found or looked for.
        strips: Some frames of the first scenes, uint8 [n, S, 3, t, H, W].
        seconds: To make one candidate (median over blocks); None if nothing was generated.
        scoring: Seconds for its surprise.
        peak: Most bytes of GPU memory while generating, or None.
        effect: What guidance told, or None.
    """

    values: Values
    distance: Tensor
    strips: Tensor
    seconds: float | None
    scoring: float
    peak: int | None
    effect: str | None = None


def strips_of(videos: Tensor) -> Tensor:
    """The frames [..., 3, t, H, W] that are kept for pictures, as bytes."""
    return (videos[..., ::EVERY, :, :] * 255).round().to(torch.uint8).cpu()


def measured(answers: Answers, judges: Judges, made: Tensor, rows: slice, compare: bool) -> Part:
    """Videos [n, S, 3, T, H, W] of some scenes, without what it took to make them."""
    values, distance = answers.mark(made, rows)
    scores, seconds = judges(made, answers.before[rows], compare=compare)
    first = rows.indices(len(answers))[0]
    shown = made[: max(0, SHOWN - first)]
    return Part(
        values=values | scores,
        distance=distance,
        strips=strips_of(shown),
        seconds=None,
        scoring=seconds / made.shape[:2].numel(),
        peak=None,
    )


def control_parts(answers: Answers, judges: Judges, generator: Generator) -> dict[str, Part]:
    """The controls that no sampler made, one video for each scene."""
    every = slice(0, len(answers))
    return {
        name: measured(answers, judges, video, every, compare=False)
        for name, video in answers.controls(generator).items()
    }


class Workshop:
    """Makes and measures parts.

    Args:
        answers: Scenes and truth.
        judges: Score candidates.
        factory: Makes generators.
        settings: Of all generators.
        device: Where they run.
        batch: Candidates at once.
        folder: Where blocks are kept; None: nowhere.
    """

    def __init__(
        self,
        answers: Answers,
        judges: Judges,
        factory: Factory,
        settings: Mapping[str, Any],
        device: torch.device,
        *,
        batch: int,
        folder: Path | None,
    ) -> None:
        self.answers, self.judges = answers, judges
        self.factory, self.settings, self.device = factory, dict(settings), device
        self.batch, self.folder = batch, folder

    def make(self, variant: Variant) -> dict[str, Part]:
        """A part and those retouched, from their finished blocks and those that are missing."""
        at_once = max(1, self.batch // variant.seeds)
        starts = range(0, len(self.answers), at_once)
        hidden = not sys.stderr.isatty()
        blocks = [
            self._block(variant, slice(start, min(start + at_once, len(self.answers))))
            for start in tqdm(starts, desc=variant.name, disable=hidden)
        ]
        return {name: _joined([block[name] for block in blocks]) for name in blocks[0]}

    def _block(self, variant: Variant, rows: slice) -> dict[str, Part]:
        file = self._file(variant, rows)
        if file and file.exists():
            stored = torch.load(file, weights_only=True)
            return {name: Part(**fields) for name, fields in stored.items()}
        made, seconds, peak, told = self._generated(variant, rows)
        part = measured(self.answers, self.judges, made, rows, variant.compare)
        part = replace(part, seconds=seconds, peak=peak, effect=told)
        parts = {variant.name: part}
        for retouch in variant.retouches:
            other = retouch.apply(made[:, : retouch.seeds])
            known = measured(self.answers, self.judges, other, rows, compare=False)
            parts[retouch.name] = replace(known, seconds=seconds, peak=peak)
        if file:
            with atomic_path(file) as temporary:
                torch.save({name: vars(one) for name, one in parts.items()}, temporary)
        return parts

    def _generated(
        self, variant: Variant, rows: slice
    ) -> tuple[Tensor, float, int | None, str | None]:
        """Videos, seconds for each, peak memory, and what guidance did."""
        maker = variant.guide(rows.start) if variant.guide else None
        settings = self.settings | dict(variant.settings)
        generator = self.factory(device=self.device, make_guide=maker, **settings)
        cuda = self.device.type == "cuda"
        if cuda:
            torch.cuda.synchronize(self.device)
            torch.cuda.reset_peak_memory_stats(self.device)
        begun = time.perf_counter()
        made = self.answers.generated(generator, rows, range(variant.seeds))
        if cuda:
            torch.cuda.synchronize(self.device)
        seconds = (time.perf_counter() - begun) / made.shape[:2].numel()
        peak = torch.cuda.max_memory_allocated(self.device) if cuda else None
        return made, seconds, peak, str(effect(maker.records)) if maker else None

    def _file(self, variant: Variant, rows: slice) -> Path | None:
        name = re.sub(r"[^a-z0-9.]+", "_", variant.name.lower())
        return self.folder and self.folder / f"{name}.{rows.start:05d}-{rows.stop:05d}.pt"


def _joined(blocks: list[Part]) -> Part:
    first = blocks[0]
    peaks = [block.peak for block in blocks if block.peak is not None]
    times = [block.seconds for block in blocks if block.seconds is not None]
    return Part(
        values={name: torch.cat([block.values[name] for block in blocks]) for name in first.values},
        distance=torch.cat([block.distance for block in blocks]),
        strips=torch.cat([block.strips for block in blocks]),
        seconds=statistics.median(times) if times else None,
        scoring=statistics.median(block.scoring for block in blocks),
        peak=max(peaks, default=None),
        effect=first.effect,
    )
