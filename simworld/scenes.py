"""Scenes: what stands where, how it starts moving, and which occlusion is planned.

World: unit square, x to the right, y up, floor near y = 0.15. Lengths are in picture widths (at zoom
1), times in frames, angles in radians counter-clockwise. Object 0 is the protagonist of its scene:
scenarios are built around it, aimed occluders hide it and impossible twins alter it.
"""

from __future__ import annotations

import dataclasses
from typing import Literal, get_args

import torch
from torch import Tensor

from simworld.batch import TensorBatch, make_generator

Split = Literal["train", "id", "ood"]

OBJECTS = 4
OCCLUDERS = 2
STATICS = ("floor", "left wall", "right wall", "wall", "ramp", "platform")
"""Slots of the immovable boxes; a scene uses some of them."""
FLOOR, LEFT, RIGHT, WALL, RAMP, PLATFORM = range(len(STATICS))

SCENARIOS = {
    "flight": 0.17,  # thrown: flies, bounces
    "roll": 0.14,  # rolls or slides along the floor
    "wall": 0.24,  # thrown or rolled at a wall that stands in the scene
    "ramp": 0.12,  # starts on top of a slope
    "pendulum": 0.10,  # hangs on a rod
    "stack": 0.11,  # dropped from above, half of the time onto a pile
    "rest": 0.03,  # nothing moves
    "collide": 0.09,  # rolls into another object
}
"""Scenario names and their shares."""
SCENARIO_NAMES = tuple(SCENARIOS)

NO_OCCLUDER, STANDING, SLIDING, DECORATIVE = range(4)


@dataclasses.dataclass(frozen=True)
class Scenes(TensorBatch):
    """Initial conditions of B scenes with O = 4 object, S = 6 static and K = 2 occluder slots."""

    scenario: Tensor
    """[B] index into `SCENARIO_NAMES`."""
    gravity: Tensor
    """[B] downward acceleration, world / frame^2 (train: 0.0016 to 0.0075, log-uniform)."""
    exists: Tensor
    """[B, O] whether the slot holds an object; slot 0 always does."""
    shape: Tensor
    """[B, O] index into `SHAPES`."""
    size: Tensor
    """[B, O] radius of a disc of about the same area (train: 0.055 to 0.115)."""
    position: Tensor
    """[B, O, 2]"""
    velocity: Tensor
    """[B, O, 2] world / frame."""
    angle: Tensor
    """[B, O] radians; a flat side faces this direction."""
    spin: Tensor
    """[B, O] radians / frame."""
    restitution: Tensor
    """[B, O] share of the approach speed kept by a bounce, 0.25 to 0.95."""
    friction: Tensor
    """[B, O] Coulomb coefficient."""
    rolling: Tensor
    """[B, O] rolling resistance, torque / (normal force * size), 0 to 0.02."""
    tethered: Tensor
    """[B, O] whether the object is the bob of the pendulum."""
    anchor: Tensor
    """[B, 2] where the pendulum's rod is fixed."""
    static_exists: Tensor
    """[B, S]"""
    static_center: Tensor
    """[B, S, 2]"""
    static_half: Tensor
    """[B, S, 2] half extents before turning."""
    static_angle: Tensor
    """[B, S]"""
    occluder_plan: Tensor
    """[B, K] none, standing (aimed at object 0), sliding (aimed) or decorative."""
    occluder_frames: Tensor
    """[B, K] for how many frames an aimed occluder is to hide object 0, 4 to 7."""
    occluder_dice: Tensor
    """[B, K, 8] uniform numbers that the placement uses up."""


def check_split(split: str) -> None:
    """Refuse names that are no split."""
    if split not in get_args(Split):
        raise ValueError(f"split must be one of {', '.join(get_args(Split))}; got {split!r}")


def resolve_generator(
    seed: int | None,
    generator: torch.Generator | None,
    label: str,
    device: torch.device | str,
) -> torch.Generator:
    """The generator that a public sampler uses; exactly one of `seed` and `generator` is given."""
    if (seed is None) == (generator is None):
        raise ValueError("give exactly one of seed and generator")
    if generator is not None:
        return generator
    assert seed is not None
    return make_generator(seed, label, device)
