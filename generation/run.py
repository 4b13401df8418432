"""The run behind the command line: prepare, sample, write, resume."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from generation.job import Job
from magi1.parallel.context import parallelise, share_tiles
from magi1.parallel.groups import Place, process_groups
from magi1.pipeline import Pipeline, Prepared, VideoChunk
from magi1.sampler import FinishedChunk, LoopState
from magi1.schedule import ChunkCall, chunk_calls
from wmreward.devices import find_device
from wmreward.errors import UsageError, WMRewardError
from wmreward.version import versions


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
    if record is not None:
        _report(job, record)
    return 0


def _generate(job: Job, device: torch.device, place: Place) -> dict[str, Any] | None:
    """The record, on the process that writes it."""
    begun, writes = time.monotonic(), place.rank == 0
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
    pieces, frames = _finished(job, pipeline, prepared)
    state = pieces[-1].state if pieces else None
    calls = chunk_calls(prepared.layout, job.config.runtime_config)
    with _Progress(calls, state, shown=writes) as progress:
        for chunk in pipeline.sample(
            prepared,
            seed=job.seed,
            resume=state,
            released=job.released,
            on_call=progress,
        ):
            pieces.append(chunk.finished)
            frames.append(chunk.frames)
            if writes:
                _keep(job, chunk, frames)
    if not writes:
        return None
    video = torch.cat(frames)
    fps = job.config.runtime_config.fps
    latents = torch.cat([piece.latents.cpu() for piece in pieces], dim=2)
    record = {
        "frames": len(video),
        "fps": fps,
        "size": list(video.shape[1:3]),
        "seconds": round(time.monotonic() - begun, 2),
        "resumed": state is not None,
        "device": _name_of(device),
        "processes": job.config.engine_config.cp_size if place.group is not None else 1,
        "peak_memory_bytes": torch.cuda.max_memory_allocated(device)
        if device.type == "cuda"
        else None,
        "weights": [vars(part) for part in pipeline.weights],
        "versions": versions(),
    }
    return job.output.write(video, fps, record, latents if job.save_latents else None)


def _finished(
    job: Job, pipeline: Pipeline, prepared: Prepared
) -> tuple[list[FinishedChunk], list[Tensor]]:
    """Chunks that an interrupted run had finished, and their frames."""
    state = job.output.load_state()
    if state is None:
        return [], []
    state = LoopState(state.latents.to(pipeline.device), state.next_call)
    calls = chunk_calls(prepared.layout, job.config.runtime_config)
    done = [call.first for call in calls[: state.next_call] if call.finishes]
    _say(f"going on after {len(done)} finished chunks of an interrupted run")
    pieces = [
        FinishedChunk(chunk, state.latents[:, :, prepared.layout.emitted(chunk)], state)
        for chunk in done
    ]
    return pieces, [pipeline.decode(prepared, piece, released=job.released) for piece in pieces]


def _keep(job: Job, chunk: VideoChunk, frames: Sequence[Tensor]) -> None:
    job.output.save_state(chunk.finished.state)
    if job.preview:
        job.output.write_preview(frames, job.config.runtime_config.fps)
        _say(f"{job.output.preview_path} has the first {sum(map(len, frames))} frames")


class _Progress:
    """A bar on standard error: chunk, step and time left."""

    def __init__(self, calls: Sequence[ChunkCall], state: LoopState | None, *, shown: bool) -> None:
        self.chunks = max(call.last for call in calls)
        self.bar = tqdm(
            total=len(calls),
            initial=state.next_call if state else 0,
            unit="step",
            file=sys.stderr,
            disable=not shown,
        )

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def __call__(self, call: ChunkCall, latents: Tensor) -> None:
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


def _name_of(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)


def _say(text: str) -> None:
    print(text, file=sys.stderr)
