"""Random scenes, drawn one part after another; the order of the draws is part of what a seed means."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from simworld.batch import Draw
from simworld.geometry import box_distance
from simworld.protagonist import Protagonist, place_protagonist
from simworld.scenes import (
    LEFT,
    OBJECTS,
    OCCLUDERS,
    PLATFORM,
    RAMP,
    RIGHT,
    SCENARIO_NAMES,
    SCENARIOS,
    WALL,
    Scenes,
    Split,
    check_split,
    resolve_generator,
)
from simworld.stage import Stage, Statics, build_room, pair, set_stage, where


def sample_scenes(
    count: int,
    *,
    split: Split = "train",
    seed: int | None = None,
    generator: torch.Generator | None = None,
    device: torch.device | str = "cpu",
    scenario: str | Sequence[str] | None = None,
    occlusion: float = 0.65,
) -> Scenes:
    """Draw `count` scenes.

    Splits: "train" and "id" follow the same distribution from unrelated random streams. "ood" has
    only unseen shapes (pentagon, hexagon, star, ring), sizes of 0.050 to 0.130 instead of 0.055 to
    0.115, and gravity mildly outside the training range (0.0012 to 0.0016 or 0.0075 to 0.0100).

    Args:
        seed: seed of a stream of its own for this split; or pass `generator`, on its own device.
        device: where the tensors live when `seed` is given. Draws are reproducible per device type.
        scenario: draw only this one, or these, of `SCENARIOS`.
        occlusion: share of scenes with an occluder aimed at object 0. A few of them find no
            suitable moment and stay without.
    """
    check_split(split)
    wanted = SCENARIO_NAMES if scenario is None else scenario
    wanted = (wanted,) if isinstance(wanted, str) else tuple(wanted)
    for name in wanted:
        if name not in SCENARIOS:
            raise ValueError(f"scenario must be among {', '.join(SCENARIOS)}; got {name!r}")
    weights = [share if name in wanted else 0.0 for name, share in SCENARIOS.items()]
    draw = Draw(count, resolve_generator(seed, generator, f"scenes/{split}", device))

    stage = set_stage(draw, split, weights, occlusion)
    statics = build_room(draw, stage)
    hero = place_protagonist(draw, stage)
    objects = _place_objects(draw, stage, hero)
    _furnish(draw, stage, hero, statics)
    _mirror_half(draw, objects, statics, hero.anchor)
    _give_way(draw, stage, objects, statics)
    friction = _friction(draw, stage)

    tethered = torch.zeros_like(objects.exists)
    tethered[:, 0] = stage.plays("pendulum")
    return Scenes(
        scenario=stage.scenario,
        gravity=stage.gravity,
        exists=objects.exists,
        shape=stage.shape,
        size=stage.size,
        position=objects.position,
        velocity=objects.velocity,
        angle=objects.angle,
        spin=objects.spin,
        restitution=draw.uniform(0.25, 0.95, OBJECTS),
        friction=friction,
        rolling=draw.uniform(0.0, 0.02, OBJECTS),
        tethered=tethered,
        anchor=hero.anchor,
        static_exists=statics.exists,
        static_center=statics.center,
        static_half=statics.half,
        static_angle=statics.angle,
        occluder_plan=stage.occluder_plan,
        occluder_frames=draw.integer(4, 7, OCCLUDERS),
        occluder_dice=draw.uniform(0.0, 1.0, OCCLUDERS, 8),
    )


@dataclasses.dataclass
class _Objects:
    """All objects of B scenes: [B, O, ...] as in `Scenes`; `piled`: [B] objects 1 and 2 are a pile."""

    exists: Tensor
    position: Tensor
    velocity: Tensor
    angle: Tensor
    spin: Tensor
    piled: Tensor


class _Others:
    """Objects 1 to O − 1 while they are placed, [B, O − 1] each: lanes from left to right, on the floor or in
    the air.
    """

    def __init__(self, draw: Draw, stage: Stage) -> None:
        others = OBJECTS - 1
        lanes = torch.tensor([0.12, 0.37, 0.63, 0.88], device=draw.device)
        order = draw.uniform(0.0, 1.0, 4).argsort(dim=1)[:, :others]
        self.x = lanes[order] + draw.uniform(-0.06, 0.06, others)
        calm = stage.plays("rest", "stack", "pendulum", "roll").unsqueeze(1)
        self.airborne = draw.chance(0.42, others) & ~calm
        at_rest = stage.plays("rest").unsqueeze(1)
        creeping = draw.chance(0.25, others) & ~self.airborne & ~at_rest
        lying = stage.floor.unsqueeze(1) + stage.half_height[:, 1:]
        speed = stage.speed.unsqueeze(1)
        self.y = torch.where(self.airborne, draw.uniform(0.40, 0.88, others), lying)
        self.vx = torch.where(self.airborne, draw.uniform(-0.4, 0.4, others) * speed, 0.0)
        self.vx = torch.where(creeping, draw.uniform(-0.02, 0.02, others), self.vx)
        self.vy = torch.where(self.airborne, draw.uniform(-0.3, 0.5, others) * speed, 0.0)
        number = draw.choice([0.22, 0.33, 0.28, 0.17])
        self.exists = torch.arange(others, device=draw.device) < number.unsqueeze(1)
        # A clear lane lets what rolls pass the occluder.
        clear = (stage.plays("roll") & stage.passes).unsqueeze(1)
        self.exists &= ~clear | draw.chance(0.25, others)

    def pile_up(self, draw: Draw, stage: Stage, piled: Tensor, drop_x: Tensor) -> None:
        """Put the first two under a drop, one on the other."""
        low = stage.floor + stage.half_height[:, 1]
        high = low + stage.top[:, 1] + stage.half_height[:, 2]
        self.x[:, 0] = torch.where(piled, drop_x + draw.uniform(-0.04, 0.04), self.x[:, 0])
        self.x[:, 1] = torch.where(piled, self.x[:, 0] + draw.uniform(-0.02, 0.02), self.x[:, 1])
        self.y[:, 0] = torch.where(piled, low, self.y[:, 0])
        self.y[:, 1] = torch.where(piled, high, self.y[:, 1])

    def wait_on_the_right(self, draw: Draw, stage: Stage) -> None:
        """The first one waits to be hit in "collide", or comes from the right."""
        hit = stage.plays("collide")
        lying = stage.floor + stage.half_height[:, 1]
        self.x[:, 0] = torch.where(hit, draw.uniform(0.5, 0.75), self.x[:, 0])
        self.y[:, 0] = torch.where(hit, lying, self.y[:, 0])
        coming = -draw.uniform(-0.002, 0.022).clamp(min=0.0)
        self.vx[:, 0] = torch.where(hit, coming, self.vx[:, 0])

    def settle(self, draw: Draw, stage: Stage, piled: Tensor) -> None:
        """What stands in a pile or waits is there, and does not fly."""
        hit = stage.plays("collide")
        self.exists[:, 0] |= hit | piled
        self.exists[:, 1] |= piled & draw.chance(0.6)
        still = piled.unsqueeze(1) & (torch.arange(OBJECTS - 1, device=draw.device) < 2)
        still[:, 0] |= hit
        self.airborne = self.airborne & ~still
        self.vx = torch.where(still & ~hit.unsqueeze(1), 0.0, self.vx)
        self.vy = torch.where(still, 0.0, self.vy)


def _place_objects(draw: Draw, stage: Stage, hero: Protagonist) -> _Objects:
    others = _Others(draw, stage)
    piled = stage.plays("stack") & hero.is_dropped_on_pile
    others.pile_up(draw, stage, piled, hero.drop_x)
    others.wait_on_the_right(draw, stage)
    others.settle(draw, stage, piled)

    def with_hero(first: Tensor, rest: Tensor) -> Tensor:
        return torch.cat((first.unsqueeze(1), rest), dim=1)

    position = with_hero(hero.start.position, pair(others.x, others.y))
    velocity = with_hero(hero.start.velocity, pair(others.vx, others.vy))
    thrown = stage.plays("wall") & ~hero.barrier.is_rolled_at
    tumbles = stage.plays("flight", "stack", "pendulum") | thrown
    tumbling = with_hero(tumbles, others.airborne)
    angle, spin = _turning(draw, stage, hero, tumbling, velocity)
    exists = with_hero(torch.ones_like(piled), others.exists)
    return _Objects(exists, position, velocity, angle, spin, piled)


def _turning(
    draw: Draw, stage: Stage, hero: Protagonist, tumbling: Tensor, velocity: Tensor
) -> tuple[Tensor, Tensor]:
    """Angle and spin: what tumbles turns freely, what is round rolls without slip, the rest lies flat."""
    flat = torch.full_like(stage.size, -math.pi / 2)
    angle = torch.where(tumbling, draw.uniform(-math.pi, math.pi, OBJECTS), flat)
    on_ramp = -math.pi / 2 - hero.slope.angle
    angle[:, 0] = torch.where(stage.plays("ramp"), on_ramp, angle[:, 0])
    spin = torch.where(tumbling, draw.uniform(-0.16, 0.16, OBJECTS), 0.0)
    spin[:, 0] = torch.where(stage.plays("pendulum"), 0.0, spin[:, 0])
    along = torch.where(velocity[..., 0] < 0, -1.0, 1.0) * torch.hypot(*velocity.unbind(-1))
    angle = torch.where(stage.round, draw.uniform(-math.pi, math.pi, OBJECTS), angle)
    spin = torch.where(stage.round & ~tumbling, -along / stage.radius, spin)
    return angle, spin


def _furnish(draw: Draw, stage: Stage, hero: Protagonist, statics: Statics) -> None:
    """The wall that is hit, or one in the way; ramp and platform. Each reaches a little into the floor."""
    barrier, slope, floor = hero.barrier, hero.slope, stage.floor
    statics.exists[:, WALL] = stage.plays("wall")
    statics.center[:, WALL] = pair(barrier.x, floor + 0.5 * barrier.height - 0.05)
    statics.half[:, WALL] = pair(barrier.half_width, 0.5 * barrier.height + 0.05)
    extra = draw.chance(0.25) & stage.plays("flight", "roll", "stack", "ramp")
    extra &= ~(stage.plays("roll") & stage.passes)
    height = draw.uniform(0.06, 0.22)
    statics.exists[:, WALL] |= extra
    center = pair(draw.uniform(0.62, 0.92), floor + 0.5 * height - 0.05)
    half = pair(draw.uniform(0.025, 0.07), 0.5 * height + 0.05)
    statics.center[:, WALL] = where(extra, center, statics.center[:, WALL])
    statics.half[:, WALL] = where(extra, half, statics.half[:, WALL])

    statics.exists[:, RAMP] = stage.plays("ramp")
    surface = slope.foot - slope.down * (0.5 * slope.length).unsqueeze(1)
    statics.center[:, RAMP] = surface - slope.normal * slope.thick.unsqueeze(1)
    statics.half[:, RAMP] = pair(0.5 * slope.length, slope.thick)
    statics.angle[:, RAMP] = -slope.angle

    free_drop = stage.plays("stack") & ~hero.is_dropped_on_pile
    statics.exists[:, PLATFORM] = draw.chance(0.35) & (stage.plays("flight") | free_drop)
    center = pair(draw.uniform(0.3, 0.75), floor + draw.uniform(0.14, 0.36))
    statics.center[:, PLATFORM] = center
    statics.half[:, PLATFORM] = pair(draw.uniform(0.10, 0.18), draw.uniform(0.018, 0.032))
    statics.angle[:, PLATFORM] = draw.uniform(-0.45, 0.45)


def _mirror_half(draw: Draw, objects: _Objects, statics: Statics, anchor: Tensor) -> None:
    """Let half of the scenes run from right to left."""
    mirror = draw.chance(0.5)
    flip = mirror.unsqueeze(1)
    for at in (objects.position, anchor.unsqueeze(1)):
        at[..., 0] = torch.where(flip, 1.0 - at[..., 0], at[..., 0])
    velocity = objects.velocity[..., 0]
    objects.velocity[..., 0] = torch.where(flip, -velocity, velocity)
    objects.angle = torch.where(flip, math.pi - objects.angle, objects.angle)
    objects.spin = torch.where(flip, -objects.spin, objects.spin)
    for slot in (WALL, RAMP, PLATFORM):
        center, angle = statics.center[:, slot, 0], statics.angle[:, slot]
        statics.center[:, slot, 0] = torch.where(mirror, 1.0 - center, center)
        statics.angle[:, slot] = torch.where(mirror, -angle, angle)
    sides = statics.exists[:, [LEFT, RIGHT]]
    statics.exists[:, [LEFT, RIGHT]] = torch.where(flip, sides.flip(1), sides)


def _give_way(draw: Draw, stage: Stage, objects: _Objects, statics: Statics) -> None:
    """Nothing may start inside something else: object 0 keeps its place, the rest gives way."""
    position, exists, radius = objects.position, objects.exists, stage.radius
    relative = position.unsqueeze(2) - statics.center.unsqueeze(1)
    distance = box_distance(relative, statics.angle.unsqueeze(1), statics.half.unsqueeze(1))[0]
    gap = distance - radius.unsqueeze(2)  # [B, O, S]
    for slot in (LEFT, RIGHT, PLATFORM):
        statics.exists[:, slot] &= gap[:, 0, slot] > 0.01
    hit = stage.plays("wall")
    statics.exists[:, WALL] &= (gap[:, 0, WALL] > 0.01) | hit

    blocked = ((gap < 0.004) & statics.exists.unsqueeze(1))[..., 1:].any(-1)
    lane, goal = position[:, :, 0], statics.center[:, WALL, :1]
    between = (lane - lane[:, :1]) * (lane - goal) < 0
    blocked |= between & hit.unsqueeze(1) & draw.chance(0.75, OBJECTS)
    for k in range(1, OBJECTS):
        apart = torch.hypot(*(position[:, k : k + 1] - position[:, :k]).unbind(-1))
        near = apart < radius[:, k : k + 1] + radius[:, :k] + 0.004
        if k == 2:  # piled boxes touch by design, flat on flat: their circles overlap, they do not
            near[:, 1] &= ~objects.piled
        exists[:, k] &= ~((near & exists[:, :k]).any(1) | blocked[:, k])
    # Without its lower box the upper one would hang in the air at the start: it simply falls.


def _friction(draw: Draw, stage: Stage) -> Tensor:
    """[B, O] Coulomb coefficients; what should slide mostly can."""
    friction = draw.uniform(0.10, 0.55, OBJECTS)
    downhill = stage.plays("roll", "ramp", "collide").unsqueeze(1) & ~stage.round
    slides = downhill & draw.chance(0.8, OBJECTS)
    return torch.where(slides, draw.uniform(0.01, 0.10, OBJECTS), friction)
