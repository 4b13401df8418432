"""Possible against impossible videos that another simulator made and another library drew.

    python -m benchmarks.transfer                     # the embedded model; needs wmreward[dev]
    python -m benchmarks.transfer --pairs 4 --kinds kick vanish

The embedded world model has seen one simulator and one renderer only. Here pymunk moves things and
Pillow draws them, 128 pixels wide, 48 frames at 24 a second, and every video goes through H.264. A
pair counts as right if the impossible video gets the worse score (ties count half).
"""

from __future__ import annotations

import argparse
import json
import sys
import zlib
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from benchmarks.intuitive_physics.benchmark import summarise, table, untrained
from benchmarks.intuitive_physics.judges import Judge, baselines, world_model_judge
from benchmarks.shared.flags import adding
from benchmarks.shared.machine import describe
from benchmarks.transfer.drawing import draw, random_look
from benchmarks.transfer.scenes import FPS, FRAMES
from benchmarks.transfer.twins import KINDS, make_pair
from vjepa2 import load_model
from wmreward.video_io import read_frames, write_video

CRF = 23
"""x264's default quality."""
SIDES = ("possible", "impossible")


def film_pair(kind: str, number: int, seed: int, folder: Path) -> list[Path]:
    """The two videos of a pair, filmed unless they are there."""
    paths = [folder / f"{kind}_{seed}_{number:03}_{side}.mp4" for side in SIDES]
    if all(path.exists() for path in paths):
        return paths
    rng = np.random.default_rng([seed, zlib.crc32(kind.encode()), number])
    pair = make_pair(kind, rng)
    look = random_look(rng, len(pair.scene.bodies))
    for path, film in zip(paths, (pair.possible, pair.impossible), strict=True):
        write_video(path, draw(pair.scene, film, look, rng), FPS, crf=CRF)
    return paths


def load(path: Path) -> Tensor:
    """``[1, 3, T, 128, 128]`` in [−1, 1]."""
    frames = torch.from_numpy(read_frames(path, range(FRAMES)))
    return frames.permute(3, 0, 1, 2)[None].float() / 127.5 - 1


@torch.no_grad()
def judge_films(
    judges: Sequence[Judge],
    kinds: Sequence[str],
    pairs: int,
    seed: int,
    folder: Path,
    device: torch.device,
) -> dict[str, dict[str, tuple[Tensor, Tensor]]]:
    """Scores of the possible and the impossible videos, by rule and kind; higher = more surprising."""
    scores: dict[str, dict[str, tuple[list[Tensor], list[Tensor]]]] = {}
    folder.mkdir(parents=True, exist_ok=True)
    todo = [(kind, number) for kind in kinds for number in range(pairs)]
    for kind, number in tqdm(todo, desc="judging", disable=not sys.stderr.isatty()):
        for side, path in enumerate(film_pair(kind, number, seed, folder)):
            video = load(path).to(device)
            for judge in judges:
                for rule, score in judge(video).items():
                    of_kind = scores.setdefault(rule, {}).setdefault(kind, ([], []))
                    of_kind[side].append(score.cpu())
    return {
        rule: {kind: (torch.cat(a), torch.cat(b)) for kind, (a, b) in kinds_.items()}
        for rule, kinds_ in scores.items()
    }


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.transfer",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = adding(parser)
    add("--model", default="tiny", help="a model of the package, default %(default)s")
    add("--weights", help="weights to use instead of the model's own")
    add("--pairs", type=int, default=20, help="pairs per type, default %(default)s")
    add(
        "--kinds",
        nargs="+",
        default=list(KINDS),
        choices=KINDS,
        metavar="KIND",
        help="default all",
    )
    add("--seed", type=int, default=0, help="of the pairs, default %(default)s")
    add("--controls", action="store_true", help="also an untrained network and pixel baselines")
    add("--cache", type=Path, default=Path("outputs/transfer"), help="default %(default)s")
    add(
        "--output",
        "--out",
        type=Path,
        help="also write the table (.md) and the numbers (.json) here",
    )
    add(
        "--device",
        default="cuda" if torch.cuda.is_available() else "cpu",
        help="default %(default)s",
    )
    args = parser.parse_args(argv)
    if missing := [name for name in ("pymunk", "PIL") if find_spec(name) is None]:
        parser.error(f"this needs {' and '.join(missing)}: pip install 'wmreward[dev]'")
    device = torch.device(args.device)
    model, info = load_model(args.model, weights=args.weights, device=device)
    judges = [world_model_judge(model)]
    if args.controls:
        judges += [world_model_judge(untrained(args.model, device), prefix="untrained "), baselines]
    scores = judge_films(judges, args.kinds, args.pairs, args.seed, args.cache, device)
    record: dict[str, Any] = {
        "benchmark": "transfer",
        "model": args.model,
        "weights_sha256": info.sha256,
        "pairs": args.pairs,
        "seed": args.seed,
        **describe(device),
        "rules": {rule: summarise(kinds) for rule, kinds in scores.items()},
    }
    text = table(record["rules"], "transfer")
    print(text)
    if args.output:
        args.output.mkdir(parents=True, exist_ok=True)
        (args.output / "transfer.md").write_text(text + "\n")
        (args.output / "transfer.json").write_text(json.dumps(record) + "\n")
    print(json.dumps(record))
    return 0
