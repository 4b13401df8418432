"""What a run of the command line works with, and what it says and draws of steering."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from magi1.parallel.context import parallelise, share_tiles
from magi1.parallel.groups import Place
from magi1.pipeline import Pipeline, Prepared
from magi1.text.features import FOLDER as TEXT_FOLDER
from wmreward.generation.job import Job
from wmreward.generation.output import Output
from wmreward.generation.progress import Progress, say
from wmreward.generation.search.candidate import Making, make_candidates
from wmreward.generation.search.plan import SearchPlan
from wmreward.generation.steering import LoadedRewards, LoadedSteering, Steering
from wmreward.pictures.guidance_plot import plot_guidance


class Asked(Protocol):
    """What any generator is asked for."""

    @property
    def prompt(self) -> str | Sequence[str]: ...
    @property
    def given(self) -> Tensor | None:
        """Frames that it starts from, uint8 ``[T, H, W, 3]``."""
        ...


class Wanted(Protocol):
    """What any run makes, of whatever generator."""

    @property
    def request(self) -> Asked: ...
    @property
    def output(self) -> Output: ...
    @property
    def device(self) -> str: ...
    @property
    def seed(self) -> int: ...
    @property
    def search(self) -> SearchPlan | None: ...
    @property
    def steering(self) -> Steering: ...
    @property
    def plot(self) -> bool: ...
    @property
    def as_json(self) -> bool: ...


class Makes(Protocol):
    """A generator at work: what a run, or a search among candidates, needs of it."""

    @property
    def job(self) -> Wanted: ...
    @property
    def device(self) -> torch.device: ...
    @property
    def place(self) -> Place: ...
    @property
    def steering(self) -> LoadedRewards: ...

    def make(
        self, seeds: Sequence[int], outputs: Sequence[Output], progress: Progress, *, steered: bool
    ) -> list[dict[str, Any]]:
        """Write a video for each seed, guided or not, and return their records."""
        ...


@dataclass
class Workshop:
    """What a run with MAGI-1 works with; each part is loaded when it is first needed.

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
            compiled=job.compile,
            kernels=job.kernels,
            special_tokens=job.special_tokens,
            text_folder=job.output.path.parent / TEXT_FOLDER,
        )

    @cached_property
    def prepared(self) -> Prepared:
        """The request, read and encoded; the processes of a group share the work from here on."""
        self.pipeline.text.read(self.job.request.texts)  # needs most of a GPU: before all else
        parallelise(self.pipeline.dit, self.place.group)
        self.pipeline.tile_map = share_tiles(self.place.group)
        return self.pipeline.prepare(self.job.request)

    @cached_property
    def steering(self) -> LoadedSteering:
        """The rewards."""
        return LoadedSteering(self.job.steering, self.pipeline, self.place.group)

    def make(
        self, seeds: Sequence[int], outputs: Sequence[Output], progress: Progress, *, steered: bool
    ) -> list[dict[str, Any]]:
        """Write a video for each seed, all in one batch, and return their records."""
        guidance = particles = None
        prepared = self.prepared
        if steered and self.job.steering.settings():
            guidance = self.steering.guidance()
            particles = self.steering.particles(guidance, seeds[0])
        return make_candidates(
            self.pipeline,
            prepared,
            outputs,
            seeds=seeds,
            guidance=guidance,
            particles=particles,
            making=self.making(progress),
        )

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


def told_and_drawn(job: Wanted, record: dict[str, Any]) -> None:
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
