"""Contacts: find where bodies touch, then exchange impulses and push overlaps apart.

A body is a convex regular polygon with rounded corners. Its corner circles are tested against the
outlines of all other bodies and of the immovable boxes, and the boxes' corners against the bodies.
All contacts of a group act at once, each scaled down by the number of contacts at its bodies, so
that together they never add energy (a mean of energy-preserving updates cannot gain energy).

Dimensions: B scenes, O objects, C contacts of one object, S static boxes, V corners.
"""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor

from simworld.batch import TensorBatch
from simworld.geometry import (
    ShapeTable,
    box_distance,
    cross,
    dot,
    polygon_distance,
    rotate,
)
from simworld.scenes import WALL


@dataclasses.dataclass(frozen=True)
class State(TensorBatch):
    """What moves: position, velocity [B, O, 2], angle, spin [B, O]."""

    position: Tensor
    velocity: Tensor
    angle: Tensor
    spin: Tensor


@dataclasses.dataclass(frozen=True)
class Bodies(TensorBatch):
    """What stays constant during one frame."""

    sides: Tensor  # [B, O]
    apothem: Tensor  # [B, O]
    half_side: Tensor  # [B, O]
    rounding: Tensor  # [B, O]
    corner: Tensor  # [B, O, V, 2] corner circles in the body's frame
    has_corner: Tensor  # [B, O, V]
    is_round: Tensor  # [B, O]
    size: Tensor  # [B, O]
    inverse_mass: Tensor  # [B, O] zero for held objects
    inverse_inertia: Tensor  # [B, O]
    restitution: Tensor  # [B, O]
    friction: Tensor  # [B, O]
    rolling: Tensor  # [B, O]
    gravity: Tensor  # [B, O] signed downward acceleration
    hits_object: Tensor  # [B, O, O] symmetric
    hits_static: Tensor  # [B, O, S]
    static_center: Tensor  # [B, S, 2]
    static_half: Tensor  # [B, S, 2]
    static_angle: Tensor  # [B, S]
    static_corner: Tensor  # [B, E, 2] corners of the boxes inside the scene


@dataclasses.dataclass(frozen=True)
class Contacts:
    """Contacts of every object, [B, O, C], with all that stays constant over the sweeps.

    A direction is three numbers, first dimension: how the object's velocity (x, y) and spin add up
    to the speed of the contact point along it. The partners' directions are None if immovable.
    """

    touching: Tensor  # [B, O, C]
    depth: Tensor  # [B, O, C] overlap, positive where touching
    normal: Tensor  # [3, B, O, C] from the partner to the object
    tangent: Tensor  # [3, B, O, C]
    other_normal: Tensor | None  # [3, B, O, C]
    other_tangent: Tensor | None  # [3, B, O, C]
    normal_mass: Tensor  # [B, O, C] effective mass along the normal
    tangent_mass: Tensor  # [B, O, C]
    restitution: Tensor  # [B, O, C]
    friction: Tensor  # [B, O, C]


def corner_offsets(table: ShapeTable, size: Tensor, corners: int) -> tuple[Tensor, Tensor]:
    """Corner circle centres [..., V, 2] in the body's frame and which of them exist [..., V].

    `corners` is the number of slots V, at least the number of sides of the shapes.
    """
    sides = table.sides.unsqueeze(-1)
    k = torch.arange(corners, device=size.device)
    angle = (2.0 * k + 1.0) * math.pi / sides
    radius = (table.corner * size).unsqueeze(-1)
    offsets = radius.unsqueeze(-1) * torch.stack((angle.cos(), angle.sin()), dim=-1)
    exists = (k < sides) & ((radius > 0) | (k == 0))  # a circle has one, at its centre
    return offsets, exists


def turned_corners(state: State, bodies: Bodies) -> Tensor:
    """Corner circles relative to the objects' centres in world directions, [B, O, V, 2]."""
    return rotate(bodies.corner, state.angle.unsqueeze(-1))


def _partner(values: Tensor, slots: int) -> Tensor:
    """Values [..., B, O] of the partner objects, [..., B, 1, C]; C = O * `slots`."""
    return values.unsqueeze(-1).expand(*values.shape, slots).flatten(-2).unsqueeze(-2)


def _directions(normal: Tensor, arm: Tensor) -> tuple[Tensor, Tensor]:
    """Normal and tangent directions [3, B, O, C] from vectors [B, O, C, 2]."""
    x, y = normal.unbind(-1)
    # cross(arm, tangent) = dot(arm, normal)
    return torch.stack((x, y, cross(arm, normal))), torch.stack((-y, x, dot(arm, normal)))


def _inverse_masses(bodies: Bodies) -> Tensor:
    """[3, B, O] what an impulse of one along x, y and around the centre changes."""
    return torch.stack((bodies.inverse_mass, bodies.inverse_mass, bodies.inverse_inertia))


def _contacts(
    bodies: Bodies,
    touching: Tensor,
    depth: Tensor,
    normal: Tensor,
    arm: Tensor,
    other_arm: Tensor | None,
    restitution: Tensor,
    friction: Tensor,
) -> Contacts:
    """Assemble contacts from vectors [B, O, C, 2] and numbers [B, O, C]."""
    inverse = _inverse_masses(bodies)
    along, across = _directions(normal, arm)
    softness = [(inverse.unsqueeze(-1) * d * d).sum(0) for d in (along, across)]
    other_along, other_across = None, None
    if other_arm is not None:
        other_along, other_across = _directions(normal, other_arm)
        other_inverse = _partner(inverse, depth.shape[2] // depth.shape[1])
        softness[0] = softness[0] + (other_inverse * other_along * other_along).sum(0)
        softness[1] = softness[1] + (other_inverse * other_across * other_across).sum(0)
    return Contacts(
        touching=touching,
        depth=depth,
        normal=along,
        tangent=across,
        other_normal=other_along,
        other_tangent=other_across,
        # Between two held objects nothing moves; the bound only avoids a division by zero.
        normal_mass=1.0 / softness[0].clamp(min=1e-9),
        tangent_mass=1.0 / softness[1].clamp(min=1e-9),
        restitution=restitution,
        friction=friction,
    )


def object_contacts(state: State, bodies: Bodies, corners: Tensor) -> Contacts:
    """Contacts between objects: corners of object i against the outline of object j, C = O * V."""
    b, o, v = bodies.has_corner.shape
    place = corners + state.position.unsqueeze(2)
    relative = place.unsqueeze(2) - state.position[:, None, :, None]  # [B, i, j, V, 2]

    def target(values: Tensor) -> Tensor:
        return values[:, None, :, None]

    distance, normal = polygon_distance(
        relative,
        target(state.angle),
        target(bodies.sides),
        target(bodies.apothem),
        target(bodies.half_side),
    )
    rounding = bodies.rounding[:, :, None, None]
    depth = rounding + target(bodies.rounding) - distance
    # A circle's outline is met by other circles only, and once: its own centre meets polygons.
    first = torch.ones(o, o, dtype=torch.bool, device=depth.device).triu(1)
    tested = ~bodies.is_round.unsqueeze(1) | (bodies.is_round.unsqueeze(2) & first)
    allowed = (bodies.hits_object & tested).unsqueeze(-1) & bodies.has_corner.unsqueeze(2)
    toward = -rounding.unsqueeze(-1) * normal
    restitution = (bodies.restitution.unsqueeze(2) * bodies.restitution.unsqueeze(1)).sqrt()
    friction = (bodies.friction.unsqueeze(2) * bodies.friction.unsqueeze(1)).sqrt()
    return _contacts(
        bodies,
        touching=((depth > 0) & allowed).flatten(2),
        depth=depth.flatten(2),
        normal=normal.flatten(2, 3),
        arm=(corners.unsqueeze(2) + toward).flatten(2, 3),
        other_arm=(relative + toward).flatten(2, 3),
        restitution=restitution.unsqueeze(-1).expand(b, o, o, v).flatten(2),
        friction=friction.unsqueeze(-1).expand(b, o, o, v).flatten(2),
    )


def static_contacts(state: State, bodies: Bodies, corners: Tensor) -> Contacts:
    """Contacts with the immovable boxes, C = S * V + 4 * (boxes inside the scene)."""
    place = corners + state.position.unsqueeze(2)
    relative = place.unsqueeze(2) - bodies.static_center[:, None, :, None]  # [B, O, S, V, 2]
    distance, normal = box_distance(
        relative, bodies.static_angle[:, None, :, None], bodies.static_half[:, None, :, None]
    )
    rounding = bodies.rounding[:, :, None, None]
    depth = rounding - distance
    touching = (depth > 0) & bodies.hits_static.unsqueeze(-1) & bodies.has_corner.unsqueeze(2)
    arm = corners.unsqueeze(2) - rounding.unsqueeze(-1) * normal

    # Corners of walls, ramps and platforms against the flat sides of polygons.
    from_center = bodies.static_corner.unsqueeze(1) - state.position.unsqueeze(2)  # [B, O, E, 2]
    edge_distance, edge_normal = polygon_distance(
        from_center,
        state.angle.unsqueeze(2),
        bodies.sides.unsqueeze(2),
        bodies.apothem.unsqueeze(2),
        bodies.half_side.unsqueeze(2),
    )
    edge_depth = bodies.rounding.unsqueeze(2) - edge_distance
    hits = bodies.hits_static[:, :, WALL:] & ~bodies.is_round.unsqueeze(2)
    edge_touching = (edge_depth > 0) & hits.unsqueeze(-1).expand(*hits.shape, 4).flatten(2)

    touching = torch.cat((touching.flatten(2), edge_touching), dim=2)
    return _contacts(
        bodies,
        touching=touching,
        depth=torch.cat((depth.flatten(2), edge_depth), dim=2),
        normal=torch.cat((normal.flatten(2, 3), -edge_normal), dim=2),
        arm=torch.cat((arm.flatten(2, 3), from_center), dim=2),
        other_arm=None,
        restitution=bodies.restitution.unsqueeze(2).expand_as(touching),
        friction=bodies.friction.unsqueeze(2).expand_as(touching),
    )


def static_corners(center: Tensor, half: Tensor, angle: Tensor) -> Tensor:
    """Corners [B, E, 2] of the boxes that stand inside the scene, four for each."""
    signs = half.new_tensor([[1.0, 1.0], [-1.0, 1.0], [-1.0, -1.0], [1.0, -1.0]])
    corners = rotate(half[:, WALL:, None] * signs, angle[:, WALL:, None])
    return (corners + center[:, WALL:, None]).flatten(1, 2)


def resolve(
    state: State, bodies: Bodies, contacts: Contacts, *, slow: Tensor, first: bool
) -> State:
    """Apply normal impulses, friction and rolling resistance; the first time push overlaps apart.

    Args:
        slow: [B, 1, 1] approach speed below which nothing bounces, so that things come to rest.
        first: whether this is the first of several sweeps over the same contacts. Later ones use no
            restitution and leave positions alone: they only remove what approach is left.
    """
    pairs = contacts.other_normal is not None
    objects = bodies.size.shape[1]
    slots = contacts.depth.shape[2] // objects
    motion = torch.cat((state.velocity.movedim(-1, 0), state.spin.unsqueeze(0)))  # [3, B, O]
    inverse = _inverse_masses(bodies)

    def total(values: Tensor) -> Tensor:
        """Sum per partner, [..., B, O, C] -> [..., B, O]."""
        return values.sum(-2).unflatten(-1, (objects, slots)).sum(-1)

    def share(active: Tensor) -> Tensor:
        """Largest number of active contacts at either body of each contact, [B, O, C]."""
        active = active.to(motion.dtype)
        number = active.sum(2)
        if not pairs:
            return number.unsqueeze(2).clamp(min=1.0)
        number = number + total(active)
        return torch.maximum(number.unsqueeze(2), _partner(number, slots)).clamp(min=1.0)

    def relative(direction: Tensor, other: Tensor | None) -> Tensor:
        """Relative velocity at the contacts along a direction, [B, O, C]."""
        speed = (motion.unsqueeze(-1) * direction).sum(0)
        return speed if other is None else speed - (_partner(motion, slots) * other).sum(0)

    def push(impulse: Tensor, direction: Tensor, other: Tensor | None) -> Tensor:
        """The motion after impulses [B, O, C] along a direction."""
        received = (impulse * direction).sum(-1)
        if other is not None:
            received = received - total(impulse * other)
        return motion + inverse * received

    approach = -relative(contacts.normal, contacts.other_normal)
    active = contacts.touching & (approach > 0)
    if first:
        rebound = approach
        if not pairs:
            # The substep overshot the surface by `depth`: take back the speed that gravity gave
            # there, otherwise every bounce would lift the object's energy by the overshoot.
            fall = 2.0 * bodies.gravity.unsqueeze(2) * contacts.normal[1] * contacts.depth
            rebound = torch.minimum((approach * approach - fall).clamp(min=0.0).sqrt(), approach)
        elastic = torch.where(rebound > slow, contacts.restitution, 0.0)
        change = approach + elastic * rebound
        weight = (2.0 / ((1.0 + elastic) * share(active))).clamp(max=1.0)
    else:
        change = approach
        weight = (2.0 / share(active)).clamp(max=1.0)
    impulse = torch.where(active, weight * change * contacts.normal_mass, 0.0)
    motion = push(impulse, contacts.normal, contacts.other_normal)

    limit = contacts.friction * impulse
    grip = weight * relative(contacts.tangent, contacts.other_tangent) * contacts.tangent_mass
    grip = -torch.minimum(torch.maximum(grip, -limit), limit)
    motion = push(grip, contacts.tangent, contacts.other_tangent)

    spin = motion[2]
    if not pairs:
        brake = bodies.rolling * bodies.size * impulse.sum(2) * bodies.inverse_inertia
        spin = spin - torch.minimum(torch.maximum(spin, -brake), brake)
    position = state.position
    if first:
        mobility = bodies.inverse_mass.unsqueeze(2)
        if pairs:
            mobility = mobility + _partner(bodies.inverse_mass, slots)
        move = torch.where(contacts.touching, contacts.depth, 0.0) / mobility.clamp(min=1e-9)
        move = move / share(contacts.touching) * contacts.normal[:2]
        shift = move.sum(-1) - total(move) if pairs else move.sum(-1)
        position = position + (shift * bodies.inverse_mass).movedim(0, -1)
    return State(
        position=position, velocity=motion[:2].movedim(0, -1), angle=state.angle, spin=spin
    )
