"""Random scenes: what stands where, how it starts moving, and which occlusion is planned.

World: unit square, x to the right, y up, floor near y = 0.15. Lengths are in picture widths (at zoom
1), times in frames, angles in radians counter-clockwise. Object 0 is the protagonist of its scene:
scenarios are built around it, aimed occluders hide it and impossible twins alter it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from simworld.batch import Draw, TensorBatch, make_generator
from simworld.geometry import (
    OOD_SHAPES,
    SHAPES,
    TRAIN_SHAPES,
    box_distance,
    reach,
    rest_height,
)

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
    draw = Draw(count, resolve_generator(seed, generator, f"scenes/{split}", device))
    return _build(draw, split, wanted, occlusion)


def _where(condition: Tensor, a: Tensor | float, b: Tensor) -> Tensor:
    """torch.where with the condition [B] broadcast over trailing dimensions of `b`."""
    return torch.where(
        condition.reshape(condition.shape + (1,) * (b.dim() - condition.dim())), a, b
    )


def _pair(x: Tensor, y: Tensor) -> Tensor:
    return torch.stack((x, y), dim=-1)


def _build(draw: Draw, split: Split, wanted: Sequence[str], occlusion: float) -> Scenes:
    b, device = draw.count, draw.device
    weights = [share if name in wanted else 0.0 for name, share in SCENARIOS.items()]
    scenario = draw.choice(weights)
    is_ = {name: scenario == i for i, name in enumerate(SCENARIO_NAMES)}

    if split == "ood":
        low, high = draw.log_uniform(0.0012, 0.0016), draw.log_uniform(0.0075, 0.0100)
        gravity = torch.where(draw.chance(0.5), low, high)
        shapes = torch.tensor(OOD_SHAPES, device=device)[draw.choice([1.0] * 4, OBJECTS)]
        size = draw.uniform(0.050, 0.130, OBJECTS)
    else:
        gravity = draw.log_uniform(0.0016, 0.0075)
        shapes = torch.tensor(TRAIN_SHAPES, device=device)[draw.choice([2.0, 1, 1], OBJECTS)]
        size = draw.uniform(0.055, 0.115, OBJECTS)
    # Occluders stand still in front of small, fast objects, else they slide past.
    plan = torch.zeros(b, OCCLUDERS, dtype=torch.long, device=device)
    aimed = torch.where(draw.chance(0.75) & ~is_["rest"], STANDING, SLIDING)
    plan[:, 0] = torch.where(draw.chance(occlusion), aimed, NO_OCCLUDER)
    plan[:, 1] = torch.where(draw.chance(0.12), DECORATIVE, NO_OCCLUDER)
    passes = plan[:, 0] == STANDING
    smallest = 0.050 if split == "ood" else 0.055
    size[:, 0] = torch.where(passes, smallest + 0.5 * (size[:, 0] - smallest), size[:, 0])
    names = ("circle", "ring", "square", "hexagon")
    circle, ring, square, hexagon = (SHAPES.index(name) for name in names)
    # What rolls should mostly be round; piles are mostly made of boxes.
    roller = circle if split != "ood" else ring
    rolls = is_["roll"] | is_["ramp"] | is_["collide"]
    shapes[:, 0] = torch.where(rolls & draw.chance(0.5), roller, shapes[:, 0])
    if split != "ood":
        pile = is_["stack"].unsqueeze(1) & draw.chance(0.7, OBJECTS - 2)
        shapes[:, 1:3] = torch.where(pile, square, shapes[:, 1:3])
    half_height, radius = rest_height(shapes, size), reach(shapes, size)
    # Lying on a side, shapes with an odd number of sides point upwards.
    top = torch.where((shapes == square) | (shapes == hexagon), half_height, radius)

    speed = gravity.sqrt()  # the natural unit of speed: a fall through half of the picture
    floor = draw.uniform(0.10, 0.22)
    zero = torch.zeros(b, device=device)
    flat = torch.full((b, OBJECTS), -math.pi / 2, device=device)

    static_exists = torch.zeros(b, len(STATICS), dtype=torch.bool, device=device)
    static_center = torch.zeros(b, len(STATICS), 2, device=device)
    static_half = torch.full((b, len(STATICS), 2), 0.05, device=device)
    static_angle = torch.zeros(b, len(STATICS), device=device)
    static_exists[:, FLOOR] = True
    static_center[:, FLOOR] = _pair(zero + 0.5, floor - 1.0)
    static_half[:, FLOOR] = torch.tensor([9.0, 1.0], device=device)
    for slot, face, sign in (
        (LEFT, draw.uniform(-0.03, 0.07), -1.0),
        (RIGHT, draw.uniform(0.93, 1.03), 1.0),
    ):
        static_center[:, slot] = _pair(face + sign, zero)
        static_half[:, slot] = torch.tensor([1.0, 9.0], device=device)
    has_walls = draw.chance(0.4) | (is_["collide"] & draw.chance(0.4))
    static_exists[:, LEFT] = has_walls & ~is_["roll"]
    static_exists[:, RIGHT] = has_walls

    # --- object 0, all scenarios moving from left to right; half of them are mirrored at the end.
    h0, r0 = half_height[:, 0], radius[:, 0]
    on_floor = floor + h0

    flight_x, flight_y = draw.uniform(-0.05, 0.35), floor + r0 + draw.uniform(0.08, 0.60)
    flight_v = _pair(draw.uniform(0.10, 0.55) * speed, draw.uniform(-0.3, 0.8) * speed)

    hurry = torch.where(passes, draw.uniform(1.2, 2.0), 1.0)
    flight_v = flight_v * hurry.unsqueeze(1)

    roll_x, roll_v = draw.uniform(-0.12, 0.25), draw.uniform(0.014, 0.036) * hurry

    # A hit at a chosen time: the ballistic arc through the start and a point on the wall's face.
    wall_x, wall_half = draw.uniform(0.46, 0.80), draw.uniform(0.030, 0.060)
    hit_time = draw.uniform(7.0, 27.0)
    hit_time = torch.where(passes, 0.7 * hit_time, hit_time)
    wall_rolls = draw.chance(0.45)
    wall_height = 2.2 * r0 + draw.uniform(0.02, 0.30)
    start_x = torch.minimum(draw.uniform(0.02, 0.30), wall_x - wall_half - 1.5 * r0 - 0.12)
    hit_y = on_floor + draw.uniform(0.0, 0.8) * (wall_height - h0 - 0.5 * r0).clamp(min=0.0)
    start_y = torch.where(wall_rolls, on_floor, floor + r0 + draw.uniform(0.02, 0.45))
    wall_v = _pair(
        (wall_x - wall_half - r0 - start_x) / hit_time,
        torch.where(wall_rolls, zero, (hit_y - start_y) / hit_time + 0.5 * gravity * hit_time),
    )

    slope, length = draw.uniform(0.24, 0.56), draw.uniform(0.35, 0.58)
    foot, thick = draw.uniform(0.45, 0.62), draw.uniform(0.022, 0.04)
    down = _pair(slope.cos(), -slope.sin())
    normal = _pair(slope.sin(), slope.cos())
    foot_point = _pair(foot, floor)
    ramp_start = foot_point - down * (length * draw.uniform(0.72, 0.95)).unsqueeze(1)
    ramp_start = ramp_start + normal * h0.unsqueeze(1)
    ramp_v = down * (draw.uniform(0.0, 0.35) * speed).unsqueeze(1)

    anchor = _pair(draw.uniform(0.35, 0.65), draw.uniform(0.82, 1.02))
    rod = torch.minimum(draw.uniform(0.30, 0.56), anchor[:, 1] - floor - r0 - 0.02)
    swing = -draw.uniform(0.45, 1.25)
    pendulum = anchor + rod.unsqueeze(1) * _pair(swing.sin(), -swing.cos())

    piled = draw.chance(0.5)
    drop_x, drop_y = draw.uniform(0.25, 0.75), draw.uniform(0.55, 0.92)

    rest_x = draw.uniform(0.2, 0.8)
    collide_x, collide_v = draw.uniform(-0.05, 0.2), draw.uniform(0.016, 0.036) * hurry

    starts = torch.stack(
        [
            _pair(flight_x, flight_y),
            _pair(roll_x, on_floor),
            _pair(start_x, start_y),
            ramp_start,
            pendulum,
            _pair(drop_x, drop_y),
            _pair(rest_x, on_floor),
            _pair(collide_x, on_floor),
        ],
        dim=1,
    )
    velocities = torch.stack(
        [
            flight_v,
            _pair(roll_v, zero),
            wall_v,
            ramp_v,
            torch.zeros_like(ramp_v),
            _pair(draw.uniform(-0.12, 0.12) * speed, draw.uniform(-0.3, 0.2) * speed),
            torch.zeros_like(ramp_v),
            _pair(collide_v, zero),
        ],
        dim=1,
    )
    rows = torch.arange(b, device=device)

    # --- the other objects: lanes from left to right, on the floor or in the air
    lanes = torch.tensor([0.12, 0.37, 0.63, 0.88], device=device)
    order = draw.uniform(0.0, 1.0, 4).argsort(dim=1)[:, : OBJECTS - 1]
    x = lanes[order] + draw.uniform(-0.06, 0.06, OBJECTS - 1)
    calm = is_["rest"] | is_["stack"] | is_["pendulum"] | is_["roll"]
    airborne = draw.chance(0.42, OBJECTS - 1) & ~calm.unsqueeze(1)
    creeping = draw.chance(0.25, OBJECTS - 1) & ~airborne & ~is_["rest"].unsqueeze(1)
    y = torch.where(
        airborne, draw.uniform(0.40, 0.88, OBJECTS - 1), floor.unsqueeze(1) + half_height[:, 1:]
    )
    vx = torch.where(airborne, draw.uniform(-0.4, 0.4, OBJECTS - 1) * speed.unsqueeze(1), 0.0)
    vx = torch.where(creeping, draw.uniform(-0.02, 0.02, OBJECTS - 1), vx)
    vy = torch.where(airborne, draw.uniform(-0.3, 0.5, OBJECTS - 1) * speed.unsqueeze(1), 0.0)
    number = 1 + draw.choice([0.22, 0.33, 0.28, 0.17])
    exists = torch.arange(OBJECTS, device=device) < number.unsqueeze(1)

    # A clear lane lets what rolls pass the occluder.
    exists[:, 1:] &= ~(is_["roll"] & passes).unsqueeze(1) | draw.chance(0.25, OBJECTS - 1)

    # Piles stand under the drop; the object hit in "collide" waits (or comes) from the right.
    has_pile = is_["stack"] & piled
    pile_y1 = floor + half_height[:, 1]
    pile_y2 = pile_y1 + top[:, 1] + half_height[:, 2]
    x[:, 0] = torch.where(has_pile, drop_x + draw.uniform(-0.04, 0.04), x[:, 0])
    x[:, 1] = torch.where(has_pile, x[:, 0] + draw.uniform(-0.02, 0.02), x[:, 1])
    y[:, 0] = torch.where(has_pile, pile_y1, y[:, 0])
    y[:, 1] = torch.where(has_pile, pile_y2, y[:, 1])
    x[:, 0] = torch.where(is_["collide"], draw.uniform(0.5, 0.75), x[:, 0])
    y[:, 0] = torch.where(is_["collide"], floor + half_height[:, 1], y[:, 0])
    vx[:, 0] = torch.where(is_["collide"], -draw.uniform(-0.002, 0.022).clamp(min=0.0), vx[:, 0])
    exists[:, 1] |= is_["collide"] | has_pile
    exists[:, 2] |= has_pile & draw.chance(0.6)
    still = has_pile.unsqueeze(1) & (torch.arange(3, device=device) < 2)
    still[:, 0] |= is_["collide"]
    airborne = airborne & ~still
    vx = torch.where(still & ~is_["collide"].unsqueeze(1), 0.0, vx)
    vy = torch.where(still, 0.0, vy)

    position = torch.cat((starts[rows, scenario].unsqueeze(1), _pair(x, y)), dim=1)
    velocity = torch.cat((velocities[rows, scenario].unsqueeze(1), _pair(vx, vy)), dim=1)

    tumbling0 = is_["flight"] | (is_["wall"] & ~wall_rolls) | is_["stack"] | is_["pendulum"]
    tumbling = torch.cat((tumbling0.unsqueeze(1), airborne), dim=1)
    angle = torch.where(tumbling, draw.uniform(-math.pi, math.pi, OBJECTS), flat)
    angle[:, 0] = torch.where(is_["ramp"], -math.pi / 2 - slope, angle[:, 0])
    spin = torch.where(tumbling, draw.uniform(-0.16, 0.16, OBJECTS), 0.0)
    spin[:, 0] = torch.where(is_["pendulum"], 0.0, spin[:, 0])
    # A round object on a surface starts rolling without slip.
    round_ = (shapes == circle) | (shapes == ring)
    along = torch.where(velocity[..., 0] < 0, -1.0, 1.0) * torch.hypot(*velocity.unbind(-1))
    angle = torch.where(round_, draw.uniform(-math.pi, math.pi, OBJECTS), angle)
    spin = torch.where(round_ & ~tumbling, -along / radius, spin)

    # --- things that stand in the scene
    static_exists[:, WALL] = is_["wall"]
    static_center[:, WALL] = _pair(wall_x, floor + 0.5 * wall_height - 0.05)
    static_half[:, WALL] = _pair(wall_half, 0.5 * wall_height + 0.05)
    extra = draw.chance(0.25) & (is_["flight"] | is_["roll"] | is_["stack"] | is_["ramp"])
    extra &= ~(is_["roll"] & passes)
    extra_height = draw.uniform(0.06, 0.22)
    static_exists[:, WALL] |= extra
    extra_center = _pair(draw.uniform(0.62, 0.92), floor + 0.5 * extra_height - 0.05)
    extra_half = _pair(draw.uniform(0.025, 0.07), 0.5 * extra_height + 0.05)
    static_center[:, WALL] = _where(extra, extra_center, static_center[:, WALL])
    static_half[:, WALL] = _where(extra, extra_half, static_half[:, WALL])
    static_exists[:, RAMP] = is_["ramp"]
    middle = foot_point - down * (0.5 * length).unsqueeze(1) - normal * thick.unsqueeze(1)
    static_center[:, RAMP] = middle
    static_half[:, RAMP] = _pair(0.5 * length, thick)
    static_angle[:, RAMP] = -slope
    static_exists[:, PLATFORM] = draw.chance(0.35) & (is_["flight"] | (is_["stack"] & ~piled))
    static_center[:, PLATFORM] = _pair(draw.uniform(0.3, 0.75), floor + draw.uniform(0.14, 0.36))
    static_half[:, PLATFORM] = _pair(draw.uniform(0.10, 0.18), draw.uniform(0.018, 0.032))
    static_angle[:, PLATFORM] = draw.uniform(-0.45, 0.45)

    tethered = torch.zeros(b, OBJECTS, dtype=torch.bool, device=device)
    tethered[:, 0] = is_["pendulum"]

    # --- mirror half of the scenes
    mirror = draw.chance(0.5)
    flip = mirror.unsqueeze(1)
    position[..., 0] = torch.where(flip, 1.0 - position[..., 0], position[..., 0])
    velocity[..., 0] = torch.where(flip, -velocity[..., 0], velocity[..., 0])
    angle = torch.where(flip, math.pi - angle, angle)
    spin = torch.where(flip, -spin, spin)
    anchor[:, 0] = torch.where(mirror, 1.0 - anchor[:, 0], anchor[:, 0])
    for slot in (WALL, RAMP, PLATFORM):
        center = static_center[:, slot, 0]
        static_center[:, slot, 0] = torch.where(mirror, 1.0 - center, center)
        static_angle[:, slot] = _where(mirror, -static_angle[:, slot], static_angle[:, slot])
    left = torch.where(mirror, static_exists[:, RIGHT], static_exists[:, LEFT])
    right = torch.where(mirror, static_exists[:, LEFT], static_exists[:, RIGHT])
    static_exists[:, LEFT], static_exists[:, RIGHT] = left, right

    # --- nothing may start inside something else: object 0 keeps its place, the rest gives way
    gap = _static_gap(position, static_center, static_half, static_angle) - radius.unsqueeze(2)
    for slot in (LEFT, RIGHT, PLATFORM):
        static_exists[:, slot] &= gap[:, 0, slot] > 0.01
    static_exists[:, WALL] &= (gap[:, 0, WALL] > 0.01) | is_["wall"]
    blocked = ((gap < 0.004) & static_exists.unsqueeze(1))[..., 1:].any(-1)
    lane = position[:, :, 0]
    goal = static_center[:, WALL, :1]
    between = (lane - lane[:, :1]) * (lane - goal) < 0
    blocked |= between & is_["wall"].unsqueeze(1) & draw.chance(0.75, OBJECTS)
    for k in range(1, OBJECTS):
        distance = torch.hypot(*(position[:, k : k + 1] - position[:, :k]).unbind(-1))
        room = radius[:, k : k + 1] + radius[:, :k] + 0.004
        # Piled boxes touch by design, flat on flat: their circles overlap, they do not.
        designed = has_pile if k == 2 else torch.zeros_like(has_pile)
        near = distance < room
        near[:, 1:2] &= ~designed.unsqueeze(1) if k == 2 else near[:, 1:2]
        exists[:, k] &= ~((near & exists[:, :k]).any(1) | blocked[:, k])
    # Without its lower box the upper one would hang in the air at the start: it simply falls.

    friction = draw.uniform(0.10, 0.55, OBJECTS)
    slides = ((is_["ramp"] | rolls).unsqueeze(1) & ~round_) & draw.chance(0.8, OBJECTS)
    friction = torch.where(slides, draw.uniform(0.01, 0.10, OBJECTS), friction)

    return Scenes(
        scenario=scenario,
        gravity=gravity,
        exists=exists,
        shape=shapes,
        size=size,
        position=position,
        velocity=velocity,
        angle=angle,
        spin=spin,
        restitution=draw.uniform(0.25, 0.95, OBJECTS),
        friction=friction,
        rolling=draw.uniform(0.0, 0.02, OBJECTS),
        tethered=tethered,
        anchor=anchor,
        static_exists=static_exists,
        static_center=static_center,
        static_half=static_half,
        static_angle=static_angle,
        occluder_plan=plan,
        occluder_frames=draw.integer(4, 7, OCCLUDERS),
        occluder_dice=draw.uniform(0.0, 1.0, OCCLUDERS, 8),
    )


def _static_gap(position: Tensor, center: Tensor, half: Tensor, angle: Tensor) -> Tensor:
    """[B, O, S] distance of object centres to the static boxes."""
    relative = position.unsqueeze(2) - center.unsqueeze(1)
    return box_distance(relative, angle.unsqueeze(1), half.unsqueeze(1))[0]
