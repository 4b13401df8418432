"""Rendering: trajectories and looks in, antialiased video out. One pure function of tensors.

Everything is painted back to front with coverage from signed distances, so edges are soft at any
resolution and sub-pixel motion shows. Loops run over the few object slots, never over the batch; the
peak memory in eager mode is about 70 maps of [B, T, size, size] floats.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from simworld.camera import camera_center
from simworld.drawn import Style
from simworld.geometry import ShapeTable, look_up
from simworld.looks import PATTERNS, Looks
from simworld.scenes import FLOOR, LEFT, PLATFORM, RAMP, RIGHT, WALL
from simworld.trajectories import PER_FRAME, Trajectories

SOLID, STRIPES, CHECKER, SPOT, HALVES = range(len(PATTERNS))
ROD_HALF_WIDTH = 0.006


def _field(value: Tensor) -> Tensor:
    """[B] or [B, T] -> broadcastable over [B, T, H, W]."""
    return value.reshape(*value.shape, *(1,) * (4 - value.dim()))


def _rgb(color: Tensor) -> Tensor:
    """[B, 3] or [B, T, 3] -> broadcastable over [B, 3, T, H, W]."""
    if color.dim() == 2:
        return color[:, :, None, None, None]
    return color.transpose(1, 2)[..., None, None]


def _paint(canvas: Tensor, color: Tensor, alpha: Tensor) -> Tensor:
    """Lay `color` over `canvas` [B, 3, T, H, W] with coverage `alpha` [B, T, H, W].

    Full coverage leaves no trace of the canvas, not even a rounding error: `lerp` is exact there.
    """
    return torch.lerp(canvas, color, alpha.unsqueeze(1))


def _coverage(distance: Tensor, pixel: Tensor) -> Tensor:
    """Share of a pixel inside an outline, from the signed distance of its centre."""
    return (0.5 - distance / pixel).clamp(0.0, 1.0)


def _step(value: Tensor, width: Tensor) -> Tensor:
    """Antialiased step from 0 to 1 at value 0, `width` wide."""
    return (0.5 + value / width).clamp(0.0, 1.0)


def _waves(x: Tensor, y: Tensor, wave: Tensor, square: Tensor, pixel: Tensor) -> Tensor:
    """Texture in [0, 1] from sinusoids `wave` [B, W, 3] at world coordinates x, y."""
    total = torch.zeros((), device=x.device)
    number = wave.shape[1]
    for k in range(number):
        fx, fy, phase = wave[:, k, 0], wave[:, k, 1], wave[:, k, 2]
        total = total + torch.sin(2.0 * math.pi * (_field(fx) * x + _field(fy) * y) + _field(phase))
    soft = 0.5 + 0.5 * total / number
    # One pixel covers this much of the sum's range where it is steepest.
    frequency = torch.hypot(wave[..., 0], wave[..., 1]).sum(1)
    hard = _step(total, (2.0 * math.pi * _field(frequency) * pixel).clamp(min=0.05))
    return torch.where(_field(square), hard, soft)


def _turned_box(x: Tensor, y: Tensor, center: Tensor, half: Tensor, angle: Tensor) -> Tensor:
    """Signed distance to boxes given by [B, 2], [B, 2], [B]."""
    dx, dy = x - _field(center[:, 0]), y - _field(center[:, 1])
    cos, sin = _field(angle.cos()), _field(angle.sin())
    ex = (cos * dx + sin * dy).abs() - _field(half[:, 0])
    ey = (cos * dy - sin * dx).abs() - _field(half[:, 1])
    outside = torch.hypot(ex.clamp(min=0.0), ey.clamp(min=0.0))
    return outside + torch.maximum(ex, ey).clamp(max=0.0)


def _shape_distance(u: Tensor, v: Tensor, shape: Tensor) -> Tensor:
    """Signed distance in units of the object's size, at body coordinates u, v [B, T, H, W]."""
    table = ShapeTable(*(_field(column) for column in look_up(shape)))
    sector = 2.0 * math.pi / table.sides
    phase = torch.atan2(v, u)
    phase = phase - sector * torch.round(phase / sector)
    radius = torch.hypot(u, v)
    px, py = radius * phase.cos(), radius * phase.sin().abs()
    # The edge in a sector runs from (inner, 0) to (apothem, half side).
    inner, apothem = table.inner, table.apothem
    ex, ey = apothem - inner, table.half_side
    along = ((px - inner) * ex + py * ey) / (ex * ex + ey * ey).clamp(min=1e-6)
    along = along.clamp(0.0, 1.0)
    distance = torch.hypot(px - inner - along * ex, py - along * ey)
    inside = (px - inner) * ey - py * ex < 0
    distance = torch.where(inside, -distance, distance) - table.rounding
    return torch.maximum(distance, -distance - table.band)


def _pattern(u: Tensor, v: Tensor, kind: Tensor, scale: Tensor, pixel: Tensor) -> Tensor:
    """Share of the pattern's second colour, at body coordinates in units of the object's size."""
    k = 2.0 * math.pi * scale
    width = (k * pixel).clamp(min=0.05)
    wave_u, wave_v = torch.sin(k * u), torch.sin(k * v)
    spot = _step(0.42 - torch.hypot(u - 0.45, v), pixel)
    return torch.where(
        kind == STRIPES,
        _step(wave_u, width),
        torch.where(
            kind == CHECKER,
            _step(wave_u * wave_v, width),
            torch.where(
                kind == SPOT,
                spot,
                torch.where(kind == HALVES, _step(u, pixel), torch.zeros_like(u)),
            ),
        ),
    )


def render(
    trajectories: Trajectories,
    looks: Looks,
    *,
    size: int = 64,
    start: int | Tensor = 0,
    frames: int = 16,
    noise: Tensor | None = None,
    style: Style | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Draw `frames` frames of every trajectory.

    Works under `torch.compile(fullgraph=True)`; pass `start` as a tensor there, since an integer is
    compiled in. Arithmetic is in float32 whatever the `dtype` of the result.

    Args:
        trajectories, looks: B videos each.
        size: height and width of the picture in pixels.
        start: first frame, one for all or [B]; frames past the end repeat the last one.
        noise: standard normal sensor noise [B, 3, frames, size, size] (see `sensor_noise`), scaled
            by `looks.noise`; None for a noiseless camera.
        style: how edges and outlines are drawn; None for this renderer's own way.

    Returns:
        [B, 3, frames, size, size], RGB in [0, 1], row 0 at the top.
    """
    count, device = looks.zoom.shape[0], looks.zoom.device
    first = start.reshape(-1, 1) if isinstance(start, Tensor) else start
    index = first + torch.arange(frames, device=device).expand(count, frames)
    index = index.clamp(max=trajectories.clock.shape[1] - 1)
    rows = torch.arange(count, device=device).unsqueeze(1)
    cut = {name: getattr(trajectories, name)[rows, index] for name in PER_FRAME}
    position, angle = cut["position"], cut["angle"]
    static = trajectories

    # World coordinates of the pixel centres, x [B, T, 1, W] and y [B, T, H, 1].
    grid = (torch.arange(size, device=device) + 0.5) / size - 0.5
    pixel = _field(1.0 / (size * looks.zoom))
    edge = pixel if style is None else pixel * _field(style.edge)
    outline = torch.ones((), device=device) if style is None else _field(style.outline)
    camera = camera_center(looks, cut["clock"])
    x = _field(camera[..., 0]) + grid[None, None, None, :] * _field(looks.mirror / looks.zoom)
    y = _field(camera[..., 1]) - grid[None, None, :, None] / _field(looks.zoom)
    white = torch.ones((), device=device)
    lx, ly = _field(looks.light[:, 0]), _field(looks.light[:, 1])

    # Background
    wave = _waves(x, y, looks.wave[:, 0], looks.square[:, 0], pixel) * _field(looks.texture[:, 0])
    low, high = looks.wall_color[:, 0], looks.wall_color[:, 1]
    canvas = _paint(_rgb(low), _rgb(high), wave)
    canvas = canvas * (1.0 + _field(looks.gradient) * (y - 0.5)).unsqueeze(1)

    # Shadows on the background, away from the light: discs with soft edges
    shade = torch.ones((), device=device)
    visible = cut["visible"].to(torch.float32)
    for o in range(position.shape[2]):
        radius = _field(static.size[:, o])
        sx = x - _field(position[..., o, 0]) + 0.07 * lx
        sy = y - _field(position[..., o, 1]) + 0.07 * ly
        soft = _step(radius - torch.hypot(sx, sy), 0.07 + pixel)
        shade = shade * (1.0 - _field(looks.shadow) * _field(visible[..., o]) * soft)
    canvas = canvas * shade.unsqueeze(1)

    # Walls, ramp, platform; their textures hang on to the world
    surface = _waves(x, y, looks.wave[:, 2], looks.square[:, 2], pixel)
    surface = 1.0 - 0.28 * _field(looks.texture[:, 2]) * surface
    for s in (LEFT, RIGHT, RAMP, PLATFORM, WALL):
        distance = _turned_box(
            x, y, static.static_center[:, s], static.static_half[:, s], static.static_angle[:, s]
        )
        alpha = _coverage(distance, edge) * _field(static.static_exists[:, s].to(torch.float32))
        rim = 1.0 - 0.3 * outline * _step(distance + 0.012, 0.012 + pixel)  # a darker outline
        color = _rgb(looks.static_color[:, s]) * (surface * rim).unsqueeze(1)
        canvas = _paint(canvas, color, alpha)

    # Floor, with contact shadows
    top = static.static_center[:, FLOOR, 1] + static.static_half[:, FLOOR, 1]
    wave = _waves(x, y, looks.wave[:, 1], looks.square[:, 1], pixel) * _field(looks.texture[:, 1])
    below = _field(top) - y
    ground = (1.0 - 0.3 * wave) * (0.92 + 0.6 * below.clamp(0.0, 0.25))
    for o in range(position.shape[2]):
        height = (_field(position[..., o, 1]) - _field(top)).clamp(min=0.0)
        wide = _field(static.size[:, o]) * (1.0 + height)
        sx = (x - _field(position[..., o, 0]) + 0.3 * lx * height) / wide
        sy = (below - 0.25 * wide) / (0.35 * wide)
        fade = (1.0 - 0.4 * (sx * sx + sy * sy)).clamp(min=0.0) ** 2 * torch.exp(-4.0 * height)
        ground = ground * (1.0 - _field(looks.shadow) * _field(visible[..., o]) * fade)
    canvas = _paint(
        canvas, _rgb(looks.static_color[:, FLOOR]) * ground.unsqueeze(1), _coverage(-below, edge)
    )

    # Rods, then objects
    hangs = visible * static.tethered.unsqueeze(1)
    ax, ay = _field(static.anchor[:, 0]), _field(static.anchor[:, 1])
    for o in range(position.shape[2]):
        rx, ry = _field(position[..., o, 0]) - ax, _field(position[..., o, 1]) - ay
        along = ((x - ax) * rx + (y - ay) * ry) / (rx * rx + ry * ry).clamp(min=1e-6)
        along = along.clamp(0.0, 1.0)
        distance = torch.hypot(x - ax - along * rx, y - ay - along * ry) - ROD_HALF_WIDTH
        alpha = _coverage(distance, edge) * _field(hangs[..., o])
        canvas = canvas * (1.0 - 0.8 * alpha).unsqueeze(1)
    for o in range(position.shape[2]):
        scale = _field(static.size[:, o])
        dx = (x - _field(position[..., o, 0])) / scale
        dy = (y - _field(position[..., o, 1])) / scale
        fine = pixel / scale
        cos, sin = _field(angle[..., o].cos()), _field(angle[..., o].sin())
        u, v = cos * dx + sin * dy, cos * dy - sin * dx
        distance = _shape_distance(u, v, cut["shape"][..., o])
        mix = _pattern(u, v, _field(looks.pattern[:, o]), _field(looks.pattern_scale[:, o]), fine)
        changed = cut["recolor"][..., o].to(torch.float32).unsqueeze(-1)
        base = looks.object_color[:, o].unsqueeze(1)
        base = base + changed * (looks.other_color[:, o].unsqueeze(1) - base)  # [B, T, 3]
        contrast = looks.pattern_contrast[:, o, None, None]
        second = base + torch.where(contrast > 0, contrast * (1.0 - base), contrast * base)
        color = _paint(_rgb(base), _rgb(second), mix)
        lit = 1.0 + _field(looks.shading) * (dx * lx + dy * ly).clamp(-1.2, 1.2)
        gx, gy = dx - 0.4 * lx, dy - 0.4 * ly
        glint = (1.0 - 2.5 * (gx * gx + gy * gy)).clamp(min=0.0) ** 2
        color = _paint(color * lit.unsqueeze(1), white, _field(looks.gloss[:, o]) * glint)
        if style is not None:
            line = _step(distance + 0.014 / scale, fine)
            color = color * (1.0 - _field(style.stroke) * line).unsqueeze(1)
        alpha = _coverage(distance, edge / scale) * _field(visible[..., o])
        canvas = _paint(canvas, color, alpha)

    # Occluders, in front of everything
    for k in range(static.occluder_half.shape[1]):
        ex = (x - _field(cut["occluder_center"][..., k, 0])).abs()
        ey = (y - _field(cut["occluder_center"][..., k, 1])).abs()
        ex = ex - _field(static.occluder_half[:, k, 0])
        ey = ey - _field(static.occluder_half[:, k, 1])
        distance = torch.maximum(ex, ey)
        alpha = _coverage(distance, edge) * _field(static.occluder_exists[:, k].to(torch.float32))
        # A bright frame tells screens in the foreground from walls, which have a dark outline.
        rim = 0.4 * outline * _step(distance + 0.016, 0.016 + pixel)
        color = _rgb(looks.occluder_color[:, k]) * surface.unsqueeze(1)
        color = _paint(color, white, rim)
        canvas = _paint(canvas, color, alpha)

    canvas = canvas * looks.gain[:, None, None, None, None]
    if noise is not None:
        canvas = canvas + looks.noise[:, None, None, None, None] * noise
    return canvas.clamp(0.0, 1.0).to(dtype)


def sensor_noise(count: int, frames: int, size: int, *, generator: torch.Generator) -> Tensor:
    """[count, 3, frames, size, size] standard normal noise for `render`, on the generator's device."""
    shape = (count, 3, frames, size, size)
    return torch.randn(shape, generator=generator, device=generator.device)
