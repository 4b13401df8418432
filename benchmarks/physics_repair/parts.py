"""The parts of the repair benchmark: candidates of one kind for all scenes, measured, block by block.

Every block is written when it is finished, so that a stopped run goes on where it was.
"""

from __future__ import annotations

import re
import statistics
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from tqdm import tqdm

from benchmarks.physics_repair.answers import Answers
from benchmarks.physics_repair.ceiling import Ceiling
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
_AHEAD = 4
"""Blocks that are made while other processes still measure earlier ones."""


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


def measured(
    answers: Answers,
    judges: Judges,
    made: Tensor,
    rows: slice,
    ceiling: Ceiling | None = None,
    *,
    compare: bool = False,
) -> Callable[[], Part]:
    """Videos [n, S, 3, T, H, W] of some scenes, without what it took to make them.

    What other processes measure is begun here and there when the part is asked for.

    Args:
        answers: The task.
        judges: Of candidates.
        made: The videos.
        rows: Of which scenes.
        ceiling: Also say what a judge would that knows the true state, and a perfect prediction.
        compare: Also compare the candidates of each scene.
    """
    physics = answers.physics(made, rows)
    values, distance = answers.mark(made, rows)
    truth = answers.truth[rows] if ceiling else None
    scores, seconds = judges(made, answers.before[rows], compare=compare, truth=truth)
    if ceiling:
        scores |= ceiling(made, rows)
    first = rows.indices(len(answers))[0]
    part = Part(
        values=values | scores,
        distance=distance,
        strips=strips_of(made[: max(0, SHOWN - first)]),
        seconds=None,
        scoring=seconds / made.shape[:2].numel(),
        peak=None,
    )
    return lambda: replace(part, values={"physics": physics(), **part.values})


def control_parts(answers: Answers, judges: Judges, generator: Generator) -> dict[str, Part]:
    """The controls that no sampler made, one video for each scene."""
    every = slice(0, len(answers))
    return {
        name: measured(answers, judges, video, every)()
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
        ceiling: Says of plain candidates what a judge would that knows the true state; None: nothing.
        share: k, n: only every n-th block is made, from the k-th on, and nothing comes of it but its file.
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
        ceiling: Ceiling | None = None,
        share: tuple[int, int] | None = None,
    ) -> None:
        self.answers, self.judges = answers, judges
        self.factory, self.settings, self.device = factory, dict(settings), device
        self.batch, self.folder, self.ceiling, self.share = batch, folder, ceiling, share

    def make(self, variant: Variant) -> dict[str, Part]:
        """A part and those retouched, from their finished blocks and those that are missing."""
        at_once = max(1, self.batch // variant.seeds)
        starts = range(0, len(self.answers), at_once)
        if self.share:
            first, every = self.share
            starts = starts[first::every]
        hidden = not sys.stderr.isatty()
        if hidden:
            print(f"{variant.name} …", file=sys.stderr)
        begun: deque[Callable[[], dict[str, Part]]] = deque()
        blocks = []
        try:
            for start in tqdm(starts, desc=variant.name, disable=hidden):
                rows = slice(start, min(start + at_once, len(self.answers)))
                begun.append(self._block(variant, rows))
                if len(begun) > _AHEAD:
                    blocks.append(begun.popleft()())
        finally:  # what is made is not lost if the run is stopped
            blocks += [finish() for finish in begun]
        if self.share:
            return {}
        return {name: _joined([block[name] for block in blocks]) for name in blocks[0]}

    def _block(self, variant: Variant, rows: slice) -> Callable[[], dict[str, Part]]:
        """The part of some scenes, once other processes have measured it."""
        file = self._file(variant, rows)
        if file and file.exists():
            stored = torch.load(file, weights_only=True)
            return lambda: {name: Part(**fields) for name, fields in stored.items()}
        made, seconds, peak, told = self._generated(variant, rows)
        ceiling = None if variant.guide else self.ceiling
        compare = variant.compare
        whole = measured(
            self.answers, self.judges, made, rows, ceiling if compare else None, compare=compare
        )
        others = {
            one.name: measured(self.answers, self.judges, one.apply(made[:, : one.seeds]), rows)
            for one in variant.retouches
        }

        def finish() -> dict[str, Part]:
            parts = {variant.name: replace(whole(), seconds=seconds, peak=peak, effect=told)}
            for name, other in others.items():
                parts[name] = replace(other(), seconds=seconds, peak=peak)
            if file:
                with atomic_path(file) as temporary:
                    torch.save({name: vars(one) for name, one in parts.items()}, temporary)
            return parts

        return finish

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
