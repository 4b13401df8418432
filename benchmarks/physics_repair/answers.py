"""What repaired videos are held against: the simulated future, measured in pixels, objects and motion."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from benchmarks.shared import video_measures
from benchmarks.shared.bootstrap import Values
from benchmarks.shared.extrapolation import copy_last, extrapolate
from benchmarks.shared.generators import Generator, checked
from benchmarks.shared.held_out import HeldOut
from benchmarks.shared.object_detector import CLEAR, MISSING, Detections, detect, placement
from wmreward.physics_iq.measures.metrics import looks, measure
from wmreward.physics_iq.measures.resize import Bilinear
from wmreward.video.types import UInt8Array

_DECODED_AT_ONCE = 64

HIGHER = frozenset({"physics", "sharp"})
"""Measures of which more is better."""
MEASURES = ("physics", "position", "placed", "miss", "motion", "union", "mse", "sharp")

ENLARGED = 4
"""Clips are enlarged so many times before their motion masks are made: these know only things of five
pixels and more, and objects here are seven to fifteen pixels wide."""


@dataclass(frozen=True)
class RepairTask:
    """What is given and what is compared.

    Attributes:
        given: Frames of the prefix; 1 is an image.
        new: Frames after it that are generated and compared.
    """

    given: int
    new: int


TASKS = {"video": RepairTask(24, 24), "image": RepairTask(1, 44)}


@dataclass(frozen=True)
class Future:
    """How N scenes may go on, and what is to be found in them.

    Attributes:
        video: ``[N, 3, T, H, W]`` in [0, 1].
        last: The frame before, ``[N, 3, 1, H, W]``.
        objects: What is there to be seen.
        asked: Which of it is looked for, ``[N, T, C]``.
    """

    video: Tensor
    last: Tensor
    objects: Detections
    asked: Tensor

    @classmethod
    def of(cls, video: Tensor, last: Tensor, colors: Tensor) -> Future:
        """Look for objects of these colours ``[N, C]``."""
        objects = detect(video, CLEAR)
        return cls(video, last, objects, objects.found & colors.unsqueeze(1))

    def errors(self, made: Tensor, found: Detections, where: Tensor) -> Values:
        """How far videos [B, 3, T, H, W] of the scenes ``where [B]`` are from it, [B] each."""
        truth, last, objects = self.video[where], self.last[where], self.objects[where]
        places = placement(found, objects, self.asked[where].any(dim=1))
        return {
            "position": places.position,
            "placed": places.placed,
            "miss": places.miss,
            "motion": video_measures.motion_error(made, truth, last),
            "union": video_measures.union_error(made, truth, last),
        }


class Answers:
    """One task for N scenes, with the true future.

    Args:
        clips: The scenes.
        videos: Their true videos, [N, 3, 48, H, W] in [0, 1].
        task: What is given and compared.
        workers: Measures motion masks in other processes.
    """

    def __init__(
        self, clips: HeldOut, videos: Tensor, task: RepairTask, workers: Executor | None = None
    ) -> None:
        self.clips, self.videos, self.task, self.workers = clips, videos, task, workers
        given = task.given
        self.truth = videos[:, :, given : given + task.new]
        self.last = videos[:, :, given - 1 : given]
        self.before = videos[:, :, :given]
        self._true = Future.of(self.truth, self.last, clips.colors().to(videos.device))

    def __len__(self) -> int:
        return len(self.truth)

    def generated(self, generator: Generator, rows: slice, seeds: Sequence[int]) -> Tensor:
        """New frames [n, S, 3, T, H, W] of some scenes with these seeds, in one batch.

        Every scene and seed has a number of its own: the same noise everywhere would tie errors together.
        """
        index = range(*rows.indices(len(self)))
        numbers = [seed * 1_000_003 + row for row in index for seed in seeds]
        prompts = [self.clips.prompts[row] for row in index for _ in seeds]
        given = self.videos[rows, :, : self.task.given].repeat_interleave(len(seeds), dim=0)
        new = self.task.new
        if self.task.given == 1:
            made = generator.from_image(given[:, :, 0], new + 1, prompts, numbers)[:, :, 1:]
        else:
            made = generator.continue_video(given, new, prompts, numbers)
        shape = [len(prompts), 3, new, *given.shape[3:]]
        return checked(made, shape, given.device).unflatten(0, (len(index), len(seeds)))

    def controls(self, generator: Generator) -> dict[str, Tensor]:
        """Videos [N, 1, 3, T, H, W] that no sampler made."""
        given, new = self.task.given, self.task.new
        compared, device = slice(given, given + new), self.videos.device
        decoded = [
            checked(generator.reconstruct(part), part.shape, device)
            for part in self.videos.split(_DECODED_AT_ONCE)
        ]
        shown = {
            "truth": self.truth,
            "truth, decoded": torch.cat(decoded)[:, :, compared],
            "copy last frame": copy_last(self.last, new),
        }
        for kind in ("constant velocity", "ballistic"):
            guess = extrapolate(self.clips.scenes, self.clips.trajectories, given - 1, kind)
            drawn = self.clips.videos(device, guess, size=self.videos.shape[-1])
            shown[f"{kind} from the true state"] = drawn[:, :, compared]
        return {name: video.unsqueeze(1) for name, video in shown.items()}

    def mark(self, made: Tensor, rows: slice) -> tuple[Values, Tensor]:
        """How far videos [n, S, 3, T, H, W] of some scenes are from the truth, but for `physics`.

        Returns:
            The measures [n, S], and for every frame and colour the distance of the object from where it
            should be, [n, S, T, C] in picture widths; NaN where none is looked for or found.
        """
        shape = made.shape[:2]
        compared, where = made.flatten(0, 1), self.where(rows, made.shape[1])
        truth, last = self.truth[where], self.last[where]
        found = detect(compared)
        values = self._true.errors(compared, found, where)
        values["mse"] = video_measures.squared_error(compared, truth)
        values["sharp"] = video_measures.sharpness(compared, truth, last)
        objects, asked = self._true.objects[where], self._true.asked[where]
        distance = (found.center - objects.center).norm(dim=-1).clamp(max=MISSING)
        distance = torch.where(asked & found.found, distance, torch.nan)
        return (
            {name: value.float().cpu().unflatten(0, shape) for name, value in values.items()},
            distance.cpu().unflatten(0, shape),
        )

    def where(self, rows: slice, seeds: int) -> Tensor:
        """The scene of each of so many candidates per scene of ``rows``."""
        return torch.arange(len(self), device=self.videos.device)[rows].repeat_interleave(seeds)

    def physics(self, made: Tensor, rows: slice) -> Callable[[], Tensor]:
        """`physics_scores` of [n, S, …], scene by scene: begun here, [n, S] when it is asked for."""
        truths, candidates = list(_bytes(self.truth[rows])), list(_bytes(made))
        if self.workers is None:
            return lambda: torch.tensor(list(map(physics_scores, truths, candidates)))
        scores = self.workers.map(physics_scores, truths, candidates)
        return lambda: torch.tensor(list(scores))


def _bytes(videos: Tensor) -> UInt8Array:
    """RGB in [0, 1], [..., 3, T, H, W] → uint8 [..., T, H, W, 3]."""
    frames = (videos * 255).round().to(torch.uint8)
    return rearrange(frames, "... c t h w -> ... t h w c").contiguous().cpu().numpy()


def physics_scores(truth: UInt8Array, made: UInt8Array) -> list[float]:
    """Physics-IQ's Original score of each clip alone, for a world that repeats exactly.

    With two equal takes all ratios of means are plain means, so the score of a set of scenes is the
    mean of theirs: 100 · (mean of the three IoUs − MSE), 100 for the truth. Not clipped at 0.

    Args:
        truth: uint8 [T, H, W, 3].
        made: uint8 [S, T, H, W, 3].
    """
    size = (truth.shape[1], truth.shape[2])
    enlarge = Bilinear(size, (ENLARGED * size[0], ENLARGED * size[1]))
    true = list(looks(map(enlarge, truth), size))
    scores = []
    for clip in made:
        found = measure(zip(true, true, looks(map(enlarge, clip), size), strict=True))
        overlap = (
            float(np.mean(found.spatiotemporal_iou_v1))
            + found.spatial_iou_v1
            + found.weighted_spatial_iou_v1
        ) / 3
        scores.append(100 * (overlap - float(np.mean(found.v1_mse))))
    return scores
