"""What of a scene is decided before anything is placed, and the immovable boxes in it."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from simworld.batch import Draw
from simworld.geometry import OOD_SHAPES, SHAPES, TRAIN_SHAPES, reach, rest_height
from simworld.scenes import (
    DECORATIVE,
    FLOOR,
    LEFT,
    NO_OCCLUDER,
    OBJECTS,
    OCCLUDERS,
    RIGHT,
    SCENARIO_NAMES,
    SLIDING,
    STANDING,
    STATICS,
    Split,
)

CIRCLE, RING, SQUARE, HEXAGON = map(SHAPES.index, ("circle", "ring", "square", "hexagon"))
SMALLEST = {"train": 0.055, "id": 0.055, "ood": 0.050}


def pair(x: Tensor, y: Tensor) -> Tensor:
    """[..., 2] from two coordinates."""
    return torch.stack((x, y), dim=-1)


def where(condition: Tensor, a: Tensor | float, b: Tensor) -> Tensor:
    """`torch.where` with the condition [B] broadcast over trailing dimensions of `b`."""
    return torch.where(
        condition.reshape(condition.shape + (1,) * (b.dim() - condition.dim())), a, b
    )


@dataclasses.dataclass
class Stage:
    """Scenario, gravity and occluders of B scenes, and the bodies of their objects."""

    scenario: Tensor
    """[B]"""
    gravity: Tensor
    """[B]"""
    shape: Tensor
    """[B, O]"""
    size: Tensor
    """[B, O]"""
    occluder_plan: Tensor
    """[B, K]"""
    floor: Tensor
    """[B] height of the floor."""

    def __post_init__(self) -> None:
        self.speed = self.gravity.sqrt()
        """[B] the natural unit of speed: that of a fall through half of the picture."""
        self.half_height = rest_height(self.shape, self.size)
        self.radius = reach(self.shape, self.size)
        # Lying on a side, shapes with an odd number of sides point upwards.
        flat_top = (self.shape == SQUARE) | (self.shape == HEXAGON)
        self.top = torch.where(flat_top, self.half_height, self.radius)
        self.round = (self.shape == CIRCLE) | (self.shape == RING)
        self.passes = self.occluder_plan[:, 0] == STANDING
        """[B] whether object 0 is to pass behind something that stands still."""

    def plays(self, *names: str) -> Tensor:
        """[B] whether the scenario is one of `names`."""
        return _plays(self.scenario, *names)


@dataclasses.dataclass
class Statics:
    """The immovable boxes of B scenes, by slot; see `STATICS`."""

    exists: Tensor
    """[B, S]"""
    center: Tensor
    """[B, S, 2]"""
    half: Tensor
    """[B, S, 2]"""
    angle: Tensor
    """[B, S]"""


def set_stage(draw: Draw, split: Split, weights: list[float], occlusion: float) -> Stage:
    """Draw what the rest is built on; `weights` are those of the scenarios."""
    scenario = draw.choice(weights)
    gravity, shape, size = _world(draw, split)
    plan = _plan_occluders(draw, scenario, occlusion)
    # Occluders stand still in front of small, fast objects, else they slide past.
    small = SMALLEST[split] + 0.5 * (size[:, 0] - SMALLEST[split])
    size[:, 0] = torch.where(plan[:, 0] == STANDING, small, size[:, 0])
    # What rolls should mostly be round; piles are mostly made of boxes.
    roller = RING if split == "ood" else CIRCLE
    rolls = _plays(scenario, "roll", "ramp", "collide")
    shape[:, 0] = torch.where(rolls & draw.chance(0.5), roller, shape[:, 0])
    if split != "ood":
        pile = _plays(scenario, "stack").unsqueeze(1) & draw.chance(0.7, OBJECTS - 2)
        shape[:, 1:3] = torch.where(pile, SQUARE, shape[:, 1:3])
    return Stage(scenario, gravity, shape, size, plan, floor=draw.uniform(0.10, 0.22))


def _plays(scenario: Tensor, *names: str) -> Tensor:
    found = torch.zeros_like(scenario, dtype=torch.bool)
    for name in names:
        found |= scenario == SCENARIO_NAMES.index(name)
    return found


def _world(draw: Draw, split: Split) -> tuple[Tensor, Tensor, Tensor]:
    """Gravity [B], shapes and sizes [B, O]."""
    if split == "ood":
        low, high = draw.log_uniform(0.0012, 0.0016), draw.log_uniform(0.0075, 0.0100)
        gravity = torch.where(draw.chance(0.5), low, high)
        shapes = torch.tensor(OOD_SHAPES, device=draw.device)[draw.choice([1.0] * 4, OBJECTS)]
        return gravity, shapes, draw.uniform(SMALLEST[split], 0.130, OBJECTS)
    gravity = draw.log_uniform(0.0016, 0.0075)
    shapes = torch.tensor(TRAIN_SHAPES, device=draw.device)[draw.choice([2.0, 1, 1], OBJECTS)]
    return gravity, shapes, draw.uniform(SMALLEST[split], 0.115, OBJECTS)


def _plan_occluders(draw: Draw, scenario: Tensor, occlusion: float) -> Tensor:
    plan = torch.zeros(draw.count, OCCLUDERS, dtype=torch.long, device=draw.device)
    aimed = torch.where(draw.chance(0.75) & ~_plays(scenario, "rest"), STANDING, SLIDING)
    plan[:, 0] = torch.where(draw.chance(occlusion), aimed, NO_OCCLUDER)
    plan[:, 1] = torch.where(draw.chance(0.12), DECORATIVE, NO_OCCLUDER)
    return plan


def build_room(draw: Draw, stage: Stage) -> Statics:
    """Floor and side walls."""
    shape, device = (draw.count, len(STATICS)), draw.device
    statics = Statics(
        exists=torch.zeros(shape, dtype=torch.bool, device=device),
        center=torch.zeros(*shape, 2, device=device),
        half=torch.full((*shape, 2), 0.05, device=device),
        angle=torch.zeros(shape, device=device),
    )
    zero = torch.zeros(draw.count, device=device)
    statics.exists[:, FLOOR] = True
    statics.center[:, FLOOR] = pair(zero + 0.5, stage.floor - 1.0)
    statics.half[:, FLOOR] = torch.tensor([9.0, 1.0], device=device)
    left, right = draw.uniform(-0.03, 0.07), draw.uniform(0.93, 1.03)
    for slot, face, sign in ((LEFT, left, -1.0), (RIGHT, right, 1.0)):
        statics.center[:, slot] = pair(face + sign, zero)
        statics.half[:, slot] = torch.tensor([1.0, 9.0], device=device)
    has_walls = draw.chance(0.4) | (stage.plays("collide") & draw.chance(0.4))
    statics.exists[:, LEFT] = has_walls & ~stage.plays("roll")
    statics.exists[:, RIGHT] = has_walls
    return statics
