"""Shapes: one table read by the physics (contacts) and by the renderer (signed distances).

Every shape is folded into one of its `sides` equal sectors, where its outline is a single straight
edge, then rounded. A circle is the degenerate case: an edge of length zero, all rounding. So one
formula serves all shapes, and a batch may mix them freely.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

SHAPES = ("circle", "triangle", "square", "pentagon", "hexagon", "star", "ring")
"""Shape names in the order of the shape ids."""
TRAIN_SHAPES = (0, 1, 2)
OOD_SHAPES = (3, 4, 5, 6)

#           sides, corner radius, rounding, inner radius (star), band (ring), inertia / (m size^2)
# Lengths are in units of the object's size, chosen so that all shapes cover about pi * size^2.
_ROWS = {
    "circle": (3, 0.00, 1.00, None, None, 0.50),
    "triangle": (3, 1.30, 0.14, None, None, 0.46),
    "square": (4, 1.13, 0.12, None, None, 0.52),
    "pentagon": (5, 1.04, 0.12, None, None, 0.51),
    "hexagon": (6, 1.00, 0.10, None, None, 0.50),
    "star": (5, 1.34, 0.09, 0.58, None, 0.55),
    "ring": (3, 0.00, 1.08, None, 0.42, 0.75),
}


class ShapeTable(NamedTuple):
    """Properties of shapes, each of the dimensions of the shape ids; lengths in object sizes."""

    sides: Tensor  # sectors of the fold
    corner: Tensor  # distance of the corner circles from the centre
    rounding: Tensor  # radius of the corner circles
    apothem: Tensor  # distance of the flat side's core (add the rounding for the surface)
    half_side: Tensor  # half length of the flat side
    inner: Tensor  # where the drawn edge starts on the sector's axis (a star is dented)
    band: Tensor  # width of the drawn band, large for filled shapes
    inertia: Tensor  # moment of inertia / (mass * size^2)


def _columns() -> ShapeTable:
    """The table as one list of numbers per property."""
    rows = [_ROWS[name] for name in SHAPES]
    apothem = [row[1] * math.cos(math.pi / row[0]) for row in rows]
    columns = (
        [float(row[0]) for row in rows],
        [row[1] for row in rows],
        [row[2] for row in rows],
        apothem,
        [row[1] * math.sin(math.pi / row[0]) for row in rows],
        [a if row[3] is None else row[3] for row, a in zip(rows, apothem, strict=True)],
        [99.0 if row[4] is None else row[4] for row in rows],
        [row[5] for row in rows],
    )
    return ShapeTable(*columns)  # type: ignore[arg-type]


_COLUMNS = _columns()


def look_up(shape: Tensor) -> ShapeTable:
    """Properties of shape ids of any dimensions.

    Selection among constants, not indexing: no table has to travel to the device, which would make
    the host wait in the middle of a rendering loop.
    """
    same = [shape == i for i in range(1, len(SHAPES))]

    def select(column: list[float]) -> Tensor:
        value = torch.full(shape.shape, column[0], device=shape.device)
        for mask, number in zip(same, column[1:], strict=True):
            value = torch.where(mask, number, value)
        return value

    return ShapeTable(*(select(column) for column in _COLUMNS))  # type: ignore[arg-type]


def reach(shape: Tensor, size: Tensor) -> Tensor:
    """Radius of the smallest circle around the object, for shape ids and sizes of equal dimensions."""
    table = look_up(shape)
    return (table.corner + table.rounding) * size


def rest_height(shape: Tensor, size: Tensor) -> Tensor:
    """Height of the centre above a surface on which the object lies flat."""
    table = look_up(shape)
    return (table.apothem + table.rounding) * size


def rotate(vector: Tensor, angle: Tensor) -> Tensor:
    """Turn vectors [..., 2] counter-clockwise by `angle` [...]."""
    cos, sin = angle.cos(), angle.sin()
    x, y = vector.unbind(-1)
    return torch.stack((cos * x - sin * y, sin * x + cos * y), dim=-1)


def dot(a: Tensor, b: Tensor) -> Tensor:
    """Inner product over the last dimension of size 2."""
    return a[..., 0] * b[..., 0] + a[..., 1] * b[..., 1]


def cross(a: Tensor, b: Tensor) -> Tensor:
    """z component of the cross product of two vectors [..., 2]."""
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]


def polygon_distance(
    point: Tensor, angle: Tensor, sides: Tensor, apothem: Tensor, half_side: Tensor
) -> tuple[Tensor, Tensor]:
    """Signed distance to a regular polygon and its outward normal.

    Args:
        point: [..., 2] relative to the polygon's centre.
        angle: [...] orientation, in radians; a side faces this direction.
        sides, apothem, half_side: [...] from the shape table, in world units.

    Returns:
        distance [...] (negative inside) and unit normal [..., 2]. The rounding is not subtracted.
    """
    sector = 2.0 * math.pi / sides
    axis = angle + sector * torch.round(
        (torch.atan2(point[..., 1], point[..., 0]) - angle) / sector
    )
    direction = torch.stack((axis.cos(), axis.sin()), dim=-1)
    along = dot(point, direction) - apothem
    across = cross(direction, point)
    across = across - torch.minimum(torch.maximum(across, -half_side), half_side)
    length = torch.hypot(along, across)
    outside = along > 0
    distance = torch.where(outside, length, along)
    # Inside, or exactly on the centre of a circle, the normal is the sector's axis.
    plain = ~outside | (length < 1e-9)
    scale = 1.0 / length.clamp(min=1e-9)
    a = torch.where(plain, 1.0, along * scale).unsqueeze(-1)
    b = torch.where(plain, 0.0, across * scale).unsqueeze(-1)
    perpendicular = torch.stack((-direction[..., 1], direction[..., 0]), dim=-1)
    return distance, a * direction + b * perpendicular


def box_distance(point: Tensor, angle: Tensor, half: Tensor) -> tuple[Tensor, Tensor]:
    """Signed distance to an oriented box and its outward normal.

    Args:
        point: [..., 2] relative to the box's centre.
        angle: [...] orientation in radians.
        half: [..., 2] half extents.
    """
    local = rotate(point, -angle)
    excess = local.abs() - half
    outside = excess.clamp(min=0.0)
    length = torch.hypot(outside[..., 0], outside[..., 1])
    inside = excess.amax(-1)
    is_outside = inside > 0
    face = (excess >= inside.unsqueeze(-1)).to(local.dtype)
    face = face / face.sum(-1, keepdim=True)
    normal = torch.where(
        is_outside.unsqueeze(-1), outside / length.clamp(min=1e-9).unsqueeze(-1), face
    )
    normal = normal * torch.where(local < 0, -1.0, 1.0)
    return torch.where(is_outside, length, inside), rotate(normal, angle)
