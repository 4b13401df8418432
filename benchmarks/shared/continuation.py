"""How well videos are continued: tasks, the true answers, and the controls that know no physics."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.shared import video_measures
from benchmarks.shared.bootstrap import Values
from benchmarks.shared.extrapolation import copy_last, extrapolate
from benchmarks.shared.generators import Generator, checked, over_seeds
from benchmarks.shared.held_out import FRAMES, HeldOut
from benchmarks.shared.object_detector import CLEAR, Detections, detect, placement

ERRORS = ("mse", "motion", "union", "position", "miss", "placed")
"""Measures of which less is better."""
MEASURES = (*ERRORS, "sharp")


@dataclass(frozen=True)
class Task:
    """What is given and what is compared.

    Attributes:
        given: Frames of the prefix; 1 is an image.
        first: First frame that is compared with the truth.
    """

    given: int
    first: int


TASKS = {
    "24 → 24": Task(24, 24),
    "16 → 32": Task(16, 16),
    "image → 44": Task(1, 4),  # the frames of the image's own latent frame are left out
}


class Examination:
    """One task for B scenes, with the answers.

    Args:
        clips: The scenes.
        videos: Their true videos, [B, 3, 48, H, W].
        task: What is given and compared.
    """

    def __init__(self, clips: HeldOut, videos: Tensor, task: Task) -> None:
        self.clips, self.videos, self.task = clips, videos, task
        self._colors = clips.colors().to(videos.device)
        self._truth = videos[:, :, task.first :]
        self._last = videos[:, :, task.given - 1 : task.given]
        self._objects: Detections = detect(self._truth, CLEAR)

    def mark(self, compared: Tensor, rows: slice = slice(None)) -> Values:
        """The measures [b] of videos of the compared frames, for some of the scenes."""
        truth, last = self._truth[rows], self._last[rows]
        places = placement(detect(compared), self._objects[rows], self._colors[rows])
        return {
            "mse": video_measures.squared_error(compared, truth),
            "motion": video_measures.motion_error(compared, truth, last),
            "union": video_measures.union_error(compared, truth, last),
            "position": places.position,
            "miss": places.miss,
            "placed": places.placed,
            "sharp": video_measures.sharpness(compared, truth, last),
        }

    def controls(self) -> dict[str, Tensor]:
        """The compared frames as the controls would have them."""
        task, size = self.task, self.videos.shape[-1]
        shown = {"copy last frame": copy_last(self.videos[:, :, : task.given], FRAMES - task.first)}
        for kind in ("constant velocity", "ballistic"):
            guess = extrapolate(self.clips.scenes, self.clips.trajectories, task.given - 1, kind)
            device = self.videos.device
            shown[kind] = self.clips.videos(device, guess, size=size, first=task.first)
        return shown

    def reconstructed(self, generator: Generator, batch: int) -> Tensor:
        """The compared frames of the whole true videos through the generator's autoencoder."""
        parts = [
            checked(generator.reconstruct(part), part.shape, part.device)
            for part in self.videos.split(batch)
        ]
        return torch.cat(parts)[:, :, self.task.first :]

    def generated(self, generator: Generator, rows: slice, seeds: list[int]) -> Tensor:
        """Some of the scenes from the end of the prefix on.

        Of an image all frames are generated, the one that shows it too.
        """
        given, truth = self.task.given, self.videos[rows]
        prompts = self.clips.prompts[rows]
        if given == 1:
            made = generator.from_image(truth[:, :, 0], FRAMES, prompts, seeds)
            return checked(made, truth.shape, truth.device)
        prefix, rest = truth[:, :, :given], truth[:, :, given:]
        made = generator.continue_video(prefix, FRAMES - given, prompts, seeds)
        return checked(made, rest.shape, truth.device)

    def mark_generator(self, generator: Generator, seeds: int, batch: int) -> tuple[Values, Tensor]:
        """The measures [B, seeds], and the compared frames that the first seed gave.

        After an image there is one more measure: "first psnr", of the first frame against it.
        """
        shown: list[Tensor] = []
        count = len(self.clips)

        def mark(rows: slice, numbers: list[int]) -> Values:
            made = self.generated(generator, rows, numbers)
            compared = made[:, :, self.task.first - FRAMES :]
            if sum(map(len, shown)) < count:
                shown.append(compared)
            marks = self.mark(compared, rows)
            if self.task.given == 1:
                image = self.videos[rows][:, :, :1]
                marks["first psnr"] = video_measures.psnr(made[:, :, :1], image)
            return marks

        what = f"{self.task.given} frames continued"
        return over_seeds(mark, count, seeds, batch, what), torch.cat(shown)
