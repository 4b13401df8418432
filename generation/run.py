"""The run behind the command line: one video, or a choice among candidates."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from generation.candidate import Making, make_candidate
from generation.job import Job
from generation.output import Output
from generation.plot import plot_guidance
from generation.progress import Progress, say
from generation.steering import LoadedSteering
from magi1.parallel.context import parallelise, share_tiles
from magi1.parallel.groups import Place, process_groups
from magi1.pipeline import Pipeline, Prepared
from wmreward.devices import find_device
from wmreward.errors import UsageError, WMRewardError


def run(job: Job) -> int:
    """Generate the video of ``job``; returns the exit code."""
    if job.output.done is not None and all(path.exists() for path in extras(job)):
        say("already there, made with the same settings")
        report(job, job.output.done)
        return 0
    device = find_device(job.device)
    with process_groups(job.config.engine_config, device.type) as place:
        if place.replicas > 1 and (job.search is None or job.search.batch is None):
            raise UsageError(
                f"{place.replicas} groups of processes for one video: start as many processes as "
                "engine_config.cp_size (--cp_size) says"
            )
        alone = place.group is None and place.replicas == 1
        workshop = Workshop(job, device if alone else place.device, place)
        try:
            record = _made(workshop)
        except (torch.OutOfMemoryError, MemoryError) as error:
            raise WMRewardError(
                "not enough memory; try --offload, --window_size 1, a smaller --video_size_h and "
                "--video_size_w, or --device cpu (--plan shows what is needed)"
            ) from error
    if record is not None:
        report(job, record)
    return 0


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


def _made(workshop: Workshop) -> dict[str, Any] | None:
    """The record, on the process that reports."""
    job = workshop.job
    if job.search is not None:
        from generation.search_run import searched

        return searched(workshop)
    record = job.output.done or _single(workshop)
    if workshop.place.rank:
        return None
    told_and_drawn(job, record)
    return record


def _single(workshop: Workshop) -> dict[str, Any]:
    job, prepared = workshop.job, workshop.prepared
    guidance = None if job.steering.guidance is None else workshop.steering.guidance()
    with Progress(shown=workshop.place.rank == 0) as progress:
        return make_candidate(
            workshop.pipeline,
            prepared,
            job.output,
            seed=job.seed,
            guidance=guidance,
            making=workshop.making(progress),
        )


def extras(job: Job) -> list[Path]:
    """Files beside the output that were asked for."""
    output, found = job.output, []
    if job.plot:
        found.append(plot_path(output))
    if job.search is not None:
        found.append(output.beside(".candidates.png"))
        if job.search.compare:
            found.append(output.beside(f".compare{output.path.suffix}"))
    return found


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


def report(job: Job, record: dict[str, Any]) -> None:
    """The outcome, on standard output."""
    if job.as_json:
        print(json.dumps(record))
        return
    height, width = record["size"]
    print(
        f"{record['output']}: {record['frames']} frames of {width}×{height} at {record['fps']} per second, "
        f"{record['seconds']:.1f} s"
    )
