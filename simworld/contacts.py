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
    box_distance,
    cross,
    dot,
    polygon_distance,
    rotate,
    shape_table,
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


@dataclasses.dataclass(frozen=True)
class Contacts:
    """Contacts of every object, [B, O, C]; `other` fields are zero-width for immovable partners."""

    touching: Tensor  # [B, O, C]
    normal: Tensor  # [B, O, C, 2] from the partner to the object
    depth: Tensor  # [B, O, C] overlap, positive where touching
    arm: Tensor  # [B, O, C, 2] from the object's centre to the contact
    restitution: Tensor  # [B, O, C]
    friction: Tensor  # [B, O, C]
    other_arm: Tensor | None  # [B, O, C, 2] from the partner's centre, None if immovable


def corner_offsets(shape: Tensor, size: Tensor, corners: int) -> tuple[Tensor, Tensor]:
    """Corner circle centres [..., V, 2] in the body's frame and which of them exist [..., V].

    `corners` is the number of slots V, at least the number of sides of the shapes.
    """
    table = shape_table(shape.device)
    sides = table.sides[shape].unsqueeze(-1)
    k = torch.arange(corners, device=shape.device)
    angle = (2.0 * k + 1.0) * math.pi / sides
    radius = (table.corner[shape] * size).unsqueeze(-1)
    offsets = radius.unsqueeze(-1) * torch.stack((angle.cos(), angle.sin()), dim=-1)
    exists = (k < sides) & ((radius > 0) | (k == 0))  # a circle has one, at its centre
    return offsets, exists


def object_contacts(state: State, bodies: Bodies) -> Contacts:
    """Contacts between objects: corners of object i against the outline of object j, C = O * V."""
    b, o, v = bodies.has_corner.shape
    arm = rotate(bodies.corner, state.angle.unsqueeze(-1))  # [B, O, V, 2]
    corner = arm + state.position.unsqueeze(2)
    relative = corner.unsqueeze(2) - state.position[:, None, :, None]  # [B, i, j, V, 2]

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
    shape = (b, o, o * v)
    return Contacts(
        touching=((depth > 0) & allowed).reshape(shape),
        normal=normal.reshape(*shape, 2),
        depth=depth.reshape(shape),
        arm=(arm.unsqueeze(2) + toward).reshape(*shape, 2),
        restitution=restitution.repeat_interleave(v, dim=2),
        friction=friction.repeat_interleave(v, dim=2),
        other_arm=(relative + toward).reshape(*shape, 2),
    )


def static_contacts(state: State, bodies: Bodies) -> Contacts:
    """Contacts with the immovable boxes, C = S * V + 4 * (boxes inside the scene)."""
    b, o, v = bodies.has_corner.shape
    s = bodies.static_half.shape[1]
    arm = rotate(bodies.corner, state.angle.unsqueeze(-1))
    corner = arm + state.position.unsqueeze(2)
    relative = corner.unsqueeze(2) - bodies.static_center[:, None, :, None]  # [B, O, S, V, 2]
    distance, normal = box_distance(
        relative, bodies.static_angle[:, None, :, None], bodies.static_half[:, None, :, None]
    )
    rounding = bodies.rounding[:, :, None, None]
    depth = rounding - distance
    touching = (depth > 0) & bodies.hits_static.unsqueeze(-1) & bodies.has_corner.unsqueeze(2)
    flat = (b, o, s * v)

    # Corners of walls, ramps and platforms against the flat sides of polygons.
    signs = corner.new_tensor([[1.0, 1.0], [-1.0, 1.0], [-1.0, -1.0], [1.0, -1.0]])
    edges = bodies.static_half[:, WALL:, None] * signs
    edges = (
        rotate(edges, bodies.static_angle[:, WALL:, None]) + bodies.static_center[:, WALL:, None]
    )
    edges = edges.reshape(b, 1, -1, 2)  # [B, 1, E, 2]
    from_center = edges - state.position.unsqueeze(2)
    edge_distance, edge_normal = polygon_distance(
        from_center,
        state.angle.unsqueeze(2),
        bodies.sides.unsqueeze(2),
        bodies.apothem.unsqueeze(2),
        bodies.half_side.unsqueeze(2),
    )
    edge_depth = bodies.rounding.unsqueeze(2) - edge_distance
    edge_hit = (edge_depth > 0) & bodies.hits_static[:, :, WALL:].repeat_interleave(4, dim=2)
    edge_hit = edge_hit & ~bodies.is_round.unsqueeze(2)

    touching = torch.cat((touching.reshape(flat), edge_hit), dim=2)
    return Contacts(
        touching=touching,
        normal=torch.cat((normal.reshape(*flat, 2), -edge_normal), dim=2),
        depth=torch.cat((depth.reshape(flat), edge_depth), dim=2),
        arm=torch.cat(
            (
                (arm.unsqueeze(2) - rounding.unsqueeze(-1) * normal).reshape(*flat, 2),
                from_center,
            ),
            dim=2,
        ),
        restitution=bodies.restitution.unsqueeze(2).expand_as(touching),
        friction=bodies.friction.unsqueeze(2).expand_as(touching),
        other_arm=None,
    )


def resolve(
    state: State, bodies: Bodies, contacts: Contacts, *, slow: Tensor, first: bool
) -> State:
    """Apply normal impulses, friction and rolling resistance; the first time push overlaps apart.

    Args:
        slow: [B, 1, 1] approach speed below which nothing bounces, so that things come to rest.
        first: whether this is the first of several sweeps over the same contacts. Later ones use no
            restitution and leave positions alone: they only remove what approach is left.
    """
    other_arm = contacts.other_arm
    velocity, spin = state.velocity, state.spin
    objects = velocity.shape[1]
    slots = contacts.depth.shape[2] // objects
    inverse_mass = bodies.inverse_mass.unsqueeze(2)
    inverse_inertia = bodies.inverse_inertia.unsqueeze(2)

    def partner(values: Tensor) -> Tensor:
        """Values [B, O, ...] of the partner objects, [B, 1, C, ...]."""
        return values.repeat_interleave(slots, dim=1).unsqueeze(1)

    def total(values: Tensor) -> Tensor:
        """Sum per partner, [B, O, C, ...] -> [B, O, ...]."""
        summed = values.sum(1)
        return summed.unflatten(1, (objects, slots)).sum(2)

    def share(active: Tensor) -> Tensor:
        """Largest number of active contacts at either body of each contact, [B, O, C]."""
        number = active.sum(2, dtype=velocity.dtype)
        if other_arm is None:
            return number.unsqueeze(2).clamp(min=1.0)
        number = number + total(active.to(velocity.dtype))
        return torch.maximum(number.unsqueeze(2), partner(number)).clamp(min=1.0)

    def relative(direction: Tensor, lever: Tensor, other_lever: Tensor | None) -> Tensor:
        """Relative velocity at the contacts along `direction`, [B, O, C]."""
        speed = dot(velocity.unsqueeze(2), direction) + spin.unsqueeze(2) * lever
        if other_lever is None:
            return speed
        return speed - dot(partner(velocity), direction) - partner(spin) * other_lever

    def inverse_effective_mass(lever: Tensor, other_lever: Tensor | None) -> Tensor:
        mass = inverse_mass + lever * lever * inverse_inertia
        if other_lever is not None:
            mass = mass + partner(bodies.inverse_mass)
            mass = mass + other_lever * other_lever * partner(bodies.inverse_inertia)
        return mass.clamp(min=1e-9)

    def push(
        impulse: Tensor, direction: Tensor, lever: Tensor, other_lever: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        force = impulse.unsqueeze(-1) * direction
        linear, angular = force.sum(2), (impulse * lever).sum(2)
        if other_lever is not None:
            linear = linear - total(force)
            angular = angular - total(impulse * other_lever)
        return (
            velocity + linear * bodies.inverse_mass.unsqueeze(-1),
            spin + angular * bodies.inverse_inertia,
        )

    normal = contacts.normal
    lever = cross(contacts.arm, normal)
    other_lever = None if other_arm is None else cross(other_arm, normal)
    approach = -relative(normal, lever, other_lever)
    active = contacts.touching & (approach > 0)
    change, factor = approach, torch.ones_like(approach)
    if first:
        rebound = approach
        if other_arm is None:
            # The substep overshot the surface by `depth`: take back the speed that gravity gave
            # there, otherwise every bounce would lift the object's energy by the overshoot.
            fall = 2.0 * bodies.gravity.unsqueeze(2) * normal[..., 1] * contacts.depth
            exact = (approach * approach - fall).clamp(min=0.0).sqrt()
            rebound = torch.minimum(exact, approach)
        elastic = torch.where(rebound > slow, contacts.restitution, 0.0)
        change, factor = approach + elastic * rebound, 1.0 + elastic
    weight = (2.0 / (factor * share(active))).clamp(max=1.0)
    impulse = weight * change / inverse_effective_mass(lever, other_lever)
    impulse = torch.where(active, impulse, 0.0)
    velocity, spin = push(impulse, normal, lever, other_lever)

    tangent = torch.stack((-normal[..., 1], normal[..., 0]), dim=-1)
    lever = dot(contacts.arm, normal)  # = cross(arm, tangent)
    other_lever = None if other_arm is None else dot(other_arm, normal)
    limit = contacts.friction * impulse
    grip = -weight * relative(tangent, lever, other_lever)
    grip = grip / inverse_effective_mass(lever, other_lever)
    grip = torch.minimum(torch.maximum(grip, -limit), limit)
    velocity, spin = push(grip, tangent, lever, other_lever)

    if other_arm is None:
        brake = bodies.rolling * bodies.size * impulse.sum(2) * bodies.inverse_inertia
        spin = spin - torch.minimum(torch.maximum(spin, -brake), brake)
    position = state.position
    if first:
        mobility = (
            inverse_mass if other_arm is None else inverse_mass + partner(bodies.inverse_mass)
        )
        move = torch.where(contacts.touching, contacts.depth, 0.0) / mobility.clamp(min=1e-9)
        shift = (move / share(contacts.touching)).unsqueeze(-1) * normal
        shift = shift.sum(2) if other_arm is None else shift.sum(2) - total(shift)
        position = position + shift * bodies.inverse_mass.unsqueeze(-1)
    return State(position=position, velocity=velocity, angle=state.angle, spin=spin)
