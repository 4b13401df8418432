"""A diffusers pipeline at work for `wmreward generate --pipeline`: videos, guided, with their records."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from importlib import metadata
from typing import Any

import torch
from torch import Tensor

from wmreward.commands.flags import Values
from wmreward.errors import WMRewardError
from wmreward.generation.candidate import Record, told_of
from wmreward.generation.output import Output
from wmreward.generation.progress import Progress
from wmreward.generation.run import run_with
from wmreward.generation.steering import LoadedRewards
from wmreward.generation.workshop import Place
from wmreward.pipelines.guide import PipelineGuidance, guide_pipeline
from wmreward.pipelines.job import PipelineJob, job_from
from wmreward.version import versions


def generate(values: Values) -> int:
    """Generate with the pipeline that the flags name; returns the exit code."""
    job = job_from(values)
    return run_with(partial(PipelineWorkshop, job), job)


@dataclass
class PipelineWorkshop:
    """See `wmreward.generation.workshop.Makes`; each part is loaded when it is first needed.

    Attributes:
        job: What is wanted.
        device: Where it runs.
        place: This process among the others, each of which makes videos of its own.
    """

    job: PipelineJob
    device: torch.device
    place: Place

    @cached_property
    def pipe(self) -> Any:
        """The pipeline."""
        pipe = self.job.found.load(self.device, self.job.dtype, offload=self.job.offload)
        pipe.set_progress_bar_config(disable=self.place.replica > 0, leave=False)
        return pipe

    @cached_property
    def steering(self) -> LoadedRewards:
        """The rewards."""
        assert self.job.steering.rewards is not None
        return LoadedRewards(self.job.steering.rewards, self.device)

    def make(
        self, seeds: Sequence[int], outputs: Sequence[Output], progress: Progress, *, steered: bool
    ) -> list[Record]:
        """Write a video for each seed, one after the other, and return their records."""
        return [
            self._made(seed, output, steered=steered)
            for seed, output in zip(seeds, outputs, strict=True)
        ]

    def _made(self, seed: int, output: Output, *, steered: bool) -> Record:
        pipe, begun, on_gpu = self.pipe, time.monotonic(), self.device.type == "cuda"
        if on_gpu:
            torch.cuda.reset_peak_memory_stats(self.device)
        config = self.job.steering.guidance if steered else None
        guided: PipelineGuidance | None = None
        if config is None:
            video = self._video(pipe, seed)
        else:
            with guide_pipeline(pipe, self.steering.mix.guiding(), config) as guided:
                video = self._video(pipe, seed)
        record: Record = {
            "frames": len(video),
            "fps": self.job.fps,
            "size": list(video.shape[1:3]),
            "seed": seed,
            "seconds": round(time.monotonic() - begun, 2),
        }
        if guided is not None:
            told = told_of(guided.calls[-1])
            record["guidance"] = told | {"summary": str(guided)}
        record |= {
            "batch": 1,
            "resumed": False,
            "device": torch.cuda.get_device_name(self.device) if on_gpu else str(self.device),
            "processes": 1,
            "peak_memory_bytes": torch.cuda.max_memory_allocated(self.device) if on_gpu else None,
            "pipeline": self.job.found.name,
            "versions": versions() | {"diffusers": metadata.version("diffusers")},
        }
        return output.write(video, self.job.fps, record)

    def _video(self, pipe: Any, seed: int) -> Tensor:
        """uint8 ``[T, H, W, 3]``."""
        call = dict(self.job.call)
        if (given := self.job.request.given) is not None:
            from PIL import Image

            call["image"] = Image.fromarray(given[0].numpy())
        generator = torch.Generator("cpu").manual_seed(seed)
        try:
            frames: Tensor = pipe(**call, generator=generator, output_type="pt").frames[0]
        except ValueError as error:
            if isinstance(error, WMRewardError):
                raise
            raise WMRewardError(f"{type(pipe).__name__} refuses: {error}") from error
        scaled = (frames.float().clamp(0, 1) * 255).round().to(torch.uint8)
        return scaled.movedim(1, -1).cpu().contiguous()
