"""How scenes look: named colours, patterns, light, camera, sensor noise. Independent of the motion.

One trajectory may be shown with many looks. Colours are a palette entry plus jitter, and the palette
ids are kept, so that a caption can name them.
"""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor

from simworld.batch import Draw, TensorBatch
from simworld.scenes import OBJECTS, OCCLUDERS, STATICS, Split, check_split, resolve_generator

PALETTE: dict[str, tuple[float, float, float]] = {
    # vivid: objects, walls and occluders
    "red": (0.85, 0.14, 0.14),
    "orange": (0.95, 0.52, 0.10),
    "yellow": (0.95, 0.86, 0.18),
    "green": (0.18, 0.66, 0.24),
    "cyan": (0.16, 0.76, 0.80),
    "blue": (0.16, 0.30, 0.84),
    "purple": (0.54, 0.22, 0.72),
    "pink": (0.95, 0.50, 0.72),
    # muted: backgrounds and floors, sometimes walls and occluders
    "white": (0.90, 0.90, 0.88),
    "gray": (0.56, 0.57, 0.58),
    "black": (0.13, 0.13, 0.15),
    "beige": (0.80, 0.72, 0.56),
    "brown": (0.42, 0.30, 0.20),
    "sky": (0.62, 0.74, 0.86),
    "mint": (0.62, 0.78, 0.66),
    "navy": (0.16, 0.20, 0.36),
}
"""Colour names and their RGB values in [0, 1]; colour ids are positions in this table."""
COLOR_NAMES = tuple(PALETTE)
VIVID = 8
"""Objects use the first `VIVID` colours."""
PATTERNS = ("solid", "stripes", "checker", "spot", "halves")

WAVES = 3
_JITTER = 0.05
_DISTINCT = 0.42


@dataclasses.dataclass(frozen=True)
class Looks(TensorBatch):
    """Appearance of B videos; O = 4 objects, S = 6 statics, K = 2 occluders, W = 3 waves."""

    object_color: Tensor
    """[B, O, 3] RGB in [0, 1]"""
    object_color_id: Tensor
    """[B, O] index into `COLOR_NAMES`; the objects of a video have different ids."""
    other_color: Tensor
    """[B, O, 3] worn where `Trajectories.recolor`; differs clearly from the object's own and from the
    background, and from the other objects' where there is a choice."""
    other_color_id: Tensor
    """[B, O]"""
    pattern: Tensor
    """[B, O] index into `PATTERNS`."""
    pattern_scale: Tensor
    """[B, O] periods per object size (train: 0.6 to 1.4, ood: 1.4 to 2.4)."""
    pattern_contrast: Tensor
    """[B, O] the pattern's second colour is the first, darkened or lightened by this (signed)."""
    gloss: Tensor
    """[B, O] strength of the highlight, 0 to 0.5."""
    wall_color: Tensor
    """[B, 2, 3] the two colours of the background."""
    wall_color_id: Tensor
    """[B] id of both (the second is a shade of the first)."""
    static_color: Tensor
    """[B, S, 3] floor, side walls, wall, ramp, platform."""
    static_color_id: Tensor
    """[B, S]"""
    occluder_color: Tensor
    """[B, K, 3]"""
    occluder_color_id: Tensor
    """[B, K]"""
    wave: Tensor
    """[B, 3, W, 3] texture of background, floor and other surfaces: two frequencies
    (periods per picture width) and a phase for each of W sinusoids."""
    square: Tensor
    """[B, 3] whether that texture has hard edges."""
    texture: Tensor
    """[B, 3] strength of those textures, 0 to 1."""
    gradient: Tensor
    """[B] vertical brightness gradient of the background."""
    light: Tensor
    """[B, 2] direction towards the light, unit length, from above."""
    shading: Tensor
    """[B] strength of the shading on objects, 0.1 to 0.4."""
    shadow: Tensor
    """[B] strength of the cast shadows, 0 (in half of the videos) to 0.45."""
    gain: Tensor
    """[B] exposure, 0.8 to 1.15."""
    noise: Tensor
    """[B] standard deviation of the sensor noise, 0 to 0.02."""
    zoom: Tensor
    """[B] 0.85 to 1.15 (ood: 0.75 to 1.25)"""
    shift: Tensor
    """[B, 2] where the camera looks at clock 0, relative to the centre of the unit square."""
    pan: Tensor
    """[B, 2] camera velocity, world / frame."""
    mirror: Tensor
    """[B] 1.0, or -1.0 to flip the picture left to right."""


def palette(device: torch.device | str) -> Tensor:
    """[P, 3] RGB of all palette colours."""
    return torch.tensor(list(PALETTE.values()), dtype=torch.float32, device=device)


def distinct(
    draw: Draw, allowed: Tensor, number: int, avoid: Tensor, mildly: Tensor | None = None
) -> Tensor:
    """Ids [B, number] of different random palette colours that stand out against others.

    Args:
        allowed: [P] or [B, P] which colours may be chosen, or how much each is liked, 0 to 1. If too
            few of them stand out, close ones follow.
        avoid: [B, A, 3] colours to stay away from.
        mildly: [B, A', 3] colours to stay away from if there is a choice.
    """
    colors = palette(draw.device).expand(draw.count, -1, -1)
    near = torch.cdist(colors, avoid).amin(2) < _DISTINCT  # [B, P]
    score = draw.uniform(0.0, 1.0, len(PALETTE)) + 8.0 * allowed - 4.0 * near
    if mildly is not None:
        score = score - 2.0 * (torch.cdist(colors, mildly).amin(2) < _DISTINCT)
    return score.topk(number, dim=1).indices


def sample_looks(
    count: int,
    *,
    split: Split = "train",
    seed: int | None = None,
    generator: torch.Generator | None = None,
    device: torch.device | str = "cpu",
) -> Looks:
    """Draw `count` looks.

    Splits: "train" and "id" follow the same distribution from unrelated streams; "ood" has finer
    object patterns, background waves of up to 9 instead of 4.5 periods with hard edges twice as
    often, and a wider range of zoom.

    Args:
        seed: seed of a stream of its own for this split; or pass `generator`, on its own device.
        device: where the tensors live when `seed` is given. Draws are reproducible per device type.
    """
    check_split(split)
    draw = Draw(count, resolve_generator(seed, generator, f"looks/{split}", device))
    ood = split == "ood"
    colors = palette(draw.device)
    vivid = torch.arange(len(colors), device=draw.device) < VIVID

    def jittered(ids: Tensor, amount: float = _JITTER) -> Tensor:
        return (colors[ids] + amount * draw.uniform(-1.0, 1.0, *ids.shape[1:], 3)).clamp(0.0, 1.0)

    none = torch.full((count, 1, 3), -9.0, device=draw.device)
    wall_id = distinct(draw, ~vivid, 1, none)[:, 0]
    wall = jittered(wall_id)
    shade = draw.uniform(0.72, 1.2).unsqueeze(1)
    wall_color = torch.stack((wall, (wall * shade).clamp(0.0, 1.0)), dim=1)
    floor_id = distinct(draw, ~vivid, 1, wall_color)[:, 0]
    floor = jittered(floor_id)
    backdrop = torch.cat((wall_color, floor.unsqueeze(1)), dim=1)

    object_id = distinct(draw, vivid, OBJECTS, backdrop)
    object_color = jittered(object_id)
    others = [
        distinct(
            draw, vivid, 1, torch.cat((backdrop, object_color[:, o : o + 1]), dim=1), object_color
        )
        for o in range(OBJECTS)
    ]
    other_id = torch.cat(others, dim=1)
    # Walls and occluders may have any colour that stands out.
    anything = torch.ones_like(vivid)
    seen_first = torch.cat((backdrop, object_color[:, :1]), dim=1)
    static_id = distinct(draw, anything, len(STATICS), seen_first)
    static_id[:, 0] = floor_id
    static_id[:, 2] = static_id[:, 1]  # both side walls are alike
    static_color = jittered(static_id)
    static_color[:, 0] = floor
    static_color[:, 2] = static_color[:, 1]
    occluder_id = distinct(draw, anything, OCCLUDERS, seen_first)

    top = 9.0 if ood else 4.5
    frequency = draw.uniform(0.6, top, 3, WAVES, 1)
    heading = draw.uniform(0.0, math.pi, 3, WAVES, 1)
    phase = draw.uniform(0.0, 2.0 * math.pi, 3, WAVES, 1)
    wave = torch.cat((frequency * heading.cos(), frequency * heading.sin(), phase), dim=-1)

    lean = draw.uniform(-0.9, 0.9)
    zoom = draw.uniform(0.75, 1.25) if ood else draw.uniform(0.85, 1.15)
    pans = draw.chance(0.3).unsqueeze(1)
    pan = torch.where(
        pans, draw.uniform(-0.006, 0.006, 2) * pans.new_tensor([1.0, 0.4], dtype=torch.float32), 0.0
    )
    shift = draw.uniform(-0.05, 0.05, 2)
    # A panning camera passes the centre half-way through a video of 40 frames.
    shift = shift - 20.0 * pan
    solid_contrast = torch.where(draw.chance(0.6, OBJECTS), -1.0, 1.0)
    return Looks(
        object_color=object_color,
        object_color_id=object_id,
        other_color=jittered(other_id),
        other_color_id=other_id,
        pattern=draw.choice([0.18, 0.26, 0.2, 0.18, 0.18], OBJECTS),
        pattern_scale=draw.uniform(1.4, 2.4, OBJECTS) if ood else draw.uniform(0.6, 1.4, OBJECTS),
        pattern_contrast=solid_contrast * draw.uniform(0.45, 0.75, OBJECTS),
        gloss=draw.uniform(0.0, 0.5, OBJECTS),
        wall_color=wall_color,
        wall_color_id=wall_id,
        static_color=static_color,
        static_color_id=static_id,
        occluder_color=jittered(occluder_id),
        occluder_color_id=occluder_id,
        wave=wave,
        square=draw.chance(0.5 if ood else 0.25, 3),
        texture=draw.uniform(0.1, 1.0, 3),
        gradient=draw.uniform(-0.25, 0.25),
        light=torch.stack((lean.sin(), lean.cos()), dim=-1),
        shading=draw.uniform(0.1, 0.4),
        shadow=torch.where(draw.chance(0.5), draw.uniform(0.15, 0.45), 0.0),
        gain=draw.uniform(0.8, 1.15),
        noise=torch.where(draw.chance(0.6), draw.uniform(0.0, 0.02), 0.0),
        zoom=zoom,
        shift=shift,
        pan=pan,
        mirror=draw.sign(),
    )
