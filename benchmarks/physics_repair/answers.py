"""What repaired videos are held against: the simulated future, measured in pixels, objects and motion."""

from __future__ import annotations

from collections.abc import Sequence
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

CONTEXT = 16
"""Frames before the first generated one that are shown to world models with it."""

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
        self.before = videos[:, :, max(0, given - CONTEXT) : given]
        self._objects: Detections = detect(self.truth, CLEAR)
        self._asked = self._objects.found & clips.colors().to(videos.device).unsqueeze(1)

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
        """How far videos [n, S, 3, T, H, W] of some scenes are from the truth.

        Returns:
            The measures [n, S], and for every frame and colour the distance of the object from where it
            should be, [n, S, T, C] in picture widths; NaN where none is looked for or found.
        """
        count, seeds = made.shape[:2]
        compared = made.flatten(0, 1)
        truth, last = (
            part[rows].repeat_interleave(seeds, dim=0) for part in (self.truth, self.last)
        )
        where = torch.arange(len(self), device=made.device)[rows].repeat_interleave(seeds)
        objects, asked = self._objects[where], self._asked[where]
        found = detect(compared)
        places = placement(found, objects, asked.any(dim=1))
        values = {
            "physics": self._physics(made, rows).flatten(),
            "position": places.position,
            "placed": places.placed,
            "miss": places.miss,
            "motion": video_measures.motion_error(compared, truth, last),
            "union": video_measures.union_error(compared, truth, last),
            "mse": video_measures.squared_error(compared, truth),
            "sharp": video_measures.sharpness(compared, truth, last),
        }
        distance = (found.center - objects.center).norm(dim=-1).clamp(max=MISSING)
        distance = torch.where(asked & found.found, distance, torch.nan)
        shape = (count, seeds)
        return (
            {name: value.float().cpu().unflatten(0, shape) for name, value in values.items()},
            distance.cpu().unflatten(0, shape),
        )

    def _physics(self, made: Tensor, rows: slice) -> Tensor:
        """`physics_score` of [n, S, …], scene by scene: [n, S]."""
        truths = list(_bytes(self.truth[rows]))
        candidates = list(_bytes(made))
        if self.workers is None:
            scores = list(map(physics_scores, truths, candidates))
        else:
            scores = list(self.workers.map(physics_scores, truths, candidates))
        return torch.tensor(scores)


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
