"""The flags of the repair benchmark."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

import torch

from benchmarks.physics_repair.answers import TASKS
from benchmarks.physics_repair.guides import ALSO
from benchmarks.physics_repair.scores import sets
from benchmarks.shared.flags import adding
from wmreward.errors import UsageError

QUICK: dict[str, Any] = {
    "scenes": 2,
    "candidates": 4,
    "guided": 1,
    "nulls": 1,
    "tasks": ["video"],
    "settings": '{"num_steps": 8}',
    "stride": 8,
    "fewer_steps": 4,
    "workers": 0,
}
QUICK_OUT = Path("outputs/repair_quick")


def argument_parser(description: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.physics_repair",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = adding(parser)
    add(
        "--quick",
        action="store_true",
        help="a few scenes and seeds, for a CPU: five lines, a picture",
    )
    add("--tune", action="store_true", help="compare guidance settings, on other scenes")
    add("--grid", type=Path, help="with --tune: JSON list of guidance settings instead of our grid")
    add("--generator", default="benchmarks.shared.magi_generator:tiny", help="module:factory")
    add("--settings", default="{}", help="JSON arguments of the factory")
    add("--guidance", default="{}", help="JSON of benchmarks.physics_repair.guides.GuideSettings")
    add("--rule", help="choice that is compared, default: that decided on for each task")
    add("--model", "--world_model", default="tiny", help="guides and chooses, default %(default)s")
    add("--weights", help="file or folder of its weights, if not its own")
    add("--second_weights", help="of a second, separately trained world model")
    add("--second_model", help="its name, if another than --model")
    add("--dtype", default="auto", help="of the world models; auto: bfloat16 on a GPU")
    add("--scenes", type=int, default=128, help="default %(default)s")
    add("--candidates", type=int, default=16, help="per scene, default %(default)s")
    add("--guided", type=int, default=0, help="guided ones per scene; 0: 16, or as many")
    add("--nulls", type=int, default=4, help="of each control per scene, default %(default)s")
    add("--tasks", nargs="*", default=list(TASKS), choices=TASKS, metavar="TASK")
    add("--previous_chunk", type=float, default=3.0, help="strong previous-chunk guidance")
    add("--fewer_steps", type=int, default=8, help="of the control, default %(default)s")
    add("--stride", type=int, default=2, help="of the windows of whole clips, default %(default)s")
    add("--size", type=int, default=64, help="of the videos, default %(default)s")
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
        help="differentiated at once, default 192 on a GPU, 4 on a CPU",
    )
    add("--workers", type=int, help="processes for motion masks, default one less than cores")
    add(
        "--also",
        default=json.dumps(ALSO),
        help="more guided rows: JSON of names and settings as --guidance has them, default two",
    )
    add(
        "--share", nargs=2, type=int, metavar=("K", "N"),
        help="make every Nth block of candidates from the Kth on, and no tables: a process for each GPU "
        "with the same --blocks, then the same command without --share",
    )  # fmt: skip
    add("--output", "--out", type=Path, help="tables, numbers and pictures")
    add("--blocks", "--parts", type=Path, help="finished blocks, default parts/ in --output")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return parser


def complete(args: argparse.Namespace) -> None:
    """Defaults that depend on others, and checks.

    Raises:
        UsageError: numbers that do not go together.
    """
    if args.quick:
        for key, value in QUICK.items():
            setattr(args, key, value)
        args.output = args.output or QUICK_OUT
    if args.output and not args.blocks and not args.quick:
        args.blocks = args.output / "parts"
    cuda = torch.device(args.device).type == "cuda"
    if args.grad_batch is None:
        args.grad_batch = 192 if cuda else 4
    if args.workers is None:
        args.workers = max(1, (os.cpu_count() or 2) - 1)
    if not sets(args.candidates):
        raise UsageError(f"--candidates {args.candidates} must be a multiple of 4, 8 or 16")
    if not 1 <= args.nulls <= args.candidates or args.guided > args.candidates:
        raise UsageError("--nulls and --guided must not exceed --candidates")
    args.guided = args.guided or min(16, args.candidates)
