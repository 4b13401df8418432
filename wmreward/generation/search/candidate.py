"""Making candidates: one video or several at once, written with their records, resumed where they stopped.

prepared = pipeline.prepare(request)                      # once for any number of candidates
output = Output(Path("ball.mp4"), settings)
record = make_candidate(pipeline, prepared, output, seed=7, guidance=Guidance(reward, config))
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from magi1.pipeline import Pipeline, Prepared
from magi1.sampling.sampler import FinishedChunk, Guide, LoopState
from magi1.sampling.schedule import ChunkCall, chunk_calls
from wmreward.generation.output import Output
from wmreward.steering.guidance import Guidance, GuidedStep, effect
from wmreward.steering.particles import ParticleSteering
from wmreward.version import versions

Record = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Making:
    """How candidates are made; nothing here decides what a plain video shows but ``released``.

    Attributes:
        released: Decode as the released code does.
        preview: Write what is finished after each chunk.
        save_latents: Write the latents beside the video.
        writes: Whether this process writes; of several that share a video, the first one does.
        processes: How many share it, for the record.
        say: Told in words of what goes on.
        on_start: Told of all calls, and how many of them an interrupted run had done.
        on_call: Told of every step of the sampler.
    """

    released: bool = False
    preview: bool = False
    save_latents: bool = False
    writes: bool = True
    processes: int = 1
    say: Callable[[str], None] = lambda _: None
    on_start: Callable[[Sequence[ChunkCall], int], None] = lambda _calls, _done: None
    on_call: Callable[[ChunkCall, Tensor], None] | None = None


def make_candidate(
    pipeline: Pipeline,
    prepared: Prepared,
    output: Output,
    *,
    seed: int,
    guidance: Guidance | None = None,
    making: Making | None = None,
) -> Record:
    """Generate one video and write it, then its record; see :func:`make_candidates`."""
    (record,) = make_candidates(
        pipeline, prepared, [output], seeds=[seed], guidance=guidance, making=making
    )
    return record


def make_candidates(
    pipeline: Pipeline,
    prepared: Prepared,
    outputs: Sequence[Output],
    *,
    seeds: Sequence[int],
    guidance: Guidance | None = None,
    particles: ParticleSteering | None = None,
    making: Making | None = None,
) -> list[Record]:
    """Generate one video for each seed, all in one batch.

    After every chunk the state is kept beside each output; called again after having been killed, this
    goes on from there, and the result is the same to the bit. A video and its record are each written
    whole or not at all, and the record last. Several processes that share a video all call this.

    Args:
        pipeline: Networks.
        prepared: The request.
        outputs: Where each video goes; their settings decide what can be resumed.
        seeds: Of the noise of each.
        guidance: Corrects the velocity. A new one for every call: its records are those of the run.
        particles: Resamples the batch instead; may hold a guidance of its own. Such a run is not resumed.
        making: What else is written and told.

    Returns:
        The records, as they stand beside the videos, on every process.
    """
    making, begun = making or Making(), time.monotonic()
    if pipeline.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(pipeline.device)
    run = _Run(pipeline, prepared, outputs, making, guidance, resumable=particles is None)
    noise = torch.cat([pipeline.noise(prepared.layout, seed) for seed in seeds])
    guide: Guide | None = guidance if particles is None else particles
    run.sample(noise, guide)
    seconds = (time.monotonic() - begun) / len(outputs)
    steered: Record = {}
    if guidance is not None:
        steered["guidance"] = told_of(guidance)
    if particles is not None:
        steered["particles"] = particles.to_json()
    return [
        run.write(row, {"seed": seed, "seconds": round(seconds, 2), **steered})
        for row, seed in enumerate(seeds)
    ]


def told_of(guidance: Guidance) -> Record:
    """What a guidance did, for a record: in words, in sum, and step by step."""
    whole = effect(guidance.records)
    return {
        "summary": str(whole),
        "effect": {**asdict(whole), "beyond_null": whole.beyond_null},
        "steps": [asdict(step) for step in guidance.records],
    }


class _Run:
    """One batch of videos on its way.

    Attributes:
        latents: Of finished chunks, of all videos.
        frames: Of each video, chunk by chunk.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        prepared: Prepared,
        outputs: Sequence[Output],
        making: Making,
        guidance: Guidance | None,
        *,
        resumable: bool,
    ) -> None:
        self.pipeline, self.prepared, self.outputs = pipeline, prepared, outputs
        self.making, self.guidance, self.resumable = making, guidance, resumable
        self.calls = chunk_calls(prepared.layout, pipeline.config.runtime_config)
        self.latents: list[Tensor] = []
        self.frames: list[list[Tensor]] = [[] for _ in outputs]
        self.resumed = self._interrupted()

    def sample(self, noise: Tensor, guide: Guide | None) -> None:
        """All chunks that are not finished yet."""
        state = self.resumed
        self.making.on_start(self.calls, 0 if state is None else state.next_call)
        if state is not None:
            self._take_over(state)
        for chunk in self.pipeline.sample(
            self.prepared,
            noise=noise,
            guide=guide,
            resume=state,
            released=self.making.released,
            on_call=self.making.on_call,
        ):
            self._add(chunk.finished, chunk.frames)
            if self.making.writes:
                self._keep(chunk.finished.state)

    def write(self, row: int, facts: Record) -> Record:
        """The video of one row and its record, which is returned."""
        video = torch.cat(self.frames[row])
        device, runtime = self.pipeline.device, self.pipeline.config.runtime_config
        record = {
            "frames": len(video),
            "fps": runtime.fps,
            "size": list(video.shape[1:3]),
            **facts,
            **({"prompt_cut": cut} if (cut := [asdict(c) for c in self.prepared.cut]) else {}),
            "batch": len(self.outputs),
            "resumed": self.resumed is not None,
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
            "processes": self.making.processes,
            "compiled": self.pipeline.compiled,
            "peak_memory_bytes": torch.cuda.max_memory_allocated(device)
            if device.type == "cuda"
            else None,
            "weights": [vars(part) for part in self.pipeline.weights],
            "versions": versions(),
        }
        output = self.outputs[row]
        if not self.making.writes:
            return output.whole(record)
        latents = None
        if self.making.save_latents:
            latents = torch.cat([piece[row, None].cpu() for piece in self.latents], dim=2)
        return output.write(video, runtime.fps, record, latents)

    def _interrupted(self) -> LoopState | None:
        """The state that all videos were left in, if it is the same step for all."""
        if not self.resumable:
            return None
        found = [output.load_state() for output in self.outputs]
        states = [state for state in found if state is not None]
        if len(states) < len(found) or len({state.next_call for state in states}) > 1:
            return None
        if self.guidance is not None:
            self.guidance.records[:] = [GuidedStep(**step) for step in states[0].guided]
        latents = torch.cat([state.latents for state in states])
        return LoopState(latents.to(self.pipeline.device), states[0].next_call)

    def _take_over(self, state: LoopState) -> None:
        """Chunks that were finished before, and their frames."""
        done = [call.first for call in self.calls[: state.next_call] if call.finishes]
        self.making.say(f"going on after {len(done)} finished chunks of an interrupted run")
        for chunk in done:
            latents = state.latents[:, :, self.prepared.layout.emitted(chunk)]
            piece = FinishedChunk(chunk, latents, state)
            self._add(piece, self._decode(piece, 0))

    def _add(self, piece: FinishedChunk, first: Tensor) -> None:
        """A finished chunk, of which the frames of the first row are there already."""
        self.latents.append(piece.latents)  # the whole state of every chunk would be too much
        for row, frames in enumerate(self.frames):
            frames.append(first if row == 0 else self._decode(piece, row))

    def _decode(self, piece: FinishedChunk, row: int) -> Tensor:
        return self.pipeline.decode(self.prepared, piece, released=self.making.released, row=row)

    def _keep(self, state: LoopState) -> None:
        guided = [] if self.guidance is None else [asdict(step) for step in self.guidance.records]
        fps = self.pipeline.config.runtime_config.fps
        for row, (output, frames) in enumerate(zip(self.outputs, self.frames, strict=True)):
            if self.resumable:
                output.save_state(replace(state, latents=state.latents[row, None]), guided)
            if self.making.preview:
                output.write_preview(frames, fps)
                self.making.say(
                    f"{output.preview_path} has the first {sum(map(len, frames))} frames"
                )
