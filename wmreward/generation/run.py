"""The run behind the command line: one video, or a choice among candidates."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from magi1.parallel.groups import process_groups
from wmreward.devices import find_device
from wmreward.errors import UsageError, WMRewardError
from wmreward.generation.candidate import make_candidate
from wmreward.generation.job import Job
from wmreward.generation.progress import Progress, say
from wmreward.generation.search_run import searched
from wmreward.generation.workshop import Workshop, plot_path, told_and_drawn


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


def _made(workshop: Workshop) -> dict[str, Any] | None:
    """The record, on the process that reports."""
    job = workshop.job
    if job.search is not None:
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
