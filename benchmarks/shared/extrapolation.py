"""Controls: what needs no model of physics, or no learning, to continue a video.

`copy_last` knows one frame. The extrapolations know more than any video shows, the true state at the
last frame of the prefix, and render where it leads without contacts; they are drawn by the simulator's
own renderer, so that nothing but their physics is wrong.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from simworld.contacts import Bodies, State
from simworld.physics import initial_state, simulate, substep
from simworld.scenes import Scenes
from simworld.trajectories import Trajectories

_SUBSTEPS = 6


def copy_last(prefix: Tensor, frames: int) -> Tensor:
    """The last frame of [B, 3, T, H, W], `frames` times."""
    return prefix[:, :, -1:].expand(-1, -1, frames, -1, -1)


class _Recorder:
    """A step of the simulation that keeps the state after every whole frame."""

    def __init__(self, scenes: Scenes) -> None:
        self.states = [initial_state(scenes)]
        self._steps = 0

    def __call__(
        self, state: State, bodies: Bodies, scenes: Scenes, rod: Tensor, dt: float
    ) -> State:
        state = substep(state, bodies, scenes, rod, dt)
        self._steps += 1
        if self._steps % _SUBSTEPS == 0:
            self.states.append(state)
        return state


def true_states(scenes: Scenes, frames: int) -> list[State]:
    """Positions, velocities, angles and spins at the first `frames` frames."""
    recorder = _Recorder(scenes)
    simulate(scenes, frames=frames, substeps=_SUBSTEPS, step=recorder)
    return recorder.states


def extrapolate(
    scenes: Scenes,
    truth: Trajectories,
    frame: int,
    kind: Literal["constant velocity", "ballistic"],
) -> Trajectories:
    """The true trajectories with the objects' motion after `frame` replaced.

    Args:
        scenes: B scenes.
        truth: What `simulate` makes of them.
        frame: Last frame of the prefix, from 0; frames up to here stay as they are.
        kind: "constant velocity" keeps velocity and spin. "ballistic" also lets those objects fall that
            fall freely in the frame that follows; what rests, rolls or swings is held by something and
            keeps its velocity.
    """
    *_, now, following = true_states(scenes, frame + 2)
    time = torch.arange(truth.frames, device=truth.clock.device) - frame
    after = time.clamp(min=0).view(1, -1, 1)
    position = now.position.unsqueeze(1) + after.unsqueeze(-1) * now.velocity.unsqueeze(1)
    if kind == "ballistic":
        pull = torch.stack((torch.zeros_like(scenes.gravity), -scenes.gravity), dim=-1)
        pull = pull.unsqueeze(1)  # [B, 1, 2]
        change = following.velocity - now.velocity
        falls = (change - pull).norm(dim=-1) < 0.1 * scenes.gravity.unsqueeze(1)
        fall = 0.5 * pull * falls.unsqueeze(-1)  # [B, O, 2]
        position = position + after.square().unsqueeze(-1) * fall.unsqueeze(1)
    angle = now.angle.unsqueeze(1) + after * now.spin.unsqueeze(1)
    known = (time <= 0).view(1, -1, 1)
    return replace(
        truth,
        position=torch.where(known.unsqueeze(-1), truth.position, position),
        angle=torch.where(known, truth.angle, angle),
    )
