"""Does a smaller video say where guidance should go? `Economy(shrink=2)` on a decoder that was trained.

    python -m benchmarks.pipeline_repair.shrunk --size 128        # a minute or two of one core

Simulated scenes are encoded by the embedded generator's VAE. Their surprise is differentiated through the
exact decoding and through that of shrunk latents, edges kept, as guidance does it. Told are: how far the
smaller frames are from the exact ones, resized (relative RMS); the cosine of both gradients; and how much the
*exact* reward rises when the latents go a small way, the same for all, along each gradient and along a random
direction. Besides the latents of a scene there are means of those of two, as an estimate in the middle of
denoising is a mean of what the video may become.

Scenes may be larger than the 64 pixels that generator, VAE and world model were trained with: the world model
resizes them, as it does with the large videos of real pipelines, and the VAE decodes them as well.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.physics_repair.guides import BEFORE, GuideSettings
from benchmarks.pipeline_repair.pipeline import MagiContinuation, MagiPipeline
from benchmarks.shared import magi_generator
from benchmarks.shared.held_out import held_out
from benchmarks.shared.machine import describe
from wmreward.pipelines.decoding import Decoder, Economy
from wmreward.protocols import Reward
from wmreward.rewards.world import SurpriseReward
from wmreward.steering.checks import gradient_of
from wmreward.steering.keep_edges import edge_energy, without_blur
from wmreward.surprise.models import ModelChoice, load
from wmreward.surprise.scorer import SurpriseScorer

WAYS = ("exact", "shrunk", "random")


def gradient(decoder: Decoder, reward: Reward, latents: Tensor) -> Tensor:
    """Of the reward in latents ``[1, C, T, H, W]``, without what blurs."""
    leaf = latents.clone().requires_grad_()
    video = decoder(leaf)
    pixels = video.detach().requires_grad_()
    towards = gradient_of(reward(pixels).scores, pixels)
    sharper = gradient_of(edge_energy(pixels), pixels, "the edge energy")
    (ours,) = torch.autograd.grad(video, leaf, towards, retain_graph=True)
    (edges,) = torch.autograd.grad(video, leaf, sharper)
    return without_blur(ours, edges, latents.shape[2])


def compared(
    family: MagiContinuation, reward: Reward, latents: Tensor, shrink: int, step: float
) -> dict[str, float]:
    """Exact against shrunk, on one video's latents."""
    exact, economy = Decoder(family, Economy()), Economy(shrink=shrink)
    ways = {
        "exact": gradient(exact, reward, latents),
        "shrunk": gradient(Decoder(family, economy), reward, latents),
        "random": torch.randn(latents.shape, generator=torch.Generator().manual_seed(0)),
    }
    cosine = F.cosine_similarity(ways["exact"].flatten(), ways["shrunk"].flatten(), dim=0)

    def rewarded(latents: Tensor) -> float:
        with torch.no_grad():
            return reward(exact(latents)).scores.item()

    before, size = rewarded(latents), step * latents.norm()
    gains = {
        f"gain {way}": rewarded(latents + size * along / along.norm()) - before
        for way, along in ways.items()
    }
    return {"error": economy.errors[0], "cosine": cosine.item(), "reward": before, **gains}


def cases(
    args: argparse.Namespace, magi: magi_generator.MagiGenerator
) -> Iterator[tuple[str, Tensor]]:
    """Latents of scenes, and means of two."""
    clips = held_out(args.scenes, args.seed)
    videos = clips.videos(magi.device, size=args.size)[:, :, : args.frames]
    given = magi.ask(clips.prompts, args.frames, videos).prefix
    assert given is not None
    others = given.roll(1, 0)
    for name, latents in (("scene", given), ("mean of two", (given + others) / 2)):
        yield from ((name, one) for one in latents.split(1))


def judge(args: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """Table and record."""
    device = torch.device(args.device)
    magi = magi_generator.tiny(device=device, video_size_h=args.size, video_size_w=args.size)
    family = MagiContinuation(MagiPipeline(magi, 0), {})
    model = load(ModelChoice(name="tiny", device=args.device, dtype="float32")).model
    scorer = SurpriseScorer(model, GuideSettings(**BEFORE).surprise, grad_batch_size=args.windows)
    reward = SurpriseReward(scorer)
    rows = []
    for name, latents in cases(args, magi):
        rows.append({"of": name} | compared(family, reward, latents, args.shrink, args.step))
        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    names = ("scenes", "size", "frames", "shrink", "step", "seed")
    head = {"benchmark": "shrunk", **describe(device)} | {
        name: getattr(args, name) for name in names
    }
    return report(rows), head | {"rows": rows}


def report(rows: Sequence[Mapping[str, Any]]) -> str:
    """Means, for people."""
    lines = [
        "| of | frames differ by | cosine | reward rises: exact | shrunk | random |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name in dict.fromkeys(row["of"] for row in rows):
        ours = [row for row in rows if row["of"] == name]
        mean = {key: sum(row[key] for row in ours) / len(ours) for key in ours[0].keys() - {"of"}}
        gains = " | ".join(f"{mean[f'gain {way}']:+.2g}" for way in WAYS)
        lines.append(f"| {name} | {100 * mean['error']:.0f} % | {mean['cosine']:.2f} | {gains} |")
    return "\n".join(lines)


def argument_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.pipeline_repair.shrunk",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--scenes", type=int, default=3, help="default %(default)s")
    add("--size", type=int, default=128, help="side of the picture, default %(default)s")
    add("--frames", type=int, default=24, help="default %(default)s")
    add("--shrink", type=int, default=2, help="default %(default)s")
    add("--step", type=float, default=0.005, help="relative to the latents, default %(default)s")
    add("--seed", type=int, default=0, help="of the scenes, default %(default)s")
    add("--windows", type=int, default=4, help="differentiated at once")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    text, record = judge(argument_parser().parse_args(argv))
    print(text)
    print(json.dumps(record))
    return 0


if __name__ == "__main__":
    sys.exit(main())
