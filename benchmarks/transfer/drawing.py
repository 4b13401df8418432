"""Films drawn with Pillow, which draws whole pixels without antialiasing."""

from __future__ import annotations

import colorsys
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.transfer.scenes import Box, Film, Rng, Scene, outline
from wmreward.video.types import UInt8Array

SIZE = 128
_TOLERANCE = 110.0  # least distance of two colours, of 441

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Look:
    """How a scene is drawn.

    Attributes:
        scale: Drawn so many times as large and made smaller; 1 has jagged edges.
        sky: Colours of the background at its top and its bottom.
        floor, wall, screen: Colours.
        bodies: A colour for each body.
        other: Of body 0 after it has changed its colour.
        line: Width of a dark line around things, in pixels of the finished picture; 0 for none.
        spoke: Whether a line from the middle shows how a circle turns.
        noise: Standard deviation of the camera's noise, in grey levels.
    """

    scale: int
    sky: tuple[Colour, Colour]
    floor: Colour
    wall: Colour
    screen: Colour
    bodies: tuple[Colour, ...]
    other: Colour
    line: float
    spoke: bool
    noise: float


def random_look(rng: Rng, bodies: int) -> Look:
    """Colours that can be told apart, and a manner of drawing."""
    chosen: list[Colour] = []

    def colour(saturation: tuple[float, float], value: tuple[float, float]) -> Colour:
        """One that stands out against those before."""
        for _ in range(200):
            found = colorsys.hsv_to_rgb(rng.random(), rng.uniform(*saturation), rng.uniform(*value))
            made = tuple(round(255 * part) for part in found)
            if all(math.dist(made, other) > _TOLERANCE for other in chosen):
                break
        chosen.append(made)  # type: ignore[arg-type]
        return made  # type: ignore[return-value]

    sky = colour((0.0, 0.35), (0.1, 1.0) if rng.random() < 0.3 else (0.75, 1.0))
    fade = rng.uniform(0.8, 1.0) if rng.random() < 0.4 else 1.0
    floor = colour((0.0, 0.6), (0.15, 0.8))
    wall, screen = colour((0.0, 0.7), (0.2, 0.9)), colour((0.0, 0.8), (0.3, 1.0))
    things = tuple(colour((0.55, 1.0), (0.45, 1.0)) for _ in range(bodies + 1))
    return Look(
        scale=int(rng.choice([1, 2, 4])),
        sky=(sky, tuple(round(fade * part) for part in sky)),  # type: ignore[arg-type]
        floor=floor,
        wall=wall,
        screen=screen,
        bodies=things[1:],
        other=things[0],
        line=float(rng.choice([0.0, 0.0, 1.0, 1.5])),
        spoke=bool(rng.random() < 0.5),
        noise=float(rng.choice([0.0, 0.0, 2.0])),
    )


def draw(scene: Scene, film: Film, look: Look, rng: Rng) -> UInt8Array:
    """``[T, 128, 128, 3]``, RGB."""
    from PIL import Image

    side = SIZE * look.scale
    rows = np.linspace(0, 1, side)[:, None, None]
    top, bottom = (np.array(colour) for colour in look.sky)
    backdrop = np.broadcast_to(top + (bottom - top) * rows, (side, side, 3)).astype(np.uint8)
    frames = []
    for t in range(len(film.angle)):
        picture = Image.fromarray(backdrop.copy())
        _draw_frame(picture, scene, film, t, look)
        if look.scale > 1:
            picture = picture.resize((SIZE, SIZE), Image.Resampling.BOX)
        frames.append(np.asarray(picture, dtype=np.float32))
    video = np.stack(frames)
    video = video + look.noise * rng.standard_normal(video.shape, dtype=np.float32)
    return video.round().clip(0, 255).astype(np.uint8)


def _draw_frame(picture: Any, scene: Scene, film: Film, t: int, look: Look) -> None:
    from PIL import ImageDraw

    pen, side = ImageDraw.Draw(picture), SIZE * look.scale
    width = round(look.line * look.scale)

    def place(x: float, y: float) -> tuple[float, float]:
        return x * side, (1 - y) * side

    def polygon(corners: list[tuple[float, float]], colour: Colour) -> None:
        dark = (0, 0, 0) if width else None
        pen.polygon([place(x, y) for x, y in corners], fill=colour, outline=dark, width=width or 1)

    polygon(Box((-0.1, -0.1, 1.1, scene.floor)).corners(), look.floor)
    for box in (scene.wall, scene.ramp):
        if box is not None:
            polygon(box.corners(), look.wall)
    for number, body in enumerate(scene.bodies):
        if number == 0 and not film.there[t]:
            continue
        changed = number == 0 and film.other_color[t]
        colour = look.other if changed else look.bodies[number]
        shape = body.shape
        if number == 0 and film.other_shape[t]:
            shape = "square" if shape == "circle" else "circle"
        (x, y), angle = film.position[t, number], film.angle[t, number]
        if shape == "circle":
            low, high = place(x - body.size, y + body.size), place(x + body.size, y - body.size)
            pen.ellipse([low, high], fill=colour, outline=(0, 0, 0) if width else None, width=width)
            if look.spoke:
                tip = (x + 0.9 * body.size * math.cos(angle), y + 0.9 * body.size * math.sin(angle))
                pen.line([place(x, y), place(*tip)], fill=(0, 0, 0), width=max(1, 2 * look.scale))
            continue
        cos, sin = math.cos(angle), math.sin(angle)
        corners = outline(shape, body.size)
        polygon([(x + cos * a - sin * b, y + sin * a + cos * b) for a, b in corners], colour)
    if scene.screen is not None:
        polygon(scene.screen.corners(), look.screen)
