"""Scenes for pymunk (the engine Chipmunk), and what happens in them.

A world is one unit wide and high, y up; time is in seconds. Body 0 is the one that breaks the rules.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

FPS = 24
FRAMES = 48
_STEPS = 10  # of the engine per frame
_SCALE = 100.0  # the engine's tolerances are meant for worlds of some hundred units
THINGS, FLOOR, WALL = 0b001, 0b010, 0b100
"""Layers of the engine: bodies and ramps, the floor, walls."""

Rng = np.random.Generator


@dataclass(frozen=True)
class Body:
    """One moving thing: ``shape`` is circle, square, triangle or plank; ``size`` is its radius."""

    shape: str
    size: float
    position: tuple[float, float]
    velocity: tuple[float, float] = (0.0, 0.0)
    angle: float = 0.0
    spin: float = 0.0
    elasticity: float = 0.5
    friction: float = 0.5


@dataclass(frozen=True)
class Box:
    """An immovable box: ``(left, bottom, right, top)``, turned by ``angle`` about its middle."""

    edges: tuple[float, float, float, float]
    angle: float = 0.0

    def corners(self) -> list[tuple[float, float]]:
        left, bottom, right, top = self.edges
        x, y = (left + right) / 2, (bottom + top) / 2
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        offsets = [
            (a - x, b - y) for a, b in ((left, bottom), (right, bottom), (right, top), (left, top))
        ]
        return [(x + cos * a - sin * b, y + sin * a + cos * b) for a, b in offsets]


@dataclass(frozen=True)
class Scene:
    """Where everything starts. ``screen`` hides what is behind it and touches nothing."""

    bodies: tuple[Body, ...]
    floor: float
    gravity: float
    wall: Box | None = None
    ramp: Box | None = None
    screen: Box | None = None


@dataclass(frozen=True)
class Break:
    """What happens to body 0 (or to the world) from ``frame`` on."""

    frame: int = 0
    shift: tuple[float, float] = (0.0, 0.0)
    kick: tuple[float, float] = (0.0, 0.0)
    gravity: float = 1.0
    halt: bool = False
    through: int = 0
    """Layers that body 0 no longer touches."""


@dataclass(frozen=True)
class Film:
    """Positions and angles of all bodies frame by frame, and how body 0 looks.

    Attributes:
        position: [T, N, 2]
        angle: [T, N]
        there: [T] whether body 0 is there.
        other_shape, other_color: [T] whether body 0 has its other shape or colour.
    """

    position: np.ndarray
    angle: np.ndarray
    there: np.ndarray = field(default_factory=lambda: np.ones(FRAMES, bool))
    other_shape: np.ndarray = field(default_factory=lambda: np.zeros(FRAMES, bool))
    other_color: np.ndarray = field(default_factory=lambda: np.zeros(FRAMES, bool))

    def retimed(self, index: Sequence[int] | np.ndarray) -> Film:
        return Film(*(getattr(self, name)[index] for name in self.__dataclass_fields__))


def play(scene: Scene, broken: Break | None = None) -> Film:
    """Let the engine run for `FRAMES` frames, with an intervention or without."""
    import pymunk

    space = pymunk.Space()
    space.gravity = (0.0, -scene.gravity * _SCALE)
    space.iterations = 20
    _add_statics(pymunk, space, scene)
    bodies = [_add_body(pymunk, space, body) for body in scene.bodies]
    first, shapes = bodies[0], list(bodies[0].shapes)
    position = np.empty((FRAMES, len(bodies), 2))
    angle = np.empty((FRAMES, len(bodies)))
    for t in range(FRAMES):
        if t:
            for _ in range(_STEPS):
                space.step(1 / (FPS * _STEPS))
        if broken is not None and t == broken.frame:
            first.position += pymunk.Vec2d(*broken.shift) * _SCALE
            first.velocity += pymunk.Vec2d(*broken.kick) * _SCALE
            space.gravity = space.gravity * broken.gravity
            if broken.through:
                mask = (THINGS | FLOOR | WALL) & ~broken.through
                for shape in shapes:
                    shape.filter = pymunk.ShapeFilter(categories=THINGS, mask=mask)
            if broken.halt:
                first.body_type = pymunk.Body.KINEMATIC
                first.velocity, first.angular_velocity = (0.0, 0.0), 0.0
        position[t] = [(b.position.x / _SCALE, b.position.y / _SCALE) for b in bodies]
        angle[t] = [b.angle for b in bodies]
    return Film(position, angle)


def _add_statics(pymunk: Any, space: Any, scene: Scene) -> None:
    floor = Box((-3.0, scene.floor - 1.0, 4.0, scene.floor))
    for box, layer in ((floor, FLOOR), (scene.wall, WALL), (scene.ramp, THINGS)):
        if box is None:
            continue
        corners = [(x * _SCALE, y * _SCALE) for x, y in box.corners()]
        shape = pymunk.Poly(space.static_body, corners)
        shape.elasticity, shape.friction = 0.9, 0.9
        shape.filter = pymunk.ShapeFilter(categories=layer)
        space.add(shape)


def outline(shape: str, size: float) -> list[tuple[float, float]]:
    """Corners of a polygon about its centre of mass (none for a circle)."""
    if shape == "square":
        side = 0.88 * size
        return [(-side, -side), (side, -side), (side, side), (-side, side)]
    if shape == "plank":
        return [(-1.25 * size, -0.5 * size), (1.25 * size, -0.5 * size),
                (1.25 * size, 0.5 * size), (-1.25 * size, 0.5 * size)]  # fmt: skip
    if shape == "triangle":
        turns = (math.pi / 2 + k * 2 * math.pi / 3 for k in range(3))
        return [(1.2 * size * math.cos(t), 1.2 * size * math.sin(t)) for t in turns]
    return []


def _add_body(pymunk: Any, space: Any, body: Body) -> Any:
    size = body.size * _SCALE
    corners = [(x * _SCALE, y * _SCALE) for x, y in outline(body.shape, body.size)]
    mass = body.size**2 * 100
    moment = (
        pymunk.moment_for_poly(mass, corners)
        if corners
        else pymunk.moment_for_circle(mass, 0, size)
    )
    made = pymunk.Body(mass, moment)
    made.position = (body.position[0] * _SCALE, body.position[1] * _SCALE)
    made.velocity = (body.velocity[0] * _SCALE, body.velocity[1] * _SCALE)
    made.angle, made.angular_velocity = body.angle, body.spin
    shape = pymunk.Poly(made, corners) if corners else pymunk.Circle(made, size)
    shape.elasticity, shape.friction = body.elasticity, body.friction
    shape.filter = pymunk.ShapeFilter(categories=THINGS)
    space.add(made, shape)
    return made


# --- random scenes


def half_height(shape: str, size: float) -> float:
    """From the floor to the centre of a body that lies flat."""
    return {"circle": size, "square": 0.88 * size, "plank": 0.5 * size, "triangle": 0.6 * size}[
        shape
    ]


def _body(rng: Rng, *shapes: str) -> Body:
    names = shapes or ("circle", "circle", "square", "triangle", "plank")
    return Body(
        shape=str(rng.choice(names)),
        size=rng.uniform(0.055, 0.1),
        position=(0.0, 0.0),
        elasticity=rng.uniform(0.3, 0.95),
        friction=rng.uniform(0.1, 0.9),
    )


def _thrown(rng: Rng, scene: Scene) -> Scene:
    body = replace(
        _body(rng),
        position=(rng.uniform(0.08, 0.3), scene.floor + rng.uniform(0.25, 0.6)),
        velocity=(rng.uniform(0.15, 0.55), rng.uniform(-0.1, 0.9)),
        angle=rng.uniform(-3, 3),
        spin=rng.uniform(-4, 4),
    )
    return replace(scene, bodies=(body,))


def _rolling(rng: Rng, scene: Scene) -> Scene:
    body = _body(rng, "circle")
    speed = rng.uniform(0.35, 0.75)
    body = replace(
        body,
        position=(rng.uniform(-0.05, 0.15), scene.floor + body.size),
        velocity=(speed, 0.0),
        spin=-speed / body.size,
    )
    return replace(scene, bodies=(body,))


def _dropped(rng: Rng, scene: Scene) -> Scene:
    body = replace(
        _body(rng),
        position=(rng.uniform(0.25, 0.75), scene.floor + rng.uniform(0.45, 0.7)),
        velocity=(rng.uniform(-0.12, 0.12), 0.0),
        angle=rng.uniform(-3, 3),
        spin=rng.uniform(-2, 2),
    )
    return replace(scene, bodies=(body,))


def _at_a_wall(rng: Rng, scene: Scene) -> Scene:
    moving = (_rolling if rng.random() < 0.5 else _thrown)(rng, scene)
    left, high = rng.uniform(0.5, 0.75), rng.uniform(0.25, 0.5)
    wall = Box((left, scene.floor, left + rng.uniform(0.06, 0.12), scene.floor + high))
    return replace(moving, wall=wall)


def _down_a_ramp(rng: Rng, scene: Scene) -> Scene:
    slope, middle, height = rng.uniform(0.25, 0.55), rng.uniform(0.25, 0.35), rng.uniform(0.12, 0.2)
    x, y = middle, scene.floor + height
    ramp = Box((x - 0.28, y - 0.025, x + 0.28, y + 0.025), -slope)
    body = _body(rng, "circle", "circle", "square")
    up = 0.025 + half_height(body.shape, body.size) + 0.002
    back = rng.uniform(0.1, 0.2)
    start = (
        x - back * math.cos(slope) + up * math.sin(slope),
        y + back * math.sin(slope) + up * math.cos(slope),
    )
    body = replace(body, position=start, angle=-slope, friction=0.3)
    return replace(scene, bodies=(body,), ramp=ramp)


SETTINGS: dict[str, Callable[[Rng, Scene], Scene]] = {
    "thrown": _thrown,
    "rolling": _rolling,
    "dropped": _dropped,
    "wall": _at_a_wall,
    "ramp": _down_a_ramp,
}


def random_scene(rng: Rng, settings: Sequence[str], *, alone: bool = False) -> Scene:
    """A scene of one of these settings; up to two other bodies lie about unless body 0 is to be alone."""
    floor = rng.uniform(0.1, 0.25)
    scene = Scene((), floor, rng.uniform(0.9, 2.6))
    scene = SETTINGS[str(rng.choice(list(settings)))](rng, scene)
    others: list[Body] = []
    for _ in range(0 if alone else rng.integers(0, 3)):
        body = _body(rng)
        place = (rng.uniform(0.1, 0.9), floor + half_height(body.shape, body.size))
        body = replace(body, position=place, angle=0.0)
        near = [*scene.bodies, *others]
        reach = [1.4 * (body.size + other.size) for other in near]
        apart = all(
            math.dist(place, other.position) > r for other, r in zip(near, reach, strict=True)
        )
        free = scene.ramp is None or place[0] > 0.7
        if scene.wall is not None:
            left, _, right, _ = scene.wall.edges
            free = free and not left - 0.15 < place[0] < right + 0.15
        if apart and free:
            others.append(body)
    scene = replace(scene, bodies=(*scene.bodies, *others))
    return mirrored(scene) if rng.random() < 0.5 else scene


def mirrored(scene: Scene) -> Scene:
    """Left and right exchanged."""

    def box(one: Box | None) -> Box | None:
        if one is None:
            return None
        left, bottom, right, top = one.edges
        return Box((1 - right, bottom, 1 - left, top), -one.angle)

    bodies = tuple(
        replace(
            body,
            position=(1 - body.position[0], body.position[1]),
            velocity=(-body.velocity[0], body.velocity[1]),
            angle=-body.angle,
            spin=-body.spin,
        )
        for body in scene.bodies
    )
    return replace(
        scene, bodies=bodies, wall=box(scene.wall), ramp=box(scene.ramp), screen=box(scene.screen)
    )
