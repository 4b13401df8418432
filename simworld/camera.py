"""The camera: world coordinates to picture coordinates."""

from __future__ import annotations

import torch
from torch import Tensor

from simworld.looks import Looks
from simworld.trajectories import Trajectories, uncovered


def camera_center(looks: Looks, clock: Tensor) -> Tensor:
    """[B, T, 2] world point at the middle of the picture, for times `clock` [B, T]."""
    return 0.5 + looks.shift.unsqueeze(1) + looks.pan.unsqueeze(1) * clock.unsqueeze(-1)


def project_points(point: Tensor, looks: Looks, clock: Tensor) -> Tensor:
    """World points [B, T, N, 2] in the picture: (0, 0) bottom left, (1, 1) top right."""
    relative = point - camera_center(looks, clock).unsqueeze(2)
    scale = torch.stack((looks.zoom * looks.mirror, looks.zoom), dim=-1)
    return 0.5 + relative * scale[:, None, None]


def project(trajectories: Trajectories, looks: Looks) -> Tensor:
    """[B, T, O, 2] object centres in the picture: (0, 0) bottom left, (1, 1) top right."""
    return project_points(trajectories.position, looks, trajectories.clock)


def in_picture(trajectories: Trajectories, looks: Looks) -> Tensor:
    """[B, T, O] the whole object lies within the picture's borders."""
    place = project(trajectories, looks)
    radius = (trajectories.reach() * looks.zoom[:, None, None]).unsqueeze(-1)
    return ((place - radius >= 0.0) & (place + radius <= 1.0)).all(-1)


def seen(trajectories: Trajectories, looks: Looks) -> Tensor:
    """[B, T, O] the object is there, within the picture and touched by no occluder."""
    return trajectories.visible & uncovered(trajectories) & in_picture(trajectories, looks)
