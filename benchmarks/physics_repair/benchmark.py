"""Do guidance and selection by a world model repair the physics of generated video?

    python -m benchmarks.physics_repair --out outputs/repair --tasks video    # and again with image: a GPU
    python -m benchmarks.physics_repair --tune --out outputs/repair_tuning    # on other scenes
    python -m benchmarks.physics_repair --quick                               # 3 minutes on 2 CPU cores

The embedded generator continues videos and images of held-out simulated scenes. Guided and plain
candidates, the best of them by every score, and what a sceptic would try instead (no world model, an
untrained one, a random direction, blur, fewer steps, the sharpest, the stillest, the medoid …) are held
against the simulated future. No row is left out.

Candidates of one row are made in blocks that are kept under ``--parts``: the same command goes on after
an interruption. Tables are written when plain candidates are there, when guided ones are, and at the end.
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
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.generator_quality.report import for_json
from benchmarks.physics_repair.answers import TASKS, Answers
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
from benchmarks.physics_repair.report import pictures, report, tuning_table
from benchmarks.physics_repair.rows import (
    CHOICES,
    GAPS,
    GUIDED,
    PLAIN,
    build_rows,
    comparisons,
    gap_closed,
)
from benchmarks.physics_repair.scores import Judges, sets
from benchmarks.physics_repair.tuning import CRITERION, grid, tune
from benchmarks.shared.held_out import held_out
from benchmarks.shared.machine import describe
from magi1.errors import MagiError
from simworld.media import write_png
from vjepa2 import WorldModel, build_model, get_config
from wmreward.errors import UsageError, WMRewardError
from wmreward.files import write_text
from wmreward.surprise.config import SurpriseConfig
from wmreward.surprise.models import LoadedModel, ModelChoice, load
from wmreward.surprise.scorer import SurpriseScorer
from wmweights import WeightsError

NAME = "physics_repair"
TUNED_ON = 1_000
"""Added to the seed of the scenes when guidance is tuned."""

QUICK: dict[str, Any] = {
    "scenes": 4,
    "candidates": 4,
    "guided": 1,
    "nulls": 1,
    "tasks": ["video"],
    "settings": '{"num_steps": 8}',
    "guidance": '{"times": [0.15, 0.4]}',
    "stride": 8,
    "fewer_steps": 4,
    "workers": 0,
}


@dataclass(frozen=True)
class Models:
    """World models: the one that guides and chooses, another one, and one that has learned nothing."""

    guiding: LoadedModel
    second: LoadedModel | None
    untrained: WorldModel


def load_models(args: argparse.Namespace) -> Models:
    choice = ModelChoice(
        name=args.world_model, weights=args.weights, device=args.device, dtype=args.dtype
    )
    guiding = load(choice)
    second = None
    if args.second_weights:
        second = load(
            ModelChoice(
                name=args.second_model or args.world_model,
                weights=args.second_weights,
                device=args.device,
                dtype=args.dtype,
            )
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        untrained = build_model(get_config(args.world_model))
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
        return SurpriseScorer(loaded.model, config, batch_size=4 * self.args.windows)

    def answers(self, task: str) -> Answers:
        return Answers(self.clips, self.videos, TASKS[task], self.workers)

    def workshop(self, task: str, answers: Answers) -> Workshop:
        return Workshop(
            answers,
            self.judges,
            self.factory,
            self.settings,
            self.device,
            batch=self.args.batch,
            folder=self.args.parts and self.args.parts / task,
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
        return GuideMaker(settings, model, self.args.windows, direction, seed)  # type: ignore[arg-type]

    def variants(self) -> list[Variant]:
        """All that is generated, the most telling first."""
        args, guided = self.args, partial(self.maker, self.guidance)
        nulls = args.nulls
        strong, steps = args.previous_chunk, args.fewer_steps
        blurs = [
            Retouch(f"slight blur, {sigma} px", partial(blurred, sigma=sigma), nulls)
            for sigma in (0.5, 0.7)
        ]
        return [
            Variant(PLAIN, args.candidates, compare=True, retouches=blurs),
            Variant(GUIDED, args.guided or args.candidates, guide=guided, compare=True),
            Variant("guidance, random direction", nulls, guide=partial(guided, random=True)),
            Variant("guidance, untrained model", nulls, guide=partial(guided, untrained=True)),
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
            "guided_candidates": args.guided or args.candidates,
            "null_candidates": args.nulls,
            "seed": args.seed,
            "size": args.size,
            "rule": args.rule,
            "stride": args.stride,
            "generator": self.generator.describe(),
            "world_model": _described(models.guiding),
            "second": _described(models.second) if models.second else None,
            "guidance": asdict(self.guidance),
            "previous_chunk": args.previous_chunk,
            "fewer_steps": args.fewer_steps,
            **describe(self.device),
        }

    def run(self) -> Iterator[dict[str, Any]]:
        """The record so far: of plain candidates, with guided ones, with everything; and pictures."""
        record = self.head() | {"tasks": {}}
        for name in self.args.tasks:
            answers = self.answers(name)
            parts = control_parts(answers, self.judges, self.generator)
            workshop = self.workshop(name, answers)
            for variant in self.variants():
                parts |= workshop.make(variant)
                if variant.name in (PLAIN, GUIDED):
                    record["tasks"][name] = _task_record(parts, self.args.rule)
                    yield record
            record["tasks"][name] = _task_record(parts, self.args.rule)
            sheet, shown = pictures(strips_of(answers.truth[:SHOWN]), parts, self.args.rule)
            record["tasks"][name]["rows of the picture"] = shown
            if self.args.out:
                write_png(self.args.out / f"{NAME}_{name}.png", sheet)
            yield record

    def tune(self) -> Iterator[dict[str, Any]]:
        """The same of guidance settings, best first."""
        settings = grid()
        if self.args.grid:
            settings = [
                GuideSettings.from_json(one) for one in json.loads(self.args.grid.read_text())
            ]
        task = self.args.tasks[0]
        workshop = self.workshop(f"tuning_{task}", self.answers(task))
        for results in tune(workshop, self.args.nulls, settings, self.maker):
            yield self.head() | {"tasks": {}, "tuning": results}


def _task_record(parts: Mapping[str, Part], rule: str) -> dict[str, Any]:
    rows = build_rows(parts)
    plain = parts[PLAIN].values
    return {
        "rows": {
            name: row.to_json() | {"gap": {m: asdict(gap_closed(row, plain, m)) for m in GAPS}}
            for name, row in rows.items()
        },
        "comparisons": comparisons(rows, rule),
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


def _claim(folder: Path, head: Mapping[str, Any]) -> None:
    """Parts of other settings must not be mixed with these.

    Raises:
        WMRewardError: the folder belongs to a run with other settings.
    """
    file = folder / "settings.json"
    ours = json.loads(json.dumps(for_json(dict(head)), default=str))
    for key in ("machine", "rule"):
        ours.pop(key)
    if file.exists():
        theirs = json.loads(file.read_text())
        different = sorted(k for k in ours.keys() | theirs.keys() if ours.get(k) != theirs.get(k))
        if different:
            raise WMRewardError(
                f"{folder} holds parts of a run with another {', '.join(different)}; "
                "give another folder with --parts or --out, or delete this one"
            )
    else:
        write_text(file, json.dumps(ours, indent=2) + "\n")


def judge(args: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """Tables and record, also written to ``--out`` after every part."""
    _complete(args)
    text, record = "", {}
    with _workers(args.workers) as workers:
        bench = Bench(args, workers)
        if args.parts:
            _claim(args.parts, bench.head())
        name = f"{NAME}_tuning" if args.tune else NAME
        for found in bench.tune() if args.tune else bench.run():
            record = for_json(found)
            text = report(record)
            if args.tune:
                text = "\n\n".join((text, CRITERION, tuning_table(record["tuning"])))
            if args.out:
                write_text(args.out / f"{name}.md", text + "\n")
                write_text(args.out / f"{name}.json", json.dumps(record) + "\n")
    return text, record


def _complete(args: argparse.Namespace) -> None:
    """Defaults that depend on others, and checks.

    Raises:
        UsageError: numbers that do not go together.
    """
    if args.quick:
        for key, value in QUICK.items():
            setattr(args, key, value)
    if args.out and not args.parts:
        args.parts = args.out / "parts"
    cuda = torch.device(args.device).type == "cuda"
    if args.windows is None:
        args.windows = 64 if cuda else 4
    if args.workers is None:
        args.workers = max(1, (os.cpu_count() or 2) - 1)
    if not sets(args.candidates):
        raise UsageError(f"--candidates {args.candidates} must be a multiple of 4, 8 or 16")
    if not 1 <= args.nulls <= args.candidates or args.guided > args.candidates:
        raise UsageError("--nulls and --guided must not exceed --candidates")


def argument_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.physics_repair",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--quick", action="store_true", help="a few scenes and seeds, for a CPU")
    add("--tune", action="store_true", help="compare guidance settings, on other scenes")
    add("--grid", type=Path, help="with --tune: JSON list of guidance settings instead of our grid")
    add("--generator", default="benchmarks.shared.magi_generator:tiny", help="module:factory")
    add("--settings", default="{}", help="JSON arguments of the factory")
    add("--guidance", default="{}", help="JSON of benchmarks.physics_repair.guides.GuideSettings")
    add("--rule", default="seam", choices=CHOICES, help="of the comparisons, default %(default)s")
    add("--world_model", default="tiny", help="guides and chooses, default %(default)s")
    add("--weights", help="file or folder of its weights, if not its own")
    add("--second_weights", help="of a second, separately trained world model")
    add("--second_model", help="its name, if another than --world_model")
    add("--dtype", default="auto", help="of the world models; auto: bfloat16 on a GPU")
    add("--scenes", type=int, default=128, help="default %(default)s")
    add("--candidates", type=int, default=16, help="per scene, default %(default)s")
    add("--guided", type=int, default=0, help="guided ones per scene; 0: as many")
    add("--nulls", type=int, default=4, help="of each control per scene, default %(default)s")
    add("--tasks", nargs="*", default=list(TASKS), choices=TASKS, metavar="TASK")
    add("--previous_chunk", type=float, default=3.0, help="strong previous-chunk guidance")
    add("--fewer_steps", type=int, default=8, help="of the control, default %(default)s")
    add("--stride", type=int, default=2, help="of the windows that choose, default %(default)s")
    add("--size", type=int, default=64, help="of the videos, default %(default)s")
    add("--seed", type=int, default=0, help="of the scenes, default %(default)s")
    add("--batch", type=int, default=128, help="candidates at once, default %(default)s")
    add("--windows", type=int, help="differentiated at once, default 64 on a GPU, 4 on a CPU")
    add("--workers", type=int, help="processes for motion masks, default one less than cores")
    add("--out", type=Path, help="tables, numbers and pictures")
    add("--parts", type=Path, help="finished blocks, default parts/ in --out")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    try:
        text, record = judge(argument_parser().parse_args(argv))
    except (WMRewardError, MagiError, WeightsError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(text)
    print(json.dumps(record))
    return 0
