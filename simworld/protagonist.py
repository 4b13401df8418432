"""How object 0 starts in each scenario: from left to right; half of the scenes are mirrored later."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from simworld.batch import Draw
from simworld.scenes import SCENARIO_NAMES
from simworld.stage import Stage, pair


class Start(NamedTuple):
    """Where an object starts, and how fast: [B, 2] each."""

    position: Tensor
    velocity: Tensor


class Barrier(NamedTuple):
    """The wall that is hit: [B] each. `is_rolled_at`: the object comes along the floor."""

    x: Tensor
    half_width: Tensor
    height: Tensor
    is_rolled_at: Tensor


class Slope(NamedTuple):
    """The ramp: angle, length, half thickness [B]; its foot, and the unit vectors down and off it [B, 2]."""

    angle: Tensor
    length: Tensor
    foot: Tensor
    down: Tensor
    normal: Tensor
    thick: Tensor


class Protagonist(NamedTuple):
    """Object 0 and what its scenarios need: a wall, a ramp, a rod's anchor [B, 2], a pile below a drop."""

    start: Start
    barrier: Barrier
    slope: Slope
    anchor: Tensor
    is_dropped_on_pile: Tensor
    drop_x: Tensor


def place_protagonist(draw: Draw, stage: Stage) -> Protagonist:
    """Draw object 0 of every scenario, and keep of each scene the one that it plays."""
    on_floor = stage.floor + stage.half_height[:, 0]
    zero = torch.zeros_like(on_floor)
    still = pair(zero, zero)

    flight = _flight(draw, stage)
    hurry = torch.where(stage.passes, draw.uniform(1.2, 2.0), 1.0)
    flight = flight._replace(velocity=flight.velocity * hurry.unsqueeze(1))
    roll_x, roll_v = draw.uniform(-0.12, 0.25), draw.uniform(0.014, 0.036) * hurry
    wall, barrier = _wall(draw, stage)
    ramp, slope = _ramp(draw, stage)
    bob, anchor = _pendulum(draw, stage)
    piled = draw.chance(0.5)
    drop_x, drop_y = draw.uniform(0.25, 0.75), draw.uniform(0.55, 0.92)
    rest_x = draw.uniform(0.2, 0.8)
    collide_x, collide_v = draw.uniform(-0.05, 0.2), draw.uniform(0.016, 0.036) * hurry
    drop_v = pair(draw.uniform(-0.12, 0.12) * stage.speed, draw.uniform(-0.3, 0.2) * stage.speed)

    starts = {
        "flight": flight,
        "roll": Start(pair(roll_x, on_floor), pair(roll_v, zero)),
        "wall": wall,
        "ramp": ramp,
        "pendulum": Start(bob, still),
        "stack": Start(pair(drop_x, drop_y), drop_v),
        "rest": Start(pair(rest_x, on_floor), still),
        "collide": Start(pair(collide_x, on_floor), pair(collide_v, zero)),
    }
    rows = torch.arange(draw.count, device=draw.device)
    played = Start(
        *(
            torch.stack(sides, dim=1)[rows, stage.scenario]
            for sides in zip(*(starts[name] for name in SCENARIO_NAMES), strict=True)
        )
    )
    return Protagonist(played, barrier, slope, anchor, piled, drop_x)


def _flight(draw: Draw, stage: Stage) -> Start:
    x, height = draw.uniform(-0.05, 0.35), draw.uniform(0.08, 0.60)
    velocity = pair(draw.uniform(0.10, 0.55) * stage.speed, draw.uniform(-0.3, 0.8) * stage.speed)
    return Start(pair(x, stage.floor + stage.radius[:, 0] + height), velocity)


def _wall(draw: Draw, stage: Stage) -> tuple[Start, Barrier]:
    """A hit at a chosen time: the ballistic arc through the start and a point on the wall's face."""
    radius, half_height = stage.radius[:, 0], stage.half_height[:, 0]
    on_floor = stage.floor + half_height
    wall_x, half_width = draw.uniform(0.46, 0.80), draw.uniform(0.030, 0.060)
    hit_time = draw.uniform(7.0, 27.0)
    hit_time = torch.where(stage.passes, 0.7 * hit_time, hit_time)
    rolls = draw.chance(0.45)
    height = 2.2 * radius + draw.uniform(0.02, 0.30)
    x = torch.minimum(draw.uniform(0.02, 0.30), wall_x - half_width - 1.5 * radius - 0.12)
    reachable = (height - half_height - 0.5 * radius).clamp(min=0.0)
    hit_y = on_floor + draw.uniform(0.0, 0.8) * reachable
    y = torch.where(rolls, on_floor, stage.floor + radius + draw.uniform(0.02, 0.45))
    rise = (hit_y - y) / hit_time + 0.5 * stage.gravity * hit_time
    velocity = pair(
        (wall_x - half_width - radius - x) / hit_time,
        torch.where(rolls, torch.zeros_like(rise), rise),
    )
    return Start(pair(x, y), velocity), Barrier(wall_x, half_width, height, rolls)


def _ramp(draw: Draw, stage: Stage) -> tuple[Start, Slope]:
    """On top of a slope, its flat side down."""
    angle, length = draw.uniform(0.24, 0.56), draw.uniform(0.35, 0.58)
    foot_x, thick = draw.uniform(0.45, 0.62), draw.uniform(0.022, 0.04)
    foot = pair(foot_x, stage.floor)
    down, normal = pair(angle.cos(), -angle.sin()), pair(angle.sin(), angle.cos())
    position = foot - down * (length * draw.uniform(0.72, 0.95)).unsqueeze(1)
    position = position + normal * stage.half_height[:, :1]
    velocity = down * (draw.uniform(0.0, 0.35) * stage.speed).unsqueeze(1)
    return Start(position, velocity), Slope(angle, length, foot, down, normal, thick)


def _pendulum(draw: Draw, stage: Stage) -> tuple[Tensor, Tensor]:
    """Where the bob and the rod's other end are."""
    anchor = pair(draw.uniform(0.35, 0.65), draw.uniform(0.82, 1.02))
    room = anchor[:, 1] - stage.floor - stage.radius[:, 0] - 0.02
    rod = torch.minimum(draw.uniform(0.30, 0.56), room)
    swing = -draw.uniform(0.45, 1.25)
    return anchor + rod.unsqueeze(1) * pair(swing.sin(), -swing.cos()), anchor
