"""Look at scenes, or at pairs of a possible video and its impossible twin.

    python -m simworld --output /tmp/scenes
    python -m simworld --kind vanish --seed 3 --output /tmp/vanish

Writes contact_sheet.png (one row per video; for pairs the possible above the impossible one) and
one mp4 per row.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import torch
from torch import Tensor

from simworld.batch import make_generator
from simworld.looks import sample_looks
from simworld.media import contact_sheet, write_mp4, write_png
from simworld.pairs import make_pairs
from simworld.physics import simulate
from simworld.render import render, sensor_noise
from simworld.scenes import SCENARIO_NAMES, Split
from simworld.staging import sample_scenes
from simworld.twins import VIOLATIONS
from wmfiles import available_memory
from wmfiles.amounts import BYTES, amount

FLOAT_BYTES = 4


class _Help(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Shows defaults and keeps the line breaks of the description."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m simworld",
        description=__doc__,
        formatter_class=_Help,
    )
    add = parser.add_argument
    add("--kind", choices=VIOLATIONS, default=None, help="violation; without it, plain scenes")
    add("--scenario", choices=SCENARIO_NAMES, default=None, help="only this kind of plain scenes")
    add("--split", choices=get_args(Split), default="id", help="distribution of scenes and looks")
    add("--seed", type=int, default=0, help="seed of scenes, looks and noise")
    add("--count", type=int, default=4, help="number of scenes or pairs")
    frames = add("--num_frames", "--frames", type=int, default=40, help="length of the videos")
    add("--size", type=int, default=64, help="height and width in pixels")
    add("--every", type=int, default=2, help="show every n-th frame in the contact sheet")
    output = add("--output", "--out", type=Path, required=True, help="folder for the results")
    for renamed in (frames, output):  # earlier names work, and are not listed
        renamed.option_strings = renamed.option_strings[:1]
    return parser


def _draw_rows(args: argparse.Namespace) -> tuple[list[str], Tensor]:
    """Names and videos [R, 3, T, H, W] of all rows."""
    generator = make_generator(args.seed, "noise")
    noise = sensor_noise(args.count, args.num_frames, args.size, generator=generator)
    if args.kind is None:
        scenes = sample_scenes(args.count, split=args.split, seed=args.seed, scenario=args.scenario)
        looks = sample_looks(args.count, split=args.split, seed=args.seed)
        names = [SCENARIO_NAMES[i] for i in scenes.scenario.tolist()]
        sides = [simulate(scenes, args.num_frames)]
    else:
        pairs = make_pairs(
            args.kind, args.count, split=args.split, seed=args.seed, frames=args.num_frames
        )
        looks = pairs.looks
        names = [f"{args.kind}_at_{frame}" for frame in pairs.violation_frame.tolist()]
        sides = [pairs.possible, pairs.impossible]
    videos = [
        render(side, looks, size=args.size, frames=args.num_frames, noise=noise) for side in sides
    ]
    endings = [""] if len(sides) == 1 else ["_possible", "_impossible"]
    labels = [f"{i:02d}_{name}{end}" for i, name in enumerate(names) for end in endings]
    return labels, torch.stack(videos, dim=1).flatten(0, 1)


def _too_much(args: argparse.Namespace) -> str:
    """What is wrong with numbers that no memory holds, or that nothing can be made of; else nothing."""
    for name in ("count", "num_frames", "size", "every"):
        if getattr(args, name) < 1:
            return f"--{name} must be a whole number from 1 on"
    sides, there = 1 if args.kind is None else 2, available_memory()
    picture = 3 * args.size**2 * FLOAT_BYTES * args.count * (2 * sides + 1)  # drawn, joined; noise
    if there is None or picture * args.num_frames <= there:
        return ""
    needed, fit = amount(picture * args.num_frames, BYTES, ".1f"), there // picture
    advice = f"up to {fit} frames fit (--num_frames)" if fit else "lower --count or --size"
    return f"these videos need {needed} of memory, but {amount(there, BYTES, '.1f')} are there: {advice}"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = _parser()
    args = parser.parse_args(argv)
    if trouble := _too_much(args):
        parser.error(trouble)
    labels, videos = _draw_rows(args)
    args.output.mkdir(parents=True, exist_ok=True)
    write_png(args.output / "contact_sheet.png", contact_sheet(videos, every=args.every))
    for label, video in zip(labels, videos, strict=True):
        write_mp4(args.output / f"{label}.mp4", video)
    print(f"wrote contact_sheet.png and {len(labels)} videos to {args.output}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
