"""Time and memory of a plain and of a guided step of diffusers' video pipelines, at real sizes.

    python -m benchmarks.bench_pipelines --models wan-1.3b                # on a GPU, random weights, 480p
    python -m benchmarks.bench_pipelines --models nano --device cpu --reward_model tiny

Each pipeline makes a video in two steps, three times: to warm up, plain, and with the second step guided; the
second step is what is timed. The reward is the surprise of a world model with random weights, in windows of
16 frames, 8 apart. Memory is the most that was allocated in a whole call, the last decoding included. Time
and memory depend on sizes only, so random weights tell the truth. Where memory runs out, guidance gives up
what it can, while warming up, and the table says what. Results go to standard output: a table, then one JSON
line.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any

import torch

from benchmarks.bench_pipelines.models import MODELS, Model
from benchmarks.bench_reward import random_model
from benchmarks.shared.machine import describe
from vjepa2 import get_config
from wmreward.pipelines import guide_pipeline
from wmreward.pipelines.decoding import Economy
from wmreward.rewards.world import SurpriseReward
from wmreward.steering.guidance import GuidanceConfig
from wmreward.steering.schedule import GuidanceSchedule
from wmreward.surprise.config import SurpriseConfig
from wmreward.surprise.scorer import SurpriseScorer

STEPS = 2
GIB = 2**30


@dataclass
class Clock:
    """Told of every step by the pipeline; keeps how long each took."""

    device: torch.device

    def __post_init__(self) -> None:
        self.times = [self._now()]

    def __call__(
        self, pipe: Any, step: int, timestep: Any, values: dict[str, Any]
    ) -> dict[str, Any]:
        self.times.append(self._now())
        return values

    @property
    def last_step(self) -> float:
        return self.times[-1] - self.times[-2]

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


def measured(
    name: str, model: Model, reward: SurpriseReward, args: argparse.Namespace
) -> dict[str, Any]:
    """The row of one pipeline."""
    device, dtype = torch.device(args.device), getattr(torch, args.dtype)
    begun = time.perf_counter()
    pipe = model.make(device, dtype)
    print(f"{name}: made in {time.perf_counter() - begun:.0f} s", file=sys.stderr, flush=True)
    call = model.call(device, dtype, STEPS)
    height, width, frames = model.size
    weights = sum(p.nbytes for part in (pipe.transformer, pipe.vae) for p in part.parameters())
    row: dict[str, Any] = {
        "model": name,
        "size": [height, width, frames],
        "weights_gib": weights / GIB,
    }

    def run(economy: Economy | None = None) -> dict[str, Any]:
        config = GuidanceConfig(schedule=GuidanceSchedule((0.0, args.scale)), keep="edges")
        guiding = (
            nullcontext()
            if economy is None
            else guide_pipeline(pipe, reward, config, economy=economy)
        )
        if device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device)
        clock = Clock(device)
        generator = torch.Generator().manual_seed(0)
        try:
            with guiding as guided:
                pipe(**call, generator=generator, callback_on_step_end=clock, output_type="pt")
        except torch.OutOfMemoryError:
            return {"seconds": None, "peak_gib": None}
        peak = torch.cuda.max_memory_allocated(device) / GIB if device.type == "cuda" else None
        found: dict[str, Any] = {"seconds": clock.last_step, "peak_gib": peak}
        if guided is not None:
            assert guided.effect.steps == 1, "the step was not guided"
            found |= {
                "economy": economy_of(guided.economy),
                "guidance_s": guided.records[0].seconds,
            }
        return found

    economy = Economy(on_host=args.on_host, pieces=args.pieces, scored=args.scored)
    run(economy)
    row["plain"] = run()
    row["guided"] = run(economy)
    return row


def economy_of(economy: Economy) -> dict[str, Any]:
    """What was given up, and the errors of frames decoded in parts."""
    return {
        "on_host": economy.on_host,
        "pieces": economy.pieces,
        "scored": economy.scored,
        "error": max(economy.errors, default=None),
    }


def told(row: dict[str, Any]) -> str:
    """A line of the table."""
    cells = [f"{row['model']:14}", f"{'×'.join(map(str, row['size'])):13}"]
    for who in ("plain", "guided"):
        seconds, peak = row[who]["seconds"], row[who]["peak_gib"]
        cells.append("out of memory".rjust(13) if seconds is None else f"{seconds:10.2f} s ")
        cells.append(f"{peak:8.1f} GiB" if peak else " " * 12)
    plain, guided = row["plain"], row["guided"]
    if plain["seconds"] and guided["seconds"]:
        cells.append(f"× {guided['seconds'] / plain['seconds']:.2f} time")
        if plain["peak_gib"]:
            cells.append(f"× {guided['peak_gib'] / plain['peak_gib']:.2f} memory")
        given_up = [f"{k} {v}" for k, v in guided["economy"].items() if v]
        cells.append(", ".join(given_up))
    return "  ".join(cells).rstrip()


def main(argv: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    device = torch.device(args.device)
    head = describe(device) | {"diffusers": version("diffusers")}
    print("  ".join(f"{key} {value}" for key, value in head.items()), file=sys.stderr)
    config = get_config(args.reward_model)
    world = random_model(config, device).to(getattr(torch, args.dtype))
    scorer = SurpriseScorer(world, SurpriseConfig(stride=8, score="top"))
    scorer.grad_batch_size = args.grad_batch
    rows = []
    print(
        f"{'model':14}  {'size':13}  {'plain step':>12}  {'peak':>11}  {'guided step':>12}  {'peak':>11}"
    )
    for name in args.models:
        model = MODELS[name]
        if args.size:
            model = replace(model, size=tuple(args.size))
        rows.append(measured(name, model, SurpriseReward(scorer), args))
        print(told(rows[-1]), flush=True)
        if device.type == "cuda":
            torch.cuda.empty_cache()
    settings = {key: getattr(args, key) for key in ("reward_model", "dtype", "scale", "grad_batch")}
    print(json.dumps({"benchmark": "pipelines", **head, **settings, "rows": rows}))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.bench_pipelines",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    default = "cuda" if torch.cuda.is_available() else "cpu"
    add = parser.add_argument
    add(
        "--models",
        nargs="+",
        choices=MODELS,
        default=["wan-1.3b"],
        metavar="NAME",
        help=", ".join(MODELS),
    )
    add(
        "--size", nargs=3, type=int, metavar=("H", "W", "FRAMES"), help="instead of the model's own"
    )
    add("--device", default=default)
    add("--dtype", default="bfloat16", choices=("bfloat16", "float32"))
    add("--reward_model", default="vitg", help="world model (default: vitg)")
    add("--grad_batch", type=int, default=4, help="windows differentiated at once (default: 4)")
    add("--scale", type=float, default=0.15, help="of guidance (default: 0.15)")
    add("--on_host", action="store_true", help="the decoder's checkpoints wait in host memory")
    add("--pieces", type=int, metavar="N", help="latent frames whose gradient is taken at once")
    add("--scored", type=int, metavar="N", help="latent frames that are scored at a step")
    return parser
