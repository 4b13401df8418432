"""The run behind the command line: one video, or a choice among candidates."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import distributed as dist

from magi1.config import EngineConfig
from magi1.parallel.groups import Place, process_groups
from wmreward.devices import find_device, slow_to_compile
from wmreward.errors import UsageError, WMRewardError
from wmreward.generation.job import Job
from wmreward.generation.progress import Progress, say
from wmreward.generation.search.run import searched
from wmreward.generation.workshop import Makes, Wanted, Workshop, plot_path, told_and_drawn
from wmreward.ranks import Ranks
from wmreward.records.lock import reserved

ALONE = EngineConfig(
    distributed_backend="nccl",
    distributed_timeout_minutes=15,
    pp_size=1,
    cp_size=1,
    cp_strategy="none",
    ulysses_overlap_degree=1,
    fp8_quant=False,
    distill_nearly_clean_chunk_threshold=0.3,
    shortcut_mode="8,16,16",
    distill=False,
    kv_offload=False,
    enable_cuda_graph=False,
)
"""Every process works alone; the rest is MAGI-1's and without effect."""


def run(job: Job) -> int:
    """Generate the video of ``job`` with MAGI-1; returns the exit code."""
    if os.environ.get("RANK", "0") == "0":
        if job.output.done is None:
            say(job.length)
            for note in slow_to_compile(job.compile, job.device):
                say(f"note: {note}")
        for cut in job.cut:
            say(f"note: {cut}")
        if job.doubts:
            say(f"warning: {job.doubts}; continued all the same")
    return run_with(partial(Workshop, job), job, job.config.engine_config)


def run_with(
    opened: Callable[[torch.device, Place], Makes], job: Wanted, engine: EngineConfig = ALONE
) -> int:
    """The same with any generator.

    Args:
        opened: Makes the workshop for a device and a process among others.
        job: What is wanted.
        engine: How many processes share a video; usually each makes its own.

    Raises:
        InUse: another run writes the same video.
    """
    if job.output.done is not None and all(path.exists() for path in extras(job)):
        say("already there, made with the same settings")
        report(job, job.output.done)
        return 0
    device = find_device(job.device)
    with process_groups(engine, device.type) as place:
        if place.replicas > 1 and (job.search is None or job.search.batch is None):
            raise UsageError(
                f"{place.replicas} groups of processes for one video: start as many processes as "
                "engine_config.cp_size (--cp_size) says"
            )
        alone = place.group is None and place.replicas == 1
        workshop = opened(device if alone else place.device, place)
        try:
            record = _alone_at_its_place(workshop)
        except (torch.OutOfMemoryError, MemoryError) as error:
            raise WMRewardError(
                "not enough memory; try --offload, --chunks_at_once 1, a smaller --video_size_h and "
                "--video_size_w, or --device cpu (--plan shows what is needed)"
            ) from error
    if record is not None:
        report(job, record)
    return 0


def _alone_at_its_place(workshop: Makes) -> dict[str, Any] | None:
    """The record, on the process that reports; nobody else writes the video meanwhile."""
    output, ranks = workshop.job.output, Ranks()
    if dist.is_initialized():
        ranks = Ranks(dist.get_rank(), dist.get_world_size())
    with reserved(output.path, ranks) as lock:
        ranks.on_first(output.check_unchanged)
        return _made(workshop, lock.check)


def _made(workshop: Makes, guard: Callable[[], None]) -> dict[str, Any] | None:
    job = workshop.job
    if job.steering.rewards is not None:
        workshop.steering.load()  # what is wrong with their weights shows before anything is sampled
    if job.search is not None:
        return searched(workshop, guard)
    record = job.output.done or _single(workshop, guard)
    if workshop.place.rank:
        return None
    told_and_drawn(job, record)
    return record


def _single(workshop: Makes, guard: Callable[[], None]) -> dict[str, Any]:
    job = workshop.job
    output = replace(job.output, guard=guard)
    with Progress(shown=workshop.place.rank == 0) as progress:
        (record,) = workshop.make([job.seed], [output], progress, steered=True)
    return record


def extras(job: Wanted) -> list[Path]:
    """Files beside the output that were asked for."""
    output, found = job.output, []
    if job.plot:
        found.append(plot_path(output))
    if job.search is not None:
        found.append(output.beside(".candidates.png"))
        if job.search.compare:
            found.append(output.beside(f".compare{output.path.suffix}"))
    return found


def report(job: Wanted, record: dict[str, Any]) -> None:
    """The outcome, on standard output."""
    if job.as_json:
        print(json.dumps(record))
        return
    height, width = record["size"]
    print(
        f"{record['output']}: {record['frames']} frames of {width}×{height} at {record['fps']} per second, "
        f"made in {record['seconds']:.1f} s"
    )
