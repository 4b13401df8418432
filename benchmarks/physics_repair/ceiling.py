"""The ceiling of choosing: a judge that knows the true state where the given frames end, and all of physics.

It does not know what no frame has shown: how far objects bounce, and how they rub and roll. So it imagines
futures. Each begins in the true state and is simulated with such properties of another scene of the same
kind. A candidate is as good as it is near to them on average.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property

import torch
from torch import Tensor

from benchmarks.physics_repair.answers import Answers, Future
from benchmarks.shared.bootstrap import Values
from benchmarks.shared.extrapolation import true_states
from benchmarks.shared.object_detector import detect
from simworld.batch import make_generator
from simworld.contacts import State
from simworld.physics import simulate
from simworld.plain import sample_plain_scenes
from simworld.scenes import Scenes
from simworld.trajectories import Trajectories

FUTURES = 16
MEASURES = ("position", "motion")
"""What it may judge by."""
NAME = "true state"
_OTHERS = 2048


class Ceiling:
    """The futures that are imagined for all scenes of a task, when the first candidate is judged.

    Args:
        answers: The task.
        count: Futures for each scene.
    """

    def __init__(self, answers: Answers, count: int = FUTURES) -> None:
        self.answers, self.count = answers, count

    @cached_property
    def futures(self) -> list[Future]:
        """The same at every time."""
        answers = self.answers
        clips, given, device = answers.clips, answers.task.given, answers.videos.device
        state = true_states(clips.scenes, given)[-1]
        others = sample_plain_scenes(_OTHERS, split="id", seed=7)
        draw = make_generator(7, "imagined futures")
        again = torch.arange(len(clips)).repeat(self.count)
        physics = unknown(clips.scenes[again], others, draw).to(device)
        guesses = imagined(clips.trajectories[again], physics, state[again].to(device), given)
        found: list[Future] = []
        for start in range(0, len(guesses), len(clips)):
            guess = guesses[slice(start, start + len(clips))]
            drawn = clips.videos(device, guess, size=answers.videos.shape[-1], first=given)
            video = drawn[:, :, : answers.task.new]
            found.append(Future.of(video, answers.last, clips.colors().to(device)))
        return found

    def __call__(self, made: Tensor, rows: slice) -> Values:
        """Mean errors of candidates [n, S, 3, T, H, W] against the futures of their scenes, [n, S]."""
        compared, where = made.flatten(0, 1), self.answers.where(rows, made.shape[1])
        found = detect(compared)
        every = [future.errors(compared, found, where) for future in self.futures]
        means = {
            f"{NAME}, {name}": torch.stack([errors[name] for errors in every]).nanmean(dim=0)
            for name in MEASURES
        }
        return {
            name: mean.float().cpu().unflatten(0, made.shape[:2]) for name, mean in means.items()
        }


def unknown(scenes: Scenes, others: Scenes, generator: torch.Generator) -> Scenes:
    """Scenes with what cannot be seen (bounce, friction, rolling) of others of the same scenario."""
    alike = scenes.scenario.unsqueeze(1) == others.scenario
    alike |= ~alike.any(dim=1, keepdim=True)
    one = torch.multinomial(alike.double(), 1, generator=generator).squeeze(1)
    return replace(
        scenes,
        restitution=others.restitution[one],
        friction=others.friction[one],
        rolling=others.rolling[one],
    )


def imagined(truth: Trajectories, physics: Scenes, state: State, given: int) -> Trajectories:
    """What follows from a state, by the physics of these scenes.

    Args:
        truth: The true trajectories; up to frame ``given`` - 1 they stay.
        physics: The scenes, some of their properties changed.
        state: The true one at frame ``given`` - 1.
        given: Frames that stay as they are.
    """
    begun = replace(
        physics,
        position=state.position,
        velocity=state.velocity,
        angle=state.angle,
        spin=state.spin,
    )
    rest = simulate(begun, frames=truth.frames - given + 1).to("cpu")
    return replace(
        truth,
        position=torch.cat((truth.position[:, :given], rest.position[:, 1:]), dim=1),
        angle=torch.cat((truth.angle[:, :given], rest.angle[:, 1:]), dim=1),
    )
