"""What a run of the command line works with, and what it says and draws of steering."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from magi1.parallel.context import parallelise, share_tiles
from magi1.parallel.groups import Place
from magi1.pipeline import Pipeline, Prepared
from wmreward.generation.candidate import Making
from wmreward.generation.job import Job
from wmreward.generation.output import Output
from wmreward.generation.progress import Progress, say
from wmreward.generation.steering import LoadedSteering
from wmreward.pictures.guidance_plot import plot_guidance


@dataclass
class Workshop:
    """What a run works with; each part is loaded when it is first needed.

    Attributes:
        job: What is wanted.
        device: Where it runs.
        place: This process among the others.
    """

    job: Job
    device: torch.device
    place: Place

    @cached_property
    def pipeline(self) -> Pipeline:
        """The generator; its networks are loaded when they are first used."""
        job = self.job
        return Pipeline(
            job.config,
            device=self.device,
            dtype=job.dtype,
            offload=job.offload,
            kernels=job.kernels,
            special_tokens=job.special_tokens,
        )

    @cached_property
    def prepared(self) -> Prepared:
        """The request, read and encoded; the processes of a group share the work from here on."""
        parallelise(self.pipeline.dit, self.place.group)
        self.pipeline.tile_map = share_tiles(self.place.group)
        return self.pipeline.prepare(self.job.request)

    @cached_property
    def steering(self) -> LoadedSteering:
        """The rewards."""
        return LoadedSteering(self.job.steering, self.pipeline, alone=self.place.group is None)

    def making(self, progress: Progress) -> Making:
        """How candidates are made here."""
        job = self.job
        return Making(
            released=job.released,
            preview=job.preview,
            save_latents=job.save_latents,
            writes=self.place.rank == 0,
            processes=job.config.engine_config.cp_size if self.place.group is not None else 1,
            say=say,
            on_start=progress.start,
            on_call=progress,
        )


def plot_path(output: Output) -> Path:
    return output.beside(".guidance.png")


def told_and_drawn(job: Job, record: dict[str, Any]) -> None:
    """Say what steering did, and draw guidance where that was asked for."""
    if particles := record.get("particles"):
        say(particles["summary"])
    guided = record.get("guidance")
    if guided is None:
        return
    say(guided["summary"])
    if job.plot and guided["steps"]:
        plot_guidance(plot_path(job.output), guided["steps"], job.output.path.name)
        say(f"wrote {plot_path(job.output)}")
