"""Scenes as somebody else would draw them: flat colours, outlines, hard or very soft edges.

A model that has seen one renderer only learns the renderer, too. Made from the draws of
`sample_looks`, which stay as they are.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from simworld.batch import Draw, TensorBatch
from simworld.looks import PATTERNS, Looks, sample_looks
from simworld.scenes import OBJECTS, Split, resolve_generator
from simworld.trajectories import Trajectories

_JITTER = 0.2


@dataclasses.dataclass(frozen=True)
class Style(TensorBatch):
    """How B videos are drawn."""

    edge: Tensor
    """[B] width of the edges in pixels: 1 is antialiased, near 0 jagged; a picture that was drawn twice or
    four times as large and made smaller has about 2."""
    outline: Tensor
    """[B] strength of the dark rim of walls and the bright frame of occluders; usually 1."""
    stroke: Tensor
    """[B] darkness of a line around objects; usually 0."""
    grid: Tensor
    """[B] positions are rounded to multiples of this, in picture widths (a drawing library that takes
    whole pixels); 0 if they are not."""

    @classmethod
    def plain(cls, count: int, device: torch.device | str = "cpu") -> Style:
        """What `render` does without a style."""
        one = torch.ones(count, device=device)
        return cls(edge=one, outline=one, stroke=0 * one, grid=0 * one)

    def snapped(self, trajectories: Trajectories) -> Trajectories:
        """The trajectories with objects on the grid."""
        grid = self.grid[:, None, None, None]
        place = trajectories.position
        whole = torch.round(place / grid.clamp(min=1e-6)) * grid
        return dataclasses.replace(trajectories, position=torch.where(grid > 0, whole, place))


def sample_drawn_looks(
    count: int,
    *,
    split: Split = "train",
    seed: int | None = None,
    generator: torch.Generator | None = None,
    device: torch.device | str = "cpu",
) -> tuple[Looks, Style]:
    """Draw `count` looks of flat colours under a still camera, at a wide range of zoom, and styles for them.

    Arguments as in `sample_looks`.
    """
    generator = resolve_generator(seed, generator, f"drawn looks/{split}", device)
    looks = sample_looks(count, split=split, generator=generator)
    draw = Draw(count, generator)

    def recoloured(color: Tensor) -> Tensor:
        return (color + _JITTER * draw.uniform(-1.0, 1.0, *color.shape[1:])).clamp(0.0, 1.0)

    wall = recoloured(looks.wall_color[:, :1]).expand(-1, 2, -1)
    solid = torch.full_like(looks.pattern, PATTERNS.index("solid"))
    faint = draw.chance(0.15)
    looks = dataclasses.replace(
        looks,
        object_color=recoloured(looks.object_color),
        wall_color=wall,
        static_color=recoloured(looks.static_color),
        occluder_color=recoloured(looks.occluder_color),
        pattern=torch.where(draw.chance(0.6, OBJECTS), solid, looks.pattern),
        gloss=torch.zeros_like(looks.gloss),
        texture=torch.where(faint.unsqueeze(1), 0.3 * looks.texture, 0.0),
        gradient=torch.where(draw.chance(0.3), looks.gradient, 0.0),
        shading=torch.where(draw.chance(0.2), looks.shading, 0.0),
        shadow=torch.where(draw.chance(0.2), looks.shadow, 0.0),
        gain=torch.ones_like(looks.gain),
        noise=torch.where(draw.chance(0.3), looks.noise, 0.0),
        zoom=draw.log_uniform(0.6, 1.35),
        shift=draw.uniform(-0.06, 0.06, 2),
        pan=torch.zeros_like(looks.pan),
    )
    kind = draw.choice([0.3, 0.3, 0.4])
    edge = torch.where(kind == 0, 0.15, torch.where(kind == 1, 1.0, draw.uniform(1.2, 2.5)))
    steps = 1.0 / torch.tensor([128.0, 256.0], device=draw.device)
    style = Style(
        edge=edge,
        outline=torch.where(draw.chance(0.75), 0.0, draw.uniform(0.0, 2.0)),
        stroke=torch.where(draw.chance(0.35), draw.uniform(0.3, 1.0), 0.0),
        grid=torch.where(draw.chance(0.4), steps[draw.integer(0, 1)] / looks.zoom, 0.0),
    )
    return looks, style
