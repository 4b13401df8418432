"""A diffusers pipeline at work: videos, guided or not, with their records."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from importlib import metadata
from typing import Any

import torch
from torch import Tensor

from wmreward.commands.flags import Values
from wmreward.errors import WMRewardError
from wmreward.generation.foreign import foreign
from wmreward.generation.output import Output
from wmreward.generation.progress import Progress
from wmreward.generation.run import run_with
from wmreward.generation.search.candidate import Record, told_of
from wmreward.generation.steering import LoadedRewards
from wmreward.generation.unused import tell_unused
from wmreward.generation.workshop import Place
from wmreward.pipelines.command.job import PipelineJob, job_from
from wmreward.pipelines.command.plan import plan_table
from wmreward.pipelines.command.request import PipelineChoice, PipelineRequest
from wmreward.pipelines.decoding import Economy
from wmreward.pipelines.guide import PipelineGuidance, guide_pipeline
from wmreward.steering.guidance import GuidanceConfig
from wmreward.version import versions


def generate(values: Values) -> int:
    """Generate with the pipeline that the flags name, or plan it; returns the exit code."""
    if values["plan"]:
        print(plan_table(values))
        return 0
    job = job_from(values)
    tell_unused(values, job.steering, job.search)
    judge = None if job.search is None else job.search.judge
    for note in foreign(job.choice.found.kind.__name__, job.steering.rewards, judge):
        print(f"note: {note}", file=sys.stderr)
    return run_with(partial(PipelineWorkshop, job), job)


@dataclass
class WorkingPipeline:
    """A pipeline that stays loaded; it is loaded when it is first needed.

    Attributes:
        choice: Which, and how it runs.
        device: Where.
        shown: Whether it shows its own bar.
    """

    choice: PipelineChoice
    device: torch.device
    shown: bool

    @cached_property
    def pipe(self) -> Any:
        """The pipeline."""
        choice = self.choice
        pipe = choice.found.load(
            self.device, choice.dtype, offload=choice.offload, shown=self.shown
        )
        pipe.set_progress_bar_config(disable=not self.shown, leave=False)
        return pipe

    def make(
        self,
        request: PipelineRequest,
        seed: int,
        output: Output,
        guidance: GuidanceConfig | None = None,
        rewards: LoadedRewards | None = None,
    ) -> Record:
        """Write one video, guided where there is a guidance, and return its record."""
        pipe, begun, on_gpu = self.pipe, time.monotonic(), self.device.type == "cuda"
        if on_gpu:
            torch.cuda.reset_peak_memory_stats(self.device)
        guided: PipelineGuidance | None = None
        if guidance is None:
            video = self._video(request, seed)
        else:
            assert rewards is not None
            mix, economy = rewards.mix.guiding(), Economy(**self.choice.economy)
            with guide_pipeline(pipe, mix, guidance, economy=economy) as guided:
                video = self._video(request, seed)
        record: Record = {
            "frames": len(video),
            "fps": self.choice.fps,
            "size": list(video.shape[1:3]),
            "seed": seed,
            "seconds": round(time.monotonic() - begun, 2),
        }
        if guided is not None:
            told = told_of(guided.calls[-1])
            record["guidance"] = told | {
                "summary": str(guided),
                "economy": asdict(guided.economy),  # memory may have run out on the way
            }
        record |= {
            "batch": 1,
            "resumed": False,
            "device": torch.cuda.get_device_name(self.device) if on_gpu else str(self.device),
            "processes": 1,
            "peak_memory_bytes": torch.cuda.max_memory_allocated(self.device) if on_gpu else None,
            "pipeline": self.choice.found.name,
            "versions": versions() | {"diffusers": metadata.version("diffusers")},
        }
        return output.write(video, self.choice.fps, record)

    def _video(self, request: PipelineRequest, seed: int) -> Tensor:
        """uint8 ``[T, H, W, 3]``."""
        call = dict(request.call)
        if request.given is not None:
            from PIL import Image

            call["image"] = Image.fromarray(request.given[0].numpy())
        generator = torch.Generator("cpu").manual_seed(seed)
        try:
            made = self.pipe(**call, generator=generator, output_type="pt")
        except ValueError as error:
            if isinstance(error, WMRewardError):
                raise
            raise WMRewardError(f"{type(self.pipe).__name__} refuses: {error}") from error
        frames: Tensor = made.frames[0]
        scaled = (frames.float().clamp(0, 1) * 255).round().to(torch.uint8)
        return scaled.movedim(1, -1).cpu().contiguous()


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
    def pipeline(self) -> WorkingPipeline:
        """The pipeline."""
        return WorkingPipeline(self.job.choice, self.device, shown=self.place.replica == 0)

    @cached_property
    def steering(self) -> LoadedRewards:
        """The rewards."""
        assert self.job.steering.rewards is not None
        return LoadedRewards(self.job.steering.rewards, self.device)

    def make(
        self, seeds: Sequence[int], outputs: Sequence[Output], progress: Progress, *, steered: bool
    ) -> list[Record]:
        """Write a video for each seed, one after the other, and return their records."""
        guidance = self.job.steering.guidance if steered else None
        rewards = None if guidance is None else self.steering
        return [
            self.pipeline.make(self.job.request, seed, output, guidance, rewards)
            for seed, output in zip(seeds, outputs, strict=True)
        ]
