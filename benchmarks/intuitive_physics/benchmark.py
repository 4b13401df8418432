"""Does a reward know physics? Possible against impossible twins of the same simulated scene.

    python -m benchmarks.intuitive_physics                        # the embedded model and all baselines
    python -m benchmarks.intuitive_physics --pairs 20 --splits id # a quick look on a CPU
    python -m benchmarks.intuitive_physics --reward my_package.module:factory
    python -m benchmarks.intuitive_physics --judges geometry --blocks outputs/geometry  # can be stopped

A pair counts as right if the impossible video gets the worse score (ties count half). Scenes come
from unseen seeds of the training generator (``id``) and from outside its distribution (``ood``: other
shapes, sizes, textures, gravity, camera). Pairs are made on the CPU from a seed, so that every
machine judges the same videos.

``--reward`` names a factory without arguments; what it returns maps videos ``[B, 3, T, H, W]`` in
[−1, 1] to scores ``[B]``, higher = more plausible.

With ``--blocks`` what each judge says of some pairs is kept as soon as it is known. The same command goes
on from there, and one with other ``--judges`` adds theirs.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

import simworld
from benchmarks.intuitive_physics.conditions import CONDITIONS, Condition
from benchmarks.intuitive_physics.judges import (
    Judge,
    PairScores,
    baselines,
    by_ranks,
    geometry_judge,
    user_judge,
    world_model_judge,
)
from benchmarks.intuitive_physics.pair_statistics import auroc, wilson
from benchmarks.shared.claim import claim
from benchmarks.shared.flags import adding
from benchmarks.shared.machine import describe
from simworld import HIDDEN, VIOLATIONS, Pairs
from vjepa2 import WorldModel, build_model, get_config, load_model
from wmreward.errors import WMRewardError
from wmreward.files import atomic_path

FRAMES = 40
JUDGES = ("surprise", "geometry", "untrained_surprise", "untrained_geometry", "baselines")
"""What judges, unless ``--judges`` names some of them."""


def cached_pairs(
    folder: Path, split: simworld.Split, kinds: Sequence[str], count: int, seed: int
) -> list[Pairs]:
    """The evaluation pairs of every kind, from files if they were made before."""
    files = {kind: folder / f"{split}_{kind}_{count}_{seed}.safetensors" for kind in kinds}
    missing = [kind for kind, file in files.items() if not file.exists()]
    if missing:
        make = partial(_make_and_save, split=split, count=count, seed=seed)
        workers = min(len(missing), os.cpu_count() or 1)
        # Small-tensor work: one thread each is many times faster than all threads together.
        with ProcessPoolExecutor(
            workers, get_context("spawn"), partial(torch.set_num_threads, 1)
        ) as pool:
            done = pool.map(make, missing, [files[kind] for kind in missing])
            list(tqdm(done, desc=f"making {split} pairs", total=len(missing)))
    return [pairs for file in files.values() for pairs in simworld.load_pairs(file)]


def _make_and_save(kind: str, file: Path, *, split: simworld.Split, count: int, seed: int) -> None:
    simworld.save_pairs(file, [simworld.make_pairs(kind, count, split=split, seed=seed)])


@dataclass(frozen=True)
class View:
    """How the videos of a pair are shown to the judges.

    Attributes:
        device: Where they are rendered and judged.
        size: Side of the rendered picture in pixels.
        condition: What happens to them afterwards, see :mod:`benchmarks.intuitive_physics.conditions`.
    """

    device: torch.device
    size: int = 64
    condition: Condition = CONDITIONS["clean"]

    def videos(self, pairs: Pairs, seed: int) -> tuple[Tensor, Tensor]:
        """Possible and impossible ``[N, 3, T, size, size]`` in [−1, 1], each with noise of its own."""
        pairs = pairs.to(self.device)
        generator = simworld.make_generator(seed, f"noise/{pairs.kind}/{pairs.split}", self.device)
        videos = []
        for side in (pairs.possible, pairs.impossible):
            noise = simworld.sensor_noise(len(pairs), FRAMES, self.size, generator=generator)
            video = simworld.render(side, pairs.looks, size=self.size, frames=FRAMES, noise=noise)
            videos.append(self.condition(video * 2 - 1))
        return videos[0], videos[1]


@torch.no_grad()
def judge_pairs(
    judges: Mapping[str, Judge],
    groups: Sequence[Pairs],
    seed: int,
    view: View,
    batch: int,
    parts: Path | None = None,
) -> PairScores:
    """Scores of the possible and the impossible videos, by rule and kind; higher = more surprising.

    Args:
        judges: By name.
        groups: Pairs of one kind each.
        seed: Of the noise.
        view: How they are shown.
        batch: Pairs at once, in a part.
        parts: A folder where what was judged is kept, and found again; None: nowhere.
    """
    scores: dict[str, dict[str, list[tuple[Tensor, Tensor]]]] = {}
    for pairs in tqdm(groups, desc="judging", disable=not sys.stderr.isatty()):
        for start in range(0, len(pairs), batch):
            stop = min(start + batch, len(pairs))
            part = pairs[list(range(start, stop))]
            videos = cache(partial(view.videos, part, seed + start))
            for name, judge in judges.items():
                words = f"{name}_{pairs.split}_{pairs.kind}_{start:05d}-{stop:05d}.pt"
                found = _judged(judge, videos, parts and parts / words)
                for rule, sides in found.items():
                    scores.setdefault(rule, {}).setdefault(pairs.kind, []).append(sides)
    return {
        rule: {
            kind: (torch.cat([p for p, _ in found]), torch.cat([i for _, i in found]))
            for kind, found in kinds.items()
        }
        for rule, kinds in scores.items()
    }


def _judged(
    judge: Judge, videos: Callable[[], tuple[Tensor, Tensor]], file: Path | None
) -> dict[str, tuple[Tensor, Tensor]]:
    """What a judge says of both sides, by rule; from the file if that is there, else into it."""
    if file and file.exists():
        stored: dict[str, tuple[Tensor, Tensor]] = torch.load(file, weights_only=True)
        return stored
    possible, impossible = map(judge, videos())
    found = {rule: (score.cpu(), impossible[rule].cpu()) for rule, score in possible.items()}
    if file:
        with atomic_path(file) as temporary:
            torch.save(found, temporary)
    return found


def summarise(kinds: Mapping[str, tuple[Tensor, Tensor]]) -> dict[str, Any]:
    """Accuracy with its 95 % interval and AUROC, by kind and over all, of one rule."""
    by_kind: dict[str, dict[str, Any]] = {}
    all_right = 0.0
    for kind, (possible, impossible) in kinds.items():
        right = (impossible > possible).double().sum() + 0.5 * (
            impossible == possible
        ).double().sum()
        all_right += right.item()
        low, high = wilson(right.item(), len(possible))
        by_kind[kind] = {
            "accuracy": right.item() / len(possible),
            "interval": [low, high],
            "auroc": auroc(impossible, possible),
        }

    def mean(names: list[str]) -> float | None:
        return sum(by_kind[k]["accuracy"] for k in names) / len(names) if names else None

    return {
        "accuracy": mean(list(by_kind)),
        "interval": list(wilson(all_right, sum(len(possible) for possible, _ in kinds.values()))),
        "accuracy_visible": mean([k for k in by_kind if k not in HIDDEN]),
        "accuracy_hidden": mean([k for k in by_kind if k in HIDDEN]),
        "pooled_auroc": auroc(
            torch.cat([i for _, i in kinds.values()]), torch.cat([p for p, _ in kinds.values()])
        ),
        "kinds": by_kind,
    }


@torch.no_grad()
def frozen_future(
    judge: Judge, groups: list[Pairs], seed: int, device: torch.device, window: int = 16
) -> dict[str, dict[str, float]]:
    """The true future against a frozen copy of the last context frame, in one window of moving scenes.

    ``preferred`` is the share of scenes in which the true future has the lower surprise.
    """
    generator = simworld.make_generator(seed, "noise/frozen", device)
    true, frozen = [], []
    for pairs in groups:
        if pairs.kind not in ("teleport", "kick", "gravity_flip", "hover_stop"):
            continue  # in these, object 0 is known to be in view and moving
        possible, _ = View(device).videos(pairs, seed)
        first = pairs.violation_frame.to(device) - window // 2
        index = first[:, None] + torch.arange(window, device=device)
        rows = torch.arange(len(possible), device=device)[:, None]
        clip = possible.transpose(1, 2)[rows, index.clamp(0, FRAMES - 1)]  # [N, w, 3, H, W]
        stopped = clip.clone()
        # New sensor noise: an exact copy would be unmistakable.
        stopped[:, window // 2 :] = clip[:, window // 2 - 1 : window // 2]
        still = stopped[:, window // 2 :]
        still += 0.01 * torch.randn(still.shape, generator=generator, device=device)
        true.append(judge(clip.transpose(1, 2)))
        frozen.append(judge(stopped.transpose(1, 2)))
    out = {}
    for rule in true[0] if true else ():
        a, b = (torch.cat([part[rule] for part in side]) for side in (true, frozen))
        out[rule] = {
            "true": a.mean().item(),
            "frozen": b.mean().item(),
            "preferred": (a < b).double().mean().item(),
        }
    return out


def table(results: dict[str, dict[str, Any]], split: str) -> str:
    """Markdown: a row per kind, a column per rule; then averages."""
    rules = list(results)
    lines = [
        f"| {split}: % of pairs right | " + " | ".join(rules) + " |",
        "| --- |" + " --- |" * len(rules),
    ]
    for kind in results[rules[0]]["kinds"]:
        cells = []
        for rule in rules:
            entry = results[rule]["kinds"][kind]
            low, high = entry["interval"]
            cells.append(f"{100 * entry['accuracy']:.0f} ± {50 * (high - low):.0f}")
        hidden = " (hidden)" if kind in HIDDEN else ""
        lines.append(f"| {kind}{hidden} | " + " | ".join(cells) + " |")
    for name, key in (
        ("**mean of all types**", "accuracy"),
        ("mean of visible types", "accuracy_visible"),
        ("mean of hidden types", "accuracy_hidden"),
        ("pooled AUROC", "pooled_auroc"),
    ):
        values = [results[rule][key] for rule in rules]
        cells = ["" if value is None else f"{100 * value:.1f}" for value in values]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def untrained(name: str, device: torch.device) -> WorldModel:
    torch.manual_seed(0)
    return build_model(get_config(name)).to(device).requires_grad_(False)


def judges_of(names: Sequence[str], model: WorldModel, nothing: WorldModel) -> dict[str, Judge]:
    """Those of :data:`JUDGES` that are named, by a model and by an untrained one."""
    every = {
        "surprise": world_model_judge(model),
        "geometry": geometry_judge(model),
        "untrained_surprise": world_model_judge(nothing, prefix="untrained "),
        "untrained_geometry": geometry_judge(nothing, prefix="untrained "),
        "baselines": baselines,
    }
    return {name: every[name] for name in JUDGES if name in names}


def _factory(path: str) -> Callable[[Tensor], Tensor]:
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)()


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.intuitive_physics",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = adding(parser)
    add("--model", default="tiny", help="a model of the package, default %(default)s")
    add("--weights", help="weights to use instead of the model's own")
    add("--reward", help="module:factory of another reward, judged beside the model")
    add("--splits", nargs="+", default=["id", "ood"], choices=["id", "ood"], help="default id ood")
    add("--pairs", type=int, default=200, help="pairs per type and split, default %(default)s")
    add(
        "--kinds",
        nargs="+",
        default=VIOLATIONS,
        choices=VIOLATIONS,
        metavar="KIND",
        help="default all",
    )
    add(
        "--judges",
        nargs="+",
        default=JUDGES,
        choices=JUDGES,
        metavar="JUDGE",
        help=f"of {', '.join(JUDGES)}; default all",
    )
    add("--condition", default="clean", choices=CONDITIONS, help="default %(default)s")
    add("--size", type=int, default=64, help="of the rendered videos, default %(default)s")
    add("--seed", type=int, default=0, help="of the pairs, default %(default)s")
    add("--cache", type=Path, default=Path("outputs/pairs"), help="default %(default)s")
    add(
        "--blocks",
        "--parts",
        type=Path,
        help="a folder where what was judged is kept, and found again",
    )
    add(
        "--render_batch",
        "--batch",
        type=int,
        default=50,
        help="pairs rendered at once, default %(default)s",
    )
    add(
        "--output",
        "--out",
        type=Path,
        help="also write the tables (.md) and the numbers (.json) here",
    )
    add(
        "--device",
        default="cuda" if torch.cuda.is_available() else "cpu",
        help="default %(default)s",
    )
    args = parser.parse_args(argv)
    device = torch.device(args.device)
    view = View(device, args.size, CONDITIONS[args.condition])
    model, info = load_model(args.model, weights=args.weights, device=device)
    judges = judges_of(args.judges, model, untrained(args.model, device))
    if args.reward:
        judges["user"] = user_judge(_factory(args.reward), args.reward)
    record: dict[str, Any] = {
        "benchmark": "intuitive_physics",
        "model": args.model,
        "weights_sha256": info.sha256,
        "pairs": args.pairs,
        "seed": args.seed,
        "condition": args.condition,
        "size": args.size,
    }
    if args.blocks:
        of_parts = {"reward": args.reward, "batch": args.render_batch, "device": device.type}
        try:
            claim(args.blocks, record | of_parts, "--blocks")
        except WMRewardError as error:
            parser.error(str(error))
    record |= describe(device)
    tables = []
    for split in args.splits:
        groups = cached_pairs(args.cache, split, args.kinds, args.pairs, args.seed)
        scores = judge_pairs(judges, groups, args.seed, view, args.render_batch, args.blocks)
        for prefix in ("", "untrained "):
            scores = {**scores, **by_ranks(scores, prefix)}
        record[split] = {rule: summarise(kinds) for rule, kinds in scores.items()}
        if "surprise" in judges:
            record[f"{split}_frozen_future"] = frozen_future(
                judges["surprise"], groups, args.seed, device
            )
        tables.append(table(record[split], split))
    text = "\n\n".join(tables)
    print(text)
    for split in args.splits if "surprise" in judges else ():
        print(
            f"\n{split}: surprise of the true future, of a frozen one, share that prefers the true one"
        )
        for rule, row in record[f"{split}_frozen_future"].items():
            print(
                f"  {rule:24} {row['true']:.4f}  {row['frozen']:.4f}  {100 * row['preferred']:.1f} %"
            )
    if args.output:
        args.output.mkdir(parents=True, exist_ok=True)
        (args.output / "intuitive_physics.md").write_text(text + "\n")
        (args.output / "intuitive_physics.json").write_text(json.dumps(record) + "\n")
    print(json.dumps(record))
    return 0
