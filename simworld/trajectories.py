"""What happened: all geometry of a video, frame by frame, and questions about who sees what."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from simworld.batch import TensorBatch
from simworld.geometry import reach

PER_FRAME = ("position", "angle", "visible", "shape", "recolor", "clock", "occluder_center")
"""Fields with a time dimension, right after the batch."""

EDGE = 0.022
"""Width that an occluder must add on every side to hide an object's soft edge: about one and a half
pixels of a 64-pixel picture."""


@dataclasses.dataclass(frozen=True)
class Trajectories(TensorBatch):
    """Geometry of B videos of T frames; an impossible twin is an edited one of these."""

    position: Tensor
    """[B, T, O, 2] centres; x to the right and y up, the picture shows about the unit square."""
    angle: Tensor
    """[B, T, O] radians, counter-clockwise."""
    visible: Tensor
    """[B, T, O] the object is there (it may still be behind an occluder or out of view)."""
    shape: Tensor
    """[B, T, O] index into `SHAPES`."""
    recolor: Tensor
    """[B, T, O] the object wears its other colour, `Looks.other_color`."""
    clock: Tensor
    """[B, T] time of the frame: moves the camera, so that reordered frames reorder its pan too."""
    occluder_center: Tensor
    """[B, T, K, 2]"""
    occluder_half: Tensor
    """[B, K, 2] half extents."""
    occluder_exists: Tensor
    """[B, K]"""
    size: Tensor
    """[B, O] radius of a disc of about the same area."""
    tethered: Tensor
    """[B, O] hangs on a rod."""
    anchor: Tensor
    """[B, 2] fixed end of the rod."""
    static_exists: Tensor
    """[B, S] which of `STATICS` stand in the scene."""
    static_center: Tensor
    """[B, S, 2]"""
    static_half: Tensor
    """[B, S, 2]"""
    static_angle: Tensor
    """[B, S]"""
    scenario: Tensor
    """[B] index into `SCENARIO_NAMES`."""

    @property
    def frames(self) -> int:
        """Number of frames T."""
        return int(self.clock.shape[1])

    def retime(self, index: Tensor) -> Trajectories:
        """Show the frames `index` [B, T'] instead: cuts, freezes, reversals, shuffles."""
        rows = torch.arange(len(self), device=index.device).unsqueeze(1)
        return dataclasses.replace(
            self, **{name: getattr(self, name)[rows, index] for name in PER_FRAME}
        )

    def reach(self) -> Tensor:
        """[B, T, O] radius of the circle around each object."""
        return reach(self.shape, self.size.unsqueeze(1))


def inside_box(position: Tensor, radius: Tensor, center: Tensor, half: Tensor) -> Tensor:
    """Whether a disc lies fully inside an upright box; vectors [..., 2], broadcasting."""
    return ((position - center).abs() + radius.unsqueeze(-1) <= half).all(-1)


def outside_box(position: Tensor, radius: Tensor, center: Tensor, half: Tensor) -> Tensor:
    """Whether a disc and an upright box are apart (judged by the disc's bounding square)."""
    return ((position - center).abs() - radius.unsqueeze(-1) >= half).any(-1)


def hidden(trajectories: Trajectories) -> Tensor:
    """[B, T, O] the object is fully behind one occluder, soft edges included."""
    t = trajectories
    inside = inside_box(
        t.position.unsqueeze(3),
        t.reach().unsqueeze(3) + EDGE,
        t.occluder_center.unsqueeze(2),
        t.occluder_half[:, None, None],
    )
    return (inside & t.occluder_exists[:, None, None]).any(-1)


def uncovered(trajectories: Trajectories) -> Tensor:
    """[B, T, O] no occluder touches the object."""
    t = trajectories
    apart = outside_box(
        t.position.unsqueeze(3),
        t.reach().unsqueeze(3) + 0.5 * EDGE,
        t.occluder_center.unsqueeze(2),
        t.occluder_half[:, None, None],
    )
    return (apart | ~t.occluder_exists[:, None, None]).all(-1)
