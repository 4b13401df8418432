"""The same scenes at other speeds, with other materials and longer occlusions: for training only."""

from __future__ import annotations

import dataclasses

import torch

from simworld.batch import Draw
from simworld.scenes import OBJECTS, OCCLUDERS, Scenes

LONGEST_OCCLUSION = 22
"""Most frames for which an occluder hides object 0 in varied scenes."""


def vary_scenes(scenes: Scenes, generator: torch.Generator, share: float = 0.5) -> Scenes:
    """Change a `share` of the scenes; simulate them with `longest_occlusion=LONGEST_OCCLUSION`.

    Speeds are multiplied by 0.55 to 1.25 (another frame rate: paths stay as they are until something
    is touched), restitution, friction and rolling resistance have twice the range, and aimed
    occluders hide object 0 for up to 20 frames instead of 7.
    """
    draw = Draw(len(scenes), generator)
    some = draw.chance(share)
    pace = torch.where(some, draw.log_uniform(0.55, 1.25), 1.0)
    each = some.unsqueeze(1)
    return dataclasses.replace(
        scenes,
        gravity=scenes.gravity * pace**2,
        velocity=scenes.velocity * pace[:, None, None],
        spin=scenes.spin * pace.unsqueeze(1),
        restitution=torch.where(each, draw.uniform(0.0, 1.0, OBJECTS), scenes.restitution),
        friction=torch.where(each, draw.uniform(0.0, 0.9, OBJECTS), scenes.friction),
        rolling=torch.where(each, draw.uniform(0.0, 0.04, OBJECTS), scenes.rolling),
        occluder_frames=torch.where(each, draw.integer(4, 20, OCCLUDERS), scenes.occluder_frames),
    )
