"""How good is a video generator at simulated physics? Continuations, prompts, images, and its autoencoder.

    python -m benchmarks.generator_quality                                   # the controls alone
    python -m benchmarks.generator_quality --generator my_package.module:factory
    python -m benchmarks.generator_quality --generator m:f --settings '{}' --settings '{"steps": 8}'

Videos are continued on unseen scenes and compared with what the simulator goes on to do; the controls
are a frozen last frame and extrapolations of the true state. Errors of the pixels that move (`motion`,
`union`) reward blur and erasure, errors of objects (`position`, with 0.35 for a missing one) do not:
read them together with `miss`, `sharp` and `placed` (the position of those found). Prompts are judged by
a detector of coloured objects, whose own accuracy on true clips is in the same table, beside how often
the opposite of each word is obeyed: as often as the word itself by what ignores it.

``--generator`` names a factory: called with ``device=`` and the settings, it returns a
:class:`benchmarks.shared.generators.Generator`. Several ``--settings`` are compared with the first, pairwise.
Scenes are made on the CPU from a seed, so that every machine judges the same ones.
"""

from __future__ import annotations

import argparse
import importlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.generator_quality.prompting import Prompting
from benchmarks.generator_quality.report import for_json, report
from benchmarks.shared import bootstrap, video_measures
from benchmarks.shared.bootstrap import Values
from benchmarks.shared.continuation import ERRORS, MEASURES, TASKS, Examination
from benchmarks.shared.flags import adding
from benchmarks.shared.generators import Generator, checked
from benchmarks.shared.held_out import held_out
from benchmarks.shared.machine import describe
from simworld.media import contact_sheet, write_png

COPY = "copy last frame"
_SHOWN = 6


def _differences(values: Values, others: Values) -> dict[str, Any]:
    return {name: asdict(bootstrap.difference(values[name], others[name])) for name in MEASURES}


def _ratios(values: Values, copied: Values, decoded: Values) -> dict[str, Any]:
    """Against the frozen frame, and against what the autoencoder makes of the truth."""
    pairs = {
        "motion / copy": (values["motion"], copied["motion"]),
        "union / copy": (values["union"], copied["union"]),
        "position / copy": (values["position"], copied["position"]),
        "sharp / decoded truth": (values["sharp"], decoded["sharp"]),
    }
    return {name: asdict(bootstrap.ratio(*pair)) for name, pair in pairs.items()}


def _spread(values: Values) -> dict[str, dict[str, float]]:
    """How the seeds of a scene differ, and what the best and the worst of them would score."""
    out = {}
    for name in MEASURES:
        spread = bootstrap.spread(values[name])
        best, worst = spread.low, spread.high
        if name not in ERRORS:
            best, worst = worst, best
        mean = values[name].nanmean().item()
        out[name] = {
            "std": spread.std, "mean_std": spread.mean_std, "best": best, "mean": mean, "worst": worst,
        }  # fmt: skip
    return out


def judge_continuation(
    examination: Examination, generators: dict[str, Generator], seeds: int, batch: int
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Estimates for generators and controls in one task; the compared frames, by name, to look at."""
    truth, controls = examination.videos[:, :, examination.task.first :], examination.controls()
    shown = {"truth": truth, COPY: controls[COPY]}
    results = {
        name: examination.mark(video) for name, video in ({"truth": truth} | controls).items()
    }
    others = [*controls, *list(generators)[1:]]
    ratios = {}
    for name, generator in generators.items():
        decoded = examination.mark(examination.reconstructed(generator, batch))
        results[f"{name}: truth, decoded"] = decoded
        results[name], shown[name] = examination.mark_generator(generator, seeds, batch)
        ratios[name] = _ratios(results[name], results[COPY], decoded)
    first = next(iter(generators), None)
    record = {
        "seeds": seeds,
        "rows of the picture": list(shown),
        "methods": {name: bootstrap.means(values) for name, values in results.items()},
        "differences": {
            f"{first} − {other}": _differences(results[first], results[other])
            for other in others
            if first
        },
        "ratios": ratios,
        "spread": {name: _spread(results[name]) for name in generators if seeds > 1},
    }
    return record, shown


def judge_autoencoder(videos: Tensor, generator: Generator, batch: int) -> dict[str, Any]:
    """PSNR of all true frames, decoded."""
    values: dict[str, list[Tensor]] = {"psnr": [], "moving psnr": [], "image psnr": []}
    for part in videos.split(batch):
        decoded = checked(generator.reconstruct(part), part.shape, part.device)
        values["psnr"].append(video_measures.psnr(decoded, part))
        values["moving psnr"].append(video_measures.moving_psnr(decoded, part))
        image = part[:, :, :1]
        decoded = checked(generator.reconstruct(image), image.shape, part.device)
        values["image psnr"].append(video_measures.psnr(decoded, image))
    return bootstrap.means({name: torch.cat(parts) for name, parts in values.items()})


def picture(examination: Examination, shown: dict[str, Tensor], every: int = 4) -> Tensor:
    """A sheet [3, H, W] of the first scenes in which something moves: a row per scene and video."""
    moves = examination.mark(shown[COPY])["sharp"].isfinite()
    rows = moves.nonzero().flatten()[:_SHOWN]
    before = examination.videos[rows][:, :, : examination.task.first]
    videos = [torch.cat((before, video[rows]), dim=2) for video in shown.values()]
    return contact_sheet(torch.stack(videos, dim=1).flatten(0, 1).cpu(), every=every)


def _factory(path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


def load_generators(
    path: str | None, settings: Sequence[str], device: torch.device
) -> dict[str, Generator]:
    """One generator for each of the settings, under the name of its settings.

    Each of ``settings`` is JSON: an object, or a list of them.
    """
    if path is None:
        return {}
    factory = _factory(path)
    parsed = [json.loads(text) for text in settings or ["{}"]]
    listed = [some if isinstance(some, list) else [some] for some in parsed]
    return {
        f"generator {json.dumps(own)}" if own else "generator": factory(device=device, **own)
        for some in listed
        for own in some
    }


@torch.no_grad()
def run(args: argparse.Namespace) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The record, and a picture for each task."""
    device = torch.device(args.device)
    generators = load_generators(args.generator, args.settings, device)
    clips = held_out(args.scenes, args.seed)
    videos = clips.videos(device, size=args.size)
    record: dict[str, Any] = {
        "benchmark": "generator_quality",
        "generators": {name: generator.describe() for name, generator in generators.items()},
        "scenes": args.scenes,
        "seeds": args.candidates,
        "other_seeds": args.other_candidates,
        "seed": args.seed,
        "size": args.size,
        **describe(device),
        "autoencoder": {
            name: judge_autoencoder(videos, generator, args.candidate_batch)
            for name, generator in generators.items()
        },
        "continuation": {},
        "prompts": {},
        "steering": {},
    }
    pictures = {}
    for name in args.tasks:
        examination = Examination(clips, videos, TASKS[name])
        seeds = args.candidates if name == next(iter(TASKS)) else args.other_candidates
        record["continuation"][name], shown = judge_continuation(
            examination, generators, seeds, args.candidate_batch
        )
        pictures[name] = picture(examination, shown)
    if args.prompts:
        # More scenes than are needed: not every one fits a prompt of the kind that is asked for.
        pool = held_out(6 * args.prompts, args.seed + 1)
        prompting = Prompting(pool, args.prompts, args.size, device)
        record["prompts"] = prompting.from_text(
            generators, args.other_candidates, args.candidate_batch
        )
        record["steering"] = prompting.from_image(
            generators, args.other_candidates, args.candidate_batch
        )
    return for_json(record), pictures


def argument_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.generator_quality",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = adding(parser)
    add("--generator", help="module:factory of what is judged; without it, the controls alone")
    add(
        "--settings",
        action="append",
        help="JSON arguments of the factory, or a list of such; may be repeated",
    )
    add("--scenes", type=int, default=128, help="scenes to continue, default %(default)s")
    add(
        "--candidates",
        "--seeds",
        type=int,
        default=16,
        help="per scene, 24 → 24 frames, default %(default)s",
    )
    add(
        "--other_candidates",
        "--other_seeds",
        type=int,
        default=4,
        help="per scene elsewhere, default %(default)s",
    )
    add(
        "--tasks", nargs="*", default=list(TASKS), choices=TASKS, metavar="TASK", help="default all"
    )
    add("--prompts", type=int, default=128, help="true clips with prompts; 0: no prompts at all")
    add("--size", type=int, default=64, help="of the videos, default %(default)s")
    add("--seed", type=int, default=0, help="of the scenes, default %(default)s")
    add(
        "--candidate_batch",
        "--batch",
        type=int,
        default=64,
        help="videos generated at once, default %(default)s",
    )
    add("--output", "--out", type=Path, help="also write the tables, the numbers and pictures here")
    add(
        "--device",
        default="cuda" if torch.cuda.is_available() else "cpu",
        help="default %(default)s",
    )
    return parser


def judge(args: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """Tables and record, also written to ``--output``."""
    record, pictures = run(args)
    text = report(record)
    if args.output:
        args.output.mkdir(parents=True, exist_ok=True)
        (args.output / "generator_quality.md").write_text(text + "\n")
        (args.output / "generator_quality.json").write_text(json.dumps(record) + "\n")
        for name, sheet in pictures.items():
            file = "_".join(name.replace("→", "to").split())
            write_png(args.output / f"{file}.png", sheet)
    return text, record


def main(argv: list[str] | None = None) -> int:
    text, record = judge(argument_parser().parse_args(argv))
    print(text)
    print(json.dumps(record))
    return 0
