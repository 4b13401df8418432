"""Does guidance of diffusers' pipelines lose anything against guidance in the generator's own loop?

    python -m benchmarks.pipeline_repair                     # 2 scenes, 2 candidates each: minutes on a CPU
    python -m benchmarks.pipeline_repair --scenes 32 --candidates 16 --device cuda

The embedded generator continues the videos of `benchmarks.physics_repair` in two ways, with the same seeds:
in MAGI-1's own loop, and as a pipeline of diffusers (`.pipeline`) inside `guide_pipeline`. New frames are one
chunk here, so both ways denoise all of them together and show rewards the same given frames before them. Then
both should make the same videos, up to rounding. How far they differ is told first for the videos, then for
every guided step, and last for the rows "plain", "guidance" and "best of N" of the repair table.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.generator_quality.report import for_json
from benchmarks.physics_repair.answers import TASKS, Answers
from benchmarks.physics_repair.guides import BEFORE, GuideMaker, GuideSettings
from benchmarks.physics_repair.parts import Factory, Part, Variant, Workshop
from benchmarks.physics_repair.rows import GUIDED, PLAIN, Row, build_rows
from benchmarks.physics_repair.scores import Judges, score_name, sets
from benchmarks.pipeline_repair import generator as diffusers_way
from benchmarks.shared import bootstrap, magi_generator
from benchmarks.shared.flags import adding
from benchmarks.shared.generators import Generator
from benchmarks.shared.held_out import HeldOut, held_out
from benchmarks.shared.machine import describe
from wmreward.errors import UsageError, WMRewardError
from wmreward.files import write_text
from wmreward.protocols import WorldModel
from wmreward.steering.guidance import GuidedStep
from wmreward.surprise.config import SurpriseConfig
from wmreward.surprise.models import ModelChoice, load
from wmreward.surprise.scorer import SurpriseScorer

NAME = "pipeline_repair"
WAYS: dict[str, Factory] = {"MAGI-1's loop": magi_generator.tiny, "diffusers": diffusers_way.tiny}
SEAM = score_name("top", "seam 1")
"""What chooses."""
MEASURED = ("physics", "position", "motion", "plain", SEAM)
"""Columns that are told."""


class Kept(Answers):
    """The same answers; what is generated is kept.

    Attributes:
        made: ``[n, S, 3, T, H, W]`` in [0, 1] of each batch, on the CPU.
    """

    def __init__(self, clips: HeldOut, videos: Tensor) -> None:
        super().__init__(clips, videos, TASKS["video"])
        self.made: list[Tensor] = []

    def generated(self, generator: Generator, rows: slice, seeds: Sequence[int]) -> Tensor:
        made = super().generated(generator, rows, seeds)
        self.made.append(made.cpu())
        return made


@dataclass(frozen=True)
class Found:
    """What one way made of all scenes.

    Attributes:
        parts: Plain and guided candidates, measured.
        videos: The candidates themselves, ``[N, S, 3, T, H, W]`` in [0, 1].
        steps: Every guided step.
    """

    parts: Mapping[str, Part]
    videos: Mapping[str, Tensor]
    steps: Sequence[GuidedStep]

    @property
    def rows(self) -> dict[str, Row]:
        """Those that are told."""
        rows = build_rows(self.parts, SEAM)
        seeds = self.parts[PLAIN].distance.shape[1]
        best = [f"best of {size} by {SEAM}" for size in sets(seeds)[-1:]]
        return {name: rows[name] for name in (PLAIN, GUIDED, *best)}


def found(
    factory: Factory, clips: HeldOut, videos: Tensor, model: WorldModel, args: argparse.Namespace
) -> Found:
    """Everything of one way."""
    makers: list[GuideMaker] = []

    def guide(seed: int) -> GuideMaker:
        makers.append(GuideMaker(GuideSettings(**BEFORE), model, args.grad_batch, seed=seed))
        return makers[-1]

    config = SurpriseConfig(stride=args.stride, score="top")
    judges = Judges(SurpriseScorer(model, config, batch_size=4 * args.grad_batch))
    parts: dict[str, Part] = {}
    made: dict[str, Tensor] = {}
    for variant in (
        Variant(PLAIN, args.candidates, compare=True),
        Variant(GUIDED, args.guided or args.candidates, guide=guide, compare=True),
    ):
        answers = Kept(clips, videos)
        settings = json.loads(args.settings)
        device = torch.device(args.device)
        workshop = Workshop(
            answers, judges, factory, settings, device, batch=args.candidate_batch, folder=None
        )
        parts |= workshop.make(variant)
        made[variant.name] = torch.cat(answers.made)
    return Found(parts, made, [step for maker in makers for step in maker.records])


def compared(own: Found, other: Found) -> dict[str, Any]:
    """How far two ways are apart."""
    record: dict[str, Any] = {"videos": {}, "rows": {}}
    for name, videos in own.videos.items():
        apart = (videos - other.videos[name]).abs()
        guided = (videos - own.videos[PLAIN][:, : videos.shape[1]]).abs()
        record["videos"][name] = {
            "most": apart.max().item(),
            "mean": apart.mean().item(),
            "mean change by guidance": guided.mean().item(),
        }
    record["steps"] = {
        "count": len(own.steps),
        **{
            name: max(
                abs(getattr(a, name) - getattr(b, name)) / abs(getattr(a, name))
                for a, b in zip(own.steps, other.steps, strict=True)
            )
            for name in ("before", "gradient_norm", "change")
        },
    }
    rows, others = own.rows, other.rows
    for name, row in rows.items():
        record["rows"][name] = {
            measure: {
                "own": asdict(bootstrap.difference(row.values[measure], row.against[measure])),
                "diffusers": asdict(
                    bootstrap.difference(
                        others[name].values[measure], others[name].against[measure]
                    )
                ),
                "apart": asdict(
                    bootstrap.difference(others[name].values[measure], row.values[measure])
                ),
                "level": bootstrap.mean(row.values[measure]).value,
            }
            for measure in MEASURED
        }
    return record


def report(record: Mapping[str, Any]) -> str:
    """For people."""
    lines = ["videos, in parts of the range of a pixel:"]
    for name, of in record["videos"].items():
        change = of["mean change by guidance"]
        told = f"; guidance changes them by {change:.2g} in the mean" if change else ""
        lines.append(
            f"  {name:10} differ by at most {of['most']:.2g}, {of['mean']:.2g} in the mean{told}"
        )
    steps = record["steps"]
    lines += [
        f"{steps['count']} guided steps, relative: reward before differs by at most {steps['before']:.2g}, "
        f"norm of the gradient by {steps['gradient_norm']:.2g}, size of the change by {steps['change']:.2g}",
        "",
        "| row | measure | MAGI-1's loop | diffusers | diffusers − loop |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, measures in record["rows"].items():
        for measure, of in measures.items():
            if name == PLAIN:
                cells = [f"{of['level']:.5g}", f"{of['level'] + of['apart']['value']:.5g}"]
            else:
                cells = [_interval(of["own"]), _interval(of["diffusers"])]
            apart = _interval(of["apart"])
            lines.append(f"| {name} | {measure} | {cells[0]} | {cells[1]} | {apart} |")
    lines += [
        "",
        "Plain rows are levels, others changes against plain; 95 % intervals over scenes.",
    ]
    return "\n".join(lines)


def _interval(of: Mapping[str, float]) -> str:
    return f"{of['value']:+.2g} [{of['low']:+.2g}, {of['high']:+.2g}]"


def judge(args: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """Table and record.

    Raises:
        UsageError: numbers that do not go together.
    """
    if not sets(args.candidates) and args.candidates != 2:
        raise UsageError(f"--candidates {args.candidates} must be 2, or a multiple of 4, 8 or 16")
    device = torch.device(args.device)
    loaded = load(ModelChoice(name="tiny", device=args.device, dtype="float32"))
    clips = held_out(args.scenes, args.seed)
    videos = clips.videos(device)
    ways = [found(factory, clips, videos, loaded.model, args) for factory in WAYS.values()]
    names = ("scenes", "candidates", "guided", "seed", "stride", "settings")
    head = {"benchmark": NAME, **describe(device)} | {name: getattr(args, name) for name in names}
    seconds = {
        way: {name: part.seconds for name, part in one.parts.items()}
        for way, one in zip(WAYS, ways, strict=True)
    }
    record = for_json(head | {"seconds": seconds} | compared(*ways))
    return report(record), record


def argument_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.pipeline_repair",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    cuda = torch.cuda.is_available()
    add = adding(parser)
    add("--scenes", type=int, default=2, help="default %(default)s")
    add("--candidates", type=int, default=2, help="per scene, default %(default)s")
    add("--guided", type=int, default=0, help="guided ones per scene; 0: as many")
    add("--settings", default="{}", help='of the generator, JSON, as {"num_steps": 8}')
    add("--stride", type=int, default=2, help="of the windows that choose, default %(default)s")
    add("--seed", type=int, default=0, help="of the scenes, default %(default)s")
    add(
        "--candidate_batch",
        "--batch",
        type=int,
        default=128,
        help="candidates at once, default %(default)s",
    )
    add(
        "--grad_batch",
        "--windows",
        type=int,
        default=64 if cuda else 4,
        help="differentiated at once",
    )
    add("--output", "--out", type=Path, help="folder for table and numbers")
    add("--device", default="cuda" if cuda else "cpu")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    args = argument_parser().parse_args(argv)
    try:
        text, record = judge(args)
    except WMRewardError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if args.output:
        write_text(args.output / f"{NAME}.md", text + "\n")
        write_text(args.output / f"{NAME}.json", json.dumps(record) + "\n")
    print(text)
    print(json.dumps(record))
    return 0
