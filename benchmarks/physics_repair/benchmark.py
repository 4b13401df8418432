"""Do guidance and selection by a world model repair the physics of generated video?

    python -m benchmarks.physics_repair --output outputs/repair --tasks video    # and again with image: a GPU
    python -m benchmarks.physics_repair --tune --output outputs/repair_tuning    # on other scenes
    python -m benchmarks.physics_repair --quick                               # 2 minutes on 2 CPU cores

The embedded generator continues videos and images of held-out simulated scenes. Guided and plain
candidates, the best of them by every score, and what a sceptic would try instead (no world model, an
untrained one, a random direction, blur, fewer steps, the sharpest, the stillest, the medoid …) are held
against the simulated future. No row is left out.

Candidates of one row are made in blocks that are kept under ``--blocks``: the same command goes on after
an interruption. Tables are written when plain candidates are there, when guided ones are, and at the end:
``physics_repair.md`` to read, and for each task ``…_rows.csv`` with every row and comparison and
``…_choices.csv`` with every way to choose: the share of the gap it closes, its correlation with the error.
"""

from __future__ import annotations

import argparse
import importlib
import json
import multiprocessing
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.generator_quality.report import for_json
from benchmarks.physics_repair.answers import TASKS, Answers
from benchmarks.physics_repair.ceiling import Ceiling
from benchmarks.physics_repair.choices import DECIDED
from benchmarks.physics_repair.flags import argument_parser, complete
from benchmarks.physics_repair.guides import GuideMaker, GuideSettings
from benchmarks.physics_repair.parts import (
    SHOWN,
    Factory,
    Part,
    Retouch,
    Variant,
    Workshop,
    control_parts,
    strips_of,
)
from benchmarks.physics_repair.report import (
    csv_tables,
    picture,
    quick_lines,
    report,
    tuning_report,
)
from benchmarks.physics_repair.rows import (
    GAPS,
    GUIDED,
    PLAIN,
    build_rows,
    choice_table,
    comparisons,
    gap_closed,
)
from benchmarks.physics_repair.scores import Judges
from benchmarks.physics_repair.tuning import grid, tune, tuned_variants
from benchmarks.shared.claim import claim
from benchmarks.shared.held_out import held_out
from benchmarks.shared.machine import describe
from magi1.errors import MagiError
from vjepa2 import WorldModel, build_model, get_config
from wmreward.errors import WMRewardError
from wmreward.files import write_text
from wmreward.pictures.extra import has_pictures
from wmreward.surprise.config import SurpriseConfig
from wmreward.surprise.models import LoadedModel, ModelChoice, load
from wmreward.surprise.scorer import SurpriseScorer
from wmreward.video_io import write_png
from wmweights import WeightsError

NAME = "physics_repair"
TUNED_ON = 1_000
"""Added to the seed of the scenes when guidance is tuned."""


@dataclass(frozen=True)
class Models:
    """World models: the one that guides and chooses, another one, and one that has learned nothing."""

    guiding: LoadedModel
    second: LoadedModel | None
    untrained: WorldModel


def load_models(args: argparse.Namespace) -> Models:
    choice = ModelChoice(
        name=args.model, weights=args.weights, device=args.device, dtype=args.dtype
    )
    guiding = load(choice)
    second = None
    if args.second_weights:
        second = load(
            ModelChoice(
                name=args.second_model or args.model,
                weights=args.second_weights,
                device=args.device,
                dtype=args.dtype,
            )
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        untrained = build_model(get_config(args.model))
    untrained = untrained.to(choice.torch_device(), choice.torch_dtype())
    return Models(guiding, second, untrained.requires_grad_(False).eval())


def blurred(videos: Tensor, sigma: float) -> Tensor:
    """Every frame of [..., H, W] through a Gaussian of `sigma` pixels."""
    reach = torch.arange(-2, 3, device=videos.device)
    kernel = torch.exp(-reach.square() / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).to(videos)
    planes = F.pad(videos.reshape(-1, 1, *videos.shape[-2:]), (2, 2, 2, 2), mode="replicate")
    planes = F.conv2d(F.conv2d(planes, kernel.view(1, 1, 1, 5)), kernel.view(1, 1, 5, 1))
    return planes.view(videos.shape)


class Bench:
    """One run: models, scenes and settings.

    Args:
        args: Of the command line.
        workers: Measure motion masks; None: this process does.
    """

    def __init__(self, args: argparse.Namespace, workers: Executor | None) -> None:
        self.args, self.workers = args, workers
        self.device = torch.device(args.device)
        self.settings: dict[str, Any] = json.loads(args.settings)
        self.guidance = GuideSettings.from_json(json.loads(args.guidance))
        self.also = [
            (name, GuideSettings.from_json(one)) for name, one in json.loads(args.also).items()
        ]
        self.factory = _factory(args.generator)
        self.models = load_models(args)
        self.generator = self.factory(device=self.device, **self.settings)
        self.judges = Judges(
            self._scorer(self.models.guiding),
            self._scorer(self.models.second) if self.models.second else None,
        )
        self.clips = held_out(args.scenes, args.seed + (TUNED_ON if args.tune else 0))
        self.videos = self.clips.videos(self.device, size=args.size)

    def _scorer(self, loaded: LoadedModel) -> SurpriseScorer:
        config = SurpriseConfig(stride=self.args.stride, score="top")
        return SurpriseScorer(loaded.model, config, batch_size=4 * self.args.grad_batch)

    def rule(self, task: str) -> str:
        """The choice that is compared with all controls."""
        return self.args.rule or DECIDED[task]

    def answers(self, task: str) -> Answers:
        return Answers(self.clips, self.videos, TASKS[task], self.workers)

    def workshop(self, task: str, answers: Answers) -> Workshop:
        return Workshop(
            answers,
            self.judges,
            self.factory,
            self.settings,
            self.device,
            batch=self.args.candidate_batch,
            folder=self.args.blocks and self.args.blocks / task,
            ceiling=None if self.args.quick else Ceiling(answers),
            share=self.args.share,
        )

    def maker(
        self,
        settings: GuideSettings,
        seed: int,
        *,
        untrained: bool = False,
        random: bool = False,
    ) -> GuideMaker:
        model = self.models.untrained if untrained else self.models.guiding.model
        direction = "random" if random else "reward"
        return GuideMaker(settings, model, self.args.grad_batch, direction, seed)  # type: ignore[arg-type]

    def variants(self) -> list[Variant]:
        """All that is generated, the most telling first."""
        args, guided = self.args, partial(self.maker, self.guidance)
        nulls = args.nulls
        strong, steps = args.previous_chunk, args.fewer_steps
        blurs = [
            Retouch(f"slight blur, {sigma} px", partial(blurred, sigma=sigma), nulls)
            for sigma in (0.5, 0.7)
        ]
        plain = Variant(PLAIN, args.candidates, compare=True, retouches=() if args.quick else blurs)
        steered = [
            Variant(GUIDED, args.guided, guide=guided, compare=args.guided > 1),
            Variant("guidance, random direction", nulls, guide=partial(guided, random=True)),
            Variant("guidance, untrained model", nulls, guide=partial(guided, untrained=True)),
            *(Variant(f"guidance, {n}", nulls, guide=partial(self.maker, s)) for n, s in self.also),
        ]
        if args.quick:
            return [plain, *steered[:2]]
        return [
            plain,
            *steered,
            Variant("fewer steps", nulls, {"num_steps": steps}),
            Variant(f"previous-chunk guidance {strong}", nulls, {"prev_chunk_scales": strong}),
            Variant("previous-chunk guidance off", nulls, {"prev_chunk_scales": 1.0}),
        ]

    def head(self) -> dict[str, Any]:
        """What was measured, and with what."""
        args, models = self.args, self.models
        return {
            "benchmark": NAME,
            "scenes": args.scenes,
            "candidates": args.candidates,
            "guided_candidates": args.guided,
            "null_candidates": args.nulls,
            "seed": args.seed,
            "size": args.size,
            "rules": {task: self.rule(task) for task in args.tasks},
            "stride": args.stride,
            "generator": self.generator.describe(),
            "world_model": _described(models.guiding),
            "second": _described(models.second) if models.second else None,
            "guidance": asdict(self.guidance),
            "also": {name: asdict(one) for name, one in self.also},
            "previous_chunk": args.previous_chunk,
            "fewer_steps": args.fewer_steps,
            **describe(self.device),
        }

    def run(self) -> Iterator[dict[str, Any]]:
        """The record so far: of plain candidates, with guided ones, with everything; and pictures."""
        record = self.head() | {"tasks": {}}
        for name in self.args.tasks:
            answers, rule = self.answers(name), self.rule(name)
            if self.args.share:
                workshop = self.workshop(name, answers)
                for variant in self.variants():
                    workshop.make(variant)
                continue
            quick = self.args.quick
            parts = {} if quick else control_parts(answers, self.judges, self.generator)
            workshop = self.workshop(name, answers)
            for variant in self.variants():
                parts |= workshop.make(variant)
                if variant.name in (PLAIN, GUIDED):
                    record["tasks"][name] = _task_record(parts, rule)
                    yield record
            record["tasks"][name] = _task_record(parts, rule)
            if self.args.output and has_pictures():
                sheet = picture(strips_of(answers.truth[:SHOWN]), parts, rule)
                write_png(self.args.output / f"{NAME}_{name}.png", sheet)
            yield record

    def tune(self) -> Iterator[dict[str, Any]]:
        """The same of guidance settings, best first, and of ways to choose."""
        settings = grid()
        if self.args.grid:
            settings = [
                GuideSettings.from_json(one) for one in json.loads(self.args.grid.read_text())
            ]
        task = self.args.tasks[0]
        workshop = self.workshop(f"tuning_{task}", self.answers(task))
        first = Variant(PLAIN, self.args.candidates, compare=True)
        if self.args.share:
            for variant in (first, *tuned_variants(settings, self.args.nulls, self.maker)):
                workshop.make(variant)
            return
        plain = workshop.make(first)[PLAIN]
        known = {"choices": choice_table(plain)}
        for results in tune(workshop, plain, self.args.nulls, settings, self.maker):
            yield self.head() | {"tasks": {task: known}, "tuning": results}


def _task_record(parts: Mapping[str, Part], rule: str) -> dict[str, Any]:
    rows = build_rows(parts, rule)
    plain = parts[PLAIN].values
    return {
        "rule": rule,
        "rows": {
            name: row.to_json() | {"gap": {m: asdict(gap_closed(row, plain, m)) for m in GAPS}}
            for name, row in rows.items()
        },
        "comparisons": comparisons(rows, rule),
        "choices": choice_table(parts[PLAIN]),
        "effects": {name: part.effect for name, part in parts.items() if part.effect},
        "seconds": {name: part.seconds for name, part in parts.items()},
    }


def _described(loaded: LoadedModel) -> dict[str, Any]:
    info, model = loaded.info, loaded.model
    assert isinstance(model, WorldModel)
    return {"model": info.model, "sha256": info.sha256, "dtype": str(model.dtype)}


def _factory(path: str) -> Factory:
    module, _, name = path.partition(":")
    factory: Factory = getattr(importlib.import_module(module), name)
    return factory


@contextmanager
def _workers(count: int) -> Iterator[Executor | None]:
    """Processes without a GPU; none for a count of 0."""
    if not count:
        yield None
        return
    for library in ("OMP", "OPENBLAS", "MKL"):  # read when they start: each takes one core
        os.environ.setdefault(f"{library}_NUM_THREADS", "1")
    with ProcessPoolExecutor(count, multiprocessing.get_context("spawn")) as pool:
        yield pool


def judge(args: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """Tables and record, also written to ``--output`` after every part."""
    complete(args)
    text, record = "", {}
    with _workers(args.workers) as workers:
        bench = Bench(args, workers)
        if args.blocks:
            head = for_json(dict(bench.head()))
            claimed = {name: head[name] for name in head.keys() - {"machine", "rules"}}
            claim(args.blocks, claimed, "--blocks or --output")
        name = f"{NAME}_tuning" if args.tune else NAME
        for found in bench.tune() if args.tune else bench.run():
            record = for_json(found)
            text = tuning_report(record) if args.tune else report(record)
            if args.output:
                write_text(args.output / f"{name}.md", text + "\n")
                write_text(args.output / f"{name}.json", json.dumps(record) + "\n")
                for file, table in csv_tables(record).items():
                    write_text(args.output / f"{name}_{file}.csv", table)
    return text, record


def main(argv: Sequence[str] | None = None) -> int:
    try:
        args = argument_parser(__doc__).parse_args(argv)
        text, record = judge(args)
    except (WMRewardError, MagiError, WeightsError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if args.share:
        print("done: the same command without --share makes the tables")
    elif args.quick:
        print("\n".join(quick_lines(record, args.output)))
    else:
        print(text)
        print(json.dumps(record))
    return 0
