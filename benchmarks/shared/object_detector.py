"""Finds the coloured objects of simulated scenes in videos, rendered or generated, without the simulator.

An object is a compact blob of one of the vivid palette colours. Hue decides the colour, which light,
shading and exposure leave alone; what is too pale, too small, too large, too thin or too long is no
object, so that backgrounds, walls, platforms and the mixed colours along edges are passed over. A doubt
is a miss.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from simworld.batch import TensorBatch
from simworld.looks import COLOR_NAMES, VIVID, palette

OBJECT_COLORS = COLOR_NAMES[:VIVID]
"""What an object can be called; colour ids are positions in this table."""

MISSING = 0.35
"""Position error of an object that is not found, in picture widths: about that of a random place."""

NO_COLOR = -1
_PURITY = 0.5
_CHROMA = 0.45
_CHUNK = 512


@dataclass(frozen=True)
class Limits:
    """What passes for an object.

    Attributes:
        smallest: Share of the picture that it covers at least.
        largest: Share of the picture that it covers at most.
        longest: Longer over shorter side of its upright bounding box, at most.
        solid: Share of its pixels whose four neighbours belong to it too, at least.
    """

    smallest: float = 0.0024
    largest: float = 0.09
    longest: float = 2.6
    solid: float = 0.2


CLEAR = Limits(smallest=0.0044, longest=2.0, solid=0.3)
"""Objects of a true video that another video may be asked for: nobody is asked for a sliver at the border."""


@dataclass(frozen=True)
class Detections(TensorBatch):
    """The largest object of each colour in every frame of B videos; C = 8 colours."""

    center: Tensor
    """[B, T, C, 2] centroid; x to the right and y up, (0, 0) to (1, 1) is the picture. Zero if not found."""
    area: Tensor
    """[B, T, C] share of the picture that it covers; 0 if not found."""

    @property
    def found(self) -> Tensor:
        """[B, T, C]"""
        return self.area > 0


def _opponent(rgb: Tensor) -> Tensor:
    """The part of RGB [..., 3] that is no grey: [..., 2], its angle is the hue, its length the chroma."""
    red, green, blue = rgb.unbind(-1)
    return torch.stack((red - 0.5 * (green + blue), math.sqrt(0.75) * (green - blue)), dim=-1)


def color_ids(frames: Tensor) -> Tensor:
    """Which vivid colour each pixel has.

    Args:
        frames: RGB in [0, 1], [N, 3, H, W].

    Returns:
        int8 [N, H, W], positions in `OBJECT_COLORS`, or `NO_COLOR` where a pixel is too pale or too
        dark: less than 0.5 of the colour's own saturation (chroma over brightness, the same in light
        and shade) or 0.45 of its chroma.
    """
    vivid = palette(frames.device)[:VIVID]
    axes = _opponent(vivid)
    chroma = axes.norm(dim=-1)
    axes = axes / chroma.unsqueeze(-1)
    pixels = frames.movedim(1, -1).float()
    opponent = _opponent(pixels)
    along, nearest = (opponent @ axes.T).max(dim=-1)
    brightness = pixels.amax(dim=-1)
    pure = along >= (_PURITY * chroma / vivid.amax(dim=-1))[nearest] * brightness
    strong = along >= (_CHROMA * chroma)[nearest]
    return torch.where(pure & strong, nearest, NO_COLOR).to(torch.int8)


@dataclass(frozen=True)
class _Blobs:
    """Connected pixels of one colour; all fields [K], lengths in pixels."""

    picture: Tensor
    color: Tensor
    area: Tensor
    inner: Tensor  # pixels with all four neighbours in the blob
    x: Tensor  # centroid, from the left
    y: Tensor  # centroid, from the top
    width: Tensor
    height: Tensor


def _labels(count: int, a: Tensor, b: Tensor) -> Tensor:
    """Connected components of the graph with `count` nodes and edges a - b: the lowest node of each, [count].

    Every round hooks components to lower neighbours and then halves the paths to their lowest node: a
    logarithmic number of rounds, however long the components are.
    """
    label = torch.arange(count, device=a.device)
    while True:
        left, right = label[a], label[b]
        low = torch.minimum(left, right)
        new = label.scatter_reduce(0, left, low, "amin").scatter_reduce(0, right, low, "amin")
        new = new[new]
        if torch.equal(new, label):
            return label
        label = new


def _blobs(ids: Tensor) -> _Blobs:
    """Blobs of colour maps [N, H, W]; pixels touch along edges, not at corners."""
    _, height, width = ids.shape
    node = torch.full(ids.shape, -1, dtype=torch.long, device=ids.device)
    picture, row, column = (ids != NO_COLOR).nonzero(as_tuple=True)
    node[picture, row, column] = torch.arange(len(picture), device=ids.device)
    beside = (ids[:, :, 1:] == ids[:, :, :-1]) & (ids[:, :, 1:] != NO_COLOR)
    below = (ids[:, 1:] == ids[:, :-1]) & (ids[:, 1:] != NO_COLOR)
    a = torch.cat((node[:, :, :-1][beside], node[:, :-1][below]))
    b = torch.cat((node[:, :, 1:][beside], node[:, 1:][below]))
    neighbours = torch.bincount(torch.cat((a, b)), minlength=len(picture))
    _, blob = _labels(len(picture), a, b).unique(return_inverse=True)
    number = int(blob.max()) + 1 if len(blob) else 0

    def total(values: Tensor) -> Tensor:
        return torch.zeros(number, device=ids.device).index_add_(0, blob, values.float())

    def extreme(values: Tensor, which: str) -> Tensor:
        start = torch.zeros(number, dtype=torch.long, device=ids.device)
        return start.scatter_reduce(0, blob, values, which, include_self=False)

    def extent(values: Tensor) -> Tensor:
        return extreme(values, "amax") - extreme(values, "amin") + 1

    area = total(torch.ones_like(row))
    return _Blobs(
        picture=extreme(picture, "amin"),
        color=extreme(ids[picture, row, column].long(), "amin"),
        area=area,
        inner=total(neighbours == 4),
        x=(total(column) / area + 0.5) / width,
        y=(total(row) / area + 0.5) / height,
        width=extent(column),
        height=extent(row),
    )


def detect(videos: Tensor, limits: Limits = Limits()) -> Detections:
    """The largest object of each vivid colour, frame by frame.

    Args:
        videos: RGB in [0, 1], [B, 3, T, H, W].
        limits: What passes for an object; `CLEAR` for true videos that others are compared with.
    """
    batch, _, frames, height, width = videos.shape
    pictures = videos.transpose(1, 2).flatten(0, 1)
    ids = torch.cat([color_ids(part) for part in pictures.split(_CHUNK)])
    blobs = _blobs(ids)
    share = blobs.area / (height * width)
    long, short = torch.maximum(blobs.width, blobs.height), torch.minimum(blobs.width, blobs.height)
    passes = (share >= limits.smallest) & (share <= limits.largest)
    passes &= (long <= limits.longest * short) & (blobs.inner >= limits.solid * blobs.area)
    order = torch.where(passes, blobs.area, 0.0).argsort()  # the largest is written last
    order = order[passes[order]]
    slot = blobs.picture[order] * VIVID + blobs.color[order]
    last = torch.full((len(pictures) * VIVID,), -1, device=videos.device)
    last = last.scatter_reduce(0, slot, torch.arange(len(slot), device=videos.device), "amax")
    center = torch.zeros(len(last), 2, device=videos.device)
    area = torch.zeros(len(last), device=videos.device)
    taken = last >= 0
    chosen = order[last[taken]]
    center[taken] = torch.stack((blobs.x[chosen], 1.0 - blobs.y[chosen]), dim=-1)
    area[taken] = share[chosen]
    return Detections(center.view(batch, frames, VIVID, 2), area.view(batch, frames, VIVID))


@dataclass(frozen=True)
class Placement:
    """How well objects are where they should be, [B] each; NaN for videos without an object to look for."""

    position: Tensor
    """Mean distance over frames and objects in picture widths; `MISSING` for one that is not found, and
    never more."""
    miss: Tensor
    """Share of frames and objects that are not found."""
    placed: Tensor
    """Mean distance of those that are found: what is left of `position` without the missing ones."""


def placement(video: Detections, truth: Detections, colors: Tensor) -> Placement:
    """Compare what was found in a video with what was found in the true one.

    Args:
        video: of B videos and T frames, by the lenient limits.
        truth: of the true videos, by the `CLEAR` limits.
        colors: [B, C] which colours to look for: those of objects that nothing else wears.
    """
    asked = truth.found & colors.unsqueeze(1)
    found = asked & video.found
    distance = (video.center - truth.center).norm(dim=-1).clamp(max=MISSING)
    count, number = asked.sum(dim=(1, 2)), found.sum(dim=(1, 2))
    near = torch.where(found, distance, 0.0).sum(dim=(1, 2))
    missed = count - number
    return Placement(
        position=(near + MISSING * missed) / count, miss=missed / count, placed=near / number
    )
