"""The scenes on which a generator is judged: unseen ones of the world it was trained on, with prompts."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from simworld.batch import make_generator
from simworld.captions import Facts, describe, write_captions
from simworld.looks import VIVID, Looks
from simworld.physics import simulate
from simworld.plain import sample_plain_looks, sample_plain_scenes
from simworld.render import render
from simworld.scenes import Scenes
from simworld.trajectories import Trajectories

FRAMES = 48
_RENDERED_AT_ONCE = 8


@dataclass(frozen=True)
class HeldOut:
    """B scenes of 48 frames; all but the videos on the CPU, so that every machine judges the same scenes."""

    scenes: Scenes
    trajectories: Trajectories
    looks: Looks
    facts: Facts
    prompts: list[str]
    """What the scenes show, in words."""

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, index: Tensor) -> HeldOut:
        return HeldOut(
            self.scenes[index],
            self.trajectories[index],
            self.looks[index],
            self.facts[index],
            [self.prompts[i] for i in index.tolist()],
        )

    def colors(self) -> Tensor:
        """[B, 8] whether an object wears this vivid colour, and nothing else does."""
        count = len(self)
        objects = torch.zeros(count, VIVID + 1, dtype=torch.bool)
        worn = torch.where(self.scenes.exists, self.looks.object_color_id, VIVID)
        objects.scatter_(1, worn, True)
        others = torch.zeros(count, VIVID + 1, dtype=torch.bool)
        standing = torch.where(self.scenes.static_exists, self.looks.static_color_id, VIVID)
        others.scatter_(1, standing.clamp(max=VIVID), True)
        return (objects & ~others)[:, :VIVID]

    def videos(
        self,
        device: torch.device,
        trajectories: Trajectories | None = None,
        *,
        size: int = 64,
        first: int = 0,
    ) -> Tensor:
        """[B, 3, 48 - first, size, size] in [0, 1] from a frame on, of the true or other trajectories."""
        shown = self.trajectories if trajectories is None else trajectories
        parts = [
            render(
                shown[slice(start, start + _RENDERED_AT_ONCE)].to(device),
                self.looks[slice(start, start + _RENDERED_AT_ONCE)].to(device),
                size=size,
                start=first,
                frames=FRAMES - first,
            )
            for start in range(0, len(self), _RENDERED_AT_ONCE)
        ]
        return torch.cat(parts)


def held_out(count: int, seed: int) -> HeldOut:
    """Draw `count` scenes of the split "id", which training never sees."""
    scenes = sample_plain_scenes(count, split="id", seed=seed)
    looks = sample_plain_looks(count, split="id", seed=seed)
    trajectories = simulate(scenes, frames=FRAMES)
    facts = describe(trajectories, looks)
    captions = write_captions(facts, make_generator(seed, "held-out captions"))
    return HeldOut(scenes, trajectories, looks, facts, [caption.text for caption in captions])
