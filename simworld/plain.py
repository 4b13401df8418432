"""A gentler world for small video generators: few objects, calm looks, slow enough for 50 frames.

Made from the draws of `sample_scenes` and `sample_looks`, which stay as they are.
"""

from __future__ import annotations

import dataclasses

import torch

from simworld.batch import Draw
from simworld.looks import COLOR_NAMES, PATTERNS, VIVID, Looks, distinct, palette, sample_looks
from simworld.scenes import (
    FLOOR,
    LEFT,
    NO_OCCLUDER,
    OBJECTS,
    PLATFORM,
    RAMP,
    RIGHT,
    WALL,
    Scenes,
    Split,
    resolve_generator,
)
from simworld.staging import sample_scenes

SLOWDOWN = 0.8
"""What fills 40 frames in `sample_scenes` fills 50 here."""
MOST_OBJECTS = 3


def sample_plain_scenes(
    count: int,
    *,
    split: Split = "train",
    seed: int | None = None,
    generator: torch.Generator | None = None,
    device: torch.device | str = "cpu",
) -> Scenes:
    """Draw `count` scenes of one to three objects without occluders, at 0.8 of the usual speed.

    Slowing down keeps every path as it is: velocities are scaled by the factor, gravity by its square.
    Arguments as in `sample_scenes`.
    """
    generator = resolve_generator(seed, generator, f"plain scenes/{split}", device)
    scenes = sample_scenes(count, split=split, generator=generator, occlusion=0.0)
    few = torch.arange(OBJECTS, device=scenes.exists.device) < MOST_OBJECTS
    return dataclasses.replace(
        scenes,
        exists=scenes.exists & few,
        gravity=scenes.gravity * SLOWDOWN**2,
        velocity=scenes.velocity * SLOWDOWN,
        spin=scenes.spin * SLOWDOWN,
        occluder_plan=torch.full_like(scenes.occluder_plan, NO_OCCLUDER),
    )


def sample_plain_looks(
    count: int,
    *,
    split: Split = "train",
    seed: int | None = None,
    generator: torch.Generator | None = None,
    device: torch.device | str = "cpu",
) -> Looks:
    """Draw `count` looks with a still, noiseless camera, faint textures and soft patterns.

    Walls, ramps and platforms wear other colours than the objects, most of them muted, so that a
    colour names one thing. Arguments as in `sample_looks`.
    """
    generator = resolve_generator(seed, generator, f"plain looks/{split}", device)
    looks = sample_looks(count, split=split, generator=generator)
    draw = Draw(count, generator)
    backdrop = torch.cat((looks.wall_color, looks.static_color[:, :1]), dim=1)
    muted = torch.arange(len(COLOR_NAMES), device=draw.device) >= VIVID
    # 0.25 of a whole preference: a muted colour close to the background is worse than a vivid one.
    liking = 0.25 * (muted & draw.chance(0.6).unsqueeze(1))
    others = torch.cat((backdrop, looks.object_color[:, :MOST_OBJECTS]), dim=1)
    best_first = distinct(draw, liking, 4, others)
    static_id = looks.static_color_id.clone()
    for slot, rank in ((WALL, 0), (RAMP, 1), (LEFT, 2), (RIGHT, 2), (PLATFORM, 3)):
        static_id[:, slot] = best_first[:, rank]
    static_color = palette(draw.device)[static_id]
    static_color[:, FLOOR] = looks.static_color[:, FLOOR]
    solid = torch.full_like(looks.pattern, PATTERNS.index("solid"))
    return dataclasses.replace(
        looks,
        static_color=static_color,
        static_color_id=static_id,
        pattern=torch.where(draw.chance(0.4, OBJECTS), solid, looks.pattern),
        pattern_contrast=0.6 * looks.pattern_contrast,
        gloss=0.5 * looks.gloss,
        texture=0.4 * looks.texture,
        gain=draw.uniform(0.9, 1.1),
        noise=torch.zeros_like(looks.noise),
        shift=draw.uniform(-0.05, 0.05, 2),
        pan=torch.zeros_like(looks.pan),
    )
