"""The run behind the command line: prepare, sample, write, resume."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from generation.candidate import Making, make_candidate
from generation.job import Job
from magi1.parallel.context import parallelise, share_tiles
from magi1.parallel.groups import Place, process_groups
from magi1.pipeline import Pipeline
from magi1.schedule import ChunkCall
from wmreward.devices import find_device
from wmreward.errors import UsageError, WMRewardError


def run(job: Job) -> int:
    """Generate the video of ``job``; returns the exit code."""
    if job.output.done is not None:
        _say("already there, made with the same settings")
        _report(job, job.output.done)
        return 0
    device = find_device(job.device)
    with process_groups(job.config.engine_config, device.type) as place:
        if place.replicas > 1:
            raise UsageError(
                f"{place.replicas} groups of processes for one video: start as many processes as "
                "engine_config.cp_size (--cp_size) says"
            )
        try:
            record = _generate(job, device if place.group is None else place.device, place)
        except (torch.OutOfMemoryError, MemoryError) as error:
            raise WMRewardError(
                "not enough memory; try --offload, --window_size 1, a smaller --video_size_h and "
                "--video_size_w, or --device cpu (--plan shows what is needed)"
            ) from error
    if place.rank == 0:
        _report(job, record)
    return 0


def _generate(job: Job, device: torch.device, place: Place) -> dict[str, Any]:
    pipeline = Pipeline(
        job.config,
        device=device,
        dtype=job.dtype,
        offload=job.offload,
        kernels=job.kernels,
        special_tokens=job.special_tokens,
    )
    parallelise(pipeline.dit, place.group)
    pipeline.tile_map = share_tiles(place.group)
    prepared = pipeline.prepare(job.request)
    with Progress(shown=place.rank == 0) as progress:
        making = Making(
            released=job.released,
            preview=job.preview,
            save_latents=job.save_latents,
            writes=place.rank == 0,
            processes=job.config.engine_config.cp_size if place.group is not None else 1,
            say=_say,
            on_start=progress.start,
            on_call=progress,
        )
        return make_candidate(pipeline, prepared, job.output, seed=job.seed, making=making)


class Progress:
    """A bar on standard error: chunk, step and time left."""

    def __init__(self, *, shown: bool) -> None:
        self.shown, self.chunks = shown, 0
        self.bar: tqdm[Any] | None = None

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def start(self, calls: Sequence[ChunkCall], done: int) -> None:
        """A run of ``calls``, of which an interrupted run had done some."""
        self.__exit__()
        self.chunks = max(call.last for call in calls)
        self.bar = tqdm(
            total=len(calls), initial=done, unit="step", file=sys.stderr, disable=not self.shown
        )

    def __call__(self, call: ChunkCall, latents: Tensor) -> None:
        assert self.bar is not None
        self.bar.set_description(f"chunk {call.first + 1}/{self.chunks}", refresh=False)
        self.bar.update()


def _report(job: Job, record: dict[str, Any]) -> None:
    if job.as_json:
        print(json.dumps(record))
        return
    height, width = record["size"]
    print(
        f"{record['output']}: {record['frames']} frames of {width}×{height} at {record['fps']} per second, "
        f"{record['seconds']:.1f} s"
    )


def _say(text: str) -> None:
    print(text, file=sys.stderr)
