"""Which part of a video is how noisy, and what it reads: the situations that MAGI-1's sampler makes.

A video is two chunks of six latent frames. In a *pair* the second chunk sees the first; a *lone* chunk
sees only itself, as the first chunk of a video does, and every chunk in the unconditional branch.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

CHUNK = 6
"""Latent frames of a chunk."""
CLEAN = 0.9999
"""The time that finished chunks are told."""
SHIFT = 3.0
STAGE = 0.25
"""How far, on the grid of steps, a chunk is behind the one before it in a window of four."""

CONTINUED, WINDOW, MONOTONE = 0.42, 0.30, 0.28
"""Shares of pairs: first chunk finished; both in the window, a stage apart; any two ordered times."""
LONE_WITH_TEXT = 0.75
"""Share of lone chunks that open a video and read its prompt; the others read nothing."""
TEXT_DROPPED = 0.12
"""Share of pairs without a prompt."""
PREFIXES = (1, 4)
"""Latent frames that may be given at the beginning of a video: an image, or 16 frames."""
PAIR_PREFIXES = (0.20, 0.12)
LONE_PREFIXES = (0.18, 0.08)
"""Shares of those. They are small among lone chunks: what a prompt says of places is learned only where
nothing else shows them.
"""


class Plan(NamedTuple):
    """B videos of C chunks."""

    time: Tensor
    """[B, C] from 0, noise, to 1, data."""
    clean: Tensor
    """[B, C] the chunk is finished: nothing is to be learned from it."""
    prefix: Tensor
    """[B] latent frames given at the beginning, of `PREFIXES` or 0."""
    text: Tensor
    """[B, C] the chunk reads the prompt; others read the null caption."""
    dropped: Tensor
    """[B, C] the condition says that there is no text."""

    def learned(self) -> Tensor:
        """[B, C · 6] the latent frames whose velocity counts."""
        frames = (~self.clean).repeat_interleave(CHUNK, dim=1)
        index = torch.arange(frames.shape[1], device=frames.device)
        return frames & (index >= self.prefix.unsqueeze(1))


def bend(x: Tensor) -> Tensor:
    """MAGI-1's times for places x on the grid of steps, both in [0, 1]: most steps are near noise."""
    x = x.square() / SHIFT
    return x / (1 + (1 - SHIFT) * x)


class _Draw:
    def __init__(self, count: int, generator: torch.Generator) -> None:
        self.count, self.generator, self.device = count, generator, generator.device

    def uniform(self, *shape: int) -> Tensor:
        return torch.rand(self.count, *shape, generator=self.generator, device=self.device)

    def chance(self, share: float, *shape: int) -> Tensor:
        return self.uniform(*shape) < share

    def prefix(self, shares: tuple[float, float]) -> Tensor:
        dice = self.uniform()
        short, long = (torch.full_like(dice, frames, dtype=torch.long) for frames in PREFIXES)
        none = torch.zeros_like(short)
        return torch.where(
            dice < shares[0], short, torch.where(dice < shares[0] + shares[1], long, none)
        )

    def bent_or_even(self, x: Tensor) -> Tensor:
        """Times for grid places [B, C]; for half of the videos the grid itself."""
        return torch.where(self.chance(0.5, 1), bend(x), x)


def plan_pairs(count: int, generator: torch.Generator) -> Plan:
    """Videos of two chunks."""
    draw = _Draw(count, generator)
    kind = draw.uniform(1)
    continued = (kind < CONTINUED)[:, 0]
    two = draw.uniform(2)
    behind = two[:, :1] * (1 - STAGE)
    window = torch.cat((behind + STAGE, behind), dim=1)
    monotone = two.sort(dim=1, descending=True).values
    place = torch.where(kind < CONTINUED + WINDOW, window, monotone)
    place[:, 1] = torch.where(continued, two[:, 1], place[:, 1])
    time = draw.bent_or_even(place)
    clean = torch.stack((continued, torch.zeros_like(continued)), dim=1)
    told = ~draw.chance(TEXT_DROPPED, 1)
    # Keys of finished chunks are mostly kept from the branch without text, but not at once.
    fresh = told & draw.chance(0.5, 1)
    return Plan(
        time=torch.where(clean, CLEAN, time),
        clean=clean,
        prefix=draw.prefix(PAIR_PREFIXES),
        text=told & ~clean,
        dropped=torch.where(clean, ~fresh, ~told),
    )


def plan_lone(count: int, generator: torch.Generator) -> tuple[Plan, Tensor]:
    """Chunks by themselves, and which chunk of its video each is, ``[B]`` 0 or 1."""
    draw = _Draw(count, generator)
    told = draw.chance(LONE_WITH_TEXT, 1)
    second = ~told[:, 0] & draw.chance(0.5)
    prefix = draw.prefix(LONE_PREFIXES)
    plan = Plan(
        time=draw.bent_or_even(draw.uniform(1)),
        clean=torch.zeros_like(told),
        prefix=torch.where(second, 0, prefix),
        text=told,
        dropped=~told,
    )
    return plan, second.long()


def noised(latents: Tensor, noise: Tensor, plan: Plan) -> tuple[Tensor, Tensor]:
    """What the model is shown, and the velocity it should find: ``[B, C, T, H, W]`` like both.

    On the way from noise to data, x = (1 - t) noise + t data, and v = data - noise. Given frames are
    shown as they are.
    """
    time = plan.time.repeat_interleave(CHUNK, dim=1)
    index = torch.arange(latents.shape[2], device=latents.device)
    time = torch.where(index < plan.prefix.unsqueeze(1), 1.0, time)[:, None, :, None, None]
    return noise.lerp(latents, time), latents - noise
