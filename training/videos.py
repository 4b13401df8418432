"""Simulated videos in the plain style, for the autoencoder and the generator.

A pool of videos is a function of a seed and a number, so that a stopped run makes the same pool again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

import simworld
from simworld import Looks, Split, Trajectories

SIZE = 64
"""Height and width of the pictures."""
FRAMES = 48
"""Frames of a video."""
UNIT = 12
"""Frames that the autoencoder works on at a time."""
_SIMULATED = 52
_SPARE = 1.4  # scenes simulated for each that is kept
_STILL = 0.05  # picture widths that nothing moves by in the second half of a dull scene
_DULL = 0.35  # part of the dull scenes that may stay
_UNITS_PER_SCENE = 4
_AT_ONCE = 256  # videos rendered at once


class Footage(NamedTuple):
    """Scenes that were simulated, and how they look; not rendered yet."""

    trajectories: Trajectories
    looks: Looks


def shoot(count: int, generator: torch.Generator, split: Split = "train") -> Footage:
    """``count`` videos of ``FRAMES`` frames in which something happens, on the generator's device."""
    tried = round(_SPARE * count)
    scenes = simworld.sample_plain_scenes(tried, split=split, generator=generator)
    looks = simworld.sample_plain_looks(tried, split=split, generator=generator)
    trajectories = simworld.simulate(scenes, _SIMULATED)
    start = torch.randint(
        _SIMULATED - FRAMES + 1, (tried, 1), generator=generator, device=generator.device
    )
    time = torch.arange(FRAMES, device=generator.device)
    trajectories = trajectories.retime(start + time)
    chance = torch.rand(tried, generator=generator, device=generator.device)
    wanted = late_motion(trajectories, looks) > _STILL
    order = torch.where(wanted, chance, chance + 1 - _DULL).argsort()[:count]
    return Footage(trajectories[order], looks[order])


def late_motion(trajectories: Trajectories, looks: Looks) -> Tensor:
    """How far the object that moves most gets in the second half of the video, in picture widths, ``[B]``.

    What is not in the picture does not count.
    """
    place = simworld.project(trajectories, looks)[:, trajectories.frames // 2 :]
    there = trajectories.visible[:, trajectories.frames // 2 :]
    shown = ((place > 0) & (place < 1)).all(-1) & there
    high = torch.where(shown[..., None], place, -9.0).amax(1)
    low = torch.where(shown[..., None], place, 9.0).amin(1)
    return (high - low).clamp_min(0).amax((1, 2))


class Camera:
    """Renders footage; compiled on request."""

    def __init__(self, compiled: bool) -> None:
        self._render = torch.compile(simworld.render) if compiled else simworld.render

    @torch.no_grad()
    def film(self, footage: Footage, start: Tensor, frames: int) -> Iterator[Tensor]:
        """Pictures in portions of up to 256 videos, ``[B, 3, frames, 64, 64]`` uint8.

        Args:
            start: First frame of each video, ``[N]``.
        """
        for part in torch.arange(len(start), device=start.device).split(_AT_ONCE):
            video = self._render(
                footage.trajectories[part],
                footage.looks[part],
                size=SIZE,
                start=start[part],
                frames=frames,
            )
            yield (video * 255).round().to(torch.uint8)


def to_model(video: Tensor) -> Tensor:
    """uint8 pictures → float32 in [-1, 1], as MAGI-1's VAE reads them."""
    return video.float() / 127.5 - 1


class UnitPool:
    """Units of 12 frames for the autoencoder: each is seen several times, flipped and reversed.

    Args:
        units: Units per pool, four from each scene.
        batch: Units per step.
        reuse: Passes over a pool before the next one is made.
        seed, rank: They determine all pools.
        device: Where everything happens.
        compiled: Compile the renderer.
    """

    def __init__(
        self,
        *,
        units: int,
        batch: int,
        reuse: int,
        seed: int,
        rank: int,
        device: torch.device,
        compiled: bool,
    ) -> None:
        if units < batch:
            raise ValueError(f"pool={units} must hold at least one batch of {batch}")
        self.units, self.batch, self.reuse = units, batch, reuse
        self.device, self.label = device, f"units/{rank}"
        self.seed, self.camera = seed, Camera(compiled)
        self._filled = -1

    def _generator(self, *number: int) -> torch.Generator:
        label = "/".join(map(str, (self.label, *number)))
        return simworld.make_generator(self.seed, label, self.device)

    def batch_at(self, step: int) -> Tensor:
        """The units of ``step``: ``[batch, 3, 12, 64, 64]`` in [-1, 1]."""
        per_pass = self.units // self.batch
        fill, within = divmod(step, per_pass * self.reuse)
        if fill != self._filled:
            self._fill(fill)
        round_, place = divmod(within, per_pass)
        order = torch.randperm(
            self.units, generator=self._generator(1, fill, round_), device=self.device
        )
        chosen = order[place * self.batch : (place + 1) * self.batch]
        units = self.pixels[chosen]
        flips = torch.rand(2, len(units), generator=self._generator(2, step), device=self.device)
        for dim, chance in ((4, flips[0]), (2, flips[1])):
            units = torch.where(chance[:, None, None, None, None] < 0.5, units.flip(dim), units)
        return to_model(units)

    def _fill(self, fill: int) -> None:
        generator = self._generator(0, fill)
        footage = shoot(-(-self.units // _UNITS_PER_SCENE), generator)
        takes: list[Tensor] = []
        for _ in range(_UNITS_PER_SCENE):
            start = torch.randint(
                FRAMES - UNIT + 1,
                (len(footage.looks),),
                generator=generator,
                device=self.device,
            )
            takes += self.camera.film(footage, start, UNIT)
        self.pixels = torch.cat(takes)[: self.units]
        self._filled = fill
