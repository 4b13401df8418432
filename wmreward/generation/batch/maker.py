"""Makes the candidates of a batch with MAGI-1, whose networks stay loaded."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from magi1.errors import MagiError
from magi1.parallel.context import parallelise, share_tiles
from magi1.parallel.groups import Place
from magi1.pipeline import Pipeline, Prepared
from magi1.text.features import FOLDER as TEXT_FOLDER
from wmreward.batch.candidates import Candidate
from wmreward.errors import one_line
from wmreward.generation.batch.judge import BatchSteering
from wmreward.generation.batch.making import VIDEO, facts_of, failing
from wmreward.generation.batch.setup import Setup
from wmreward.generation.inputs import given_frames
from wmreward.generation.job import context_of
from wmreward.generation.output import Output
from wmreward.generation.search.candidate import Making, make_candidate
from wmreward.prompts.jobs import BatchJob
from wmreward.video_io import Faults
from wmweights import WeightsError

_REMEMBERED = 8


@dataclass(frozen=True)
class _Read:
    """A job, ready for any seed.

    Attributes:
        prepared: As the sampler takes it.
        sha256: Of the given frames.
        faults: What is doubtful about the video they come from.
        context: Given frames that are judged with the video.
    """

    prepared: Prepared
    sha256: str | None
    faults: Faults
    context: Tensor | None


class MagiMaker:
    """One of the processes that make candidates.

    Args:
        setup: What is to be made.
        place: This process.
    """

    def __init__(self, setup: Setup, place: Place) -> None:
        self.setup, self.place = setup, place
        self.pipeline = Pipeline(
            setup.config,
            device=place.device,
            dtype=setup.dtype,
            offload=setup.values["offload"],
            compiled=setup.values["compile"],
            kernels=setup.values["kernels"],
            special_tokens=setup.special_tokens,
            text_folder=setup.outputs / TEXT_FOLDER,
        )
        # The whole list at once, by one process of those that see the folder, while the others load weights.
        self.pipeline.text.read(setup.texts, wait=False)
        self.steering: BatchSteering | None = None
        if setup.steering.rewards is not None:
            self.steering = BatchSteering(setup.steering, self.pipeline, place.group)
            self.steering.load()  # what is wrong with their weights shows before anything is sampled
        parallelise(self.pipeline.dit, place.group)
        self.pipeline.tile_map = share_tiles(place.group)
        self.pipeline.text.read(setup.texts)
        self._read: dict[str, _Read] = {}

    def __call__(self, candidate: Candidate, folder: Path) -> dict[str, Any]:
        with failing(MagiError, WeightsError):
            return self._make(candidate, folder)

    def _make(self, candidate: Candidate, folder: Path) -> dict[str, Any]:
        job = self._job(candidate.job)
        output = Output(folder / VIDEO, self._settings(candidate, job.sha256))
        # A process that died while it judged has left the video. Several must decide the same.
        found = output.record() if self.place.group is None else None
        record = found or self._generate(candidate, job.prepared, output)
        facts = facts_of(record, job.sha256)
        if job.faults:
            facts["given_faults"] = job.faults.to_json()
        if self.place.rank == 0 and not self.setup.values["no_scores"]:
            assert self.steering is not None
            facts |= self.steering.verdict(output.path, candidate.job.prompt, job.context)
        return facts

    def _generate(self, candidate: Candidate, prepared: Prepared, output: Output) -> dict[str, Any]:
        guided = candidate.variant == "guided"
        return make_candidate(
            self.pipeline,
            prepared,
            output,
            seed=candidate.seed,
            guidance=self.steering.guidance() if self.steering and guided else None,
            making=Making(
                released=self.setup.released,
                writes=self.place.rank == 0,
                processes=self.setup.processes_per_video,
            ),
        )

    def _job(self, job: BatchJob) -> _Read:
        """Text and given frames as the sampler takes them; kept for the next seeds."""
        if job.id not in self._read:
            if len(self._read) == _REMEMBERED:
                del self._read[next(iter(self._read))]
            self._read[job.id] = self._newly_read(job)
        return self._read[job.id]

    def _newly_read(self, job: BatchJob) -> _Read:
        runtime = self.setup.config.runtime_config
        given = given_frames(
            str(job.init_image) if job.init_image else None,
            str(job.init_video) if job.init_video else None,
            (runtime.video_size_h, runtime.video_size_w),
            runtime.fps,
            released=self.setup.released,
        )
        frames = None if given is None else given.frames
        if given is not None and given.faults and self.place.rank == 0:
            doubts = f"{job.id}: {job.init_video}: {given.faults}; continued all the same"
            print(f"warning: {one_line(doubts)}", file=sys.stderr)
        return _Read(
            self.pipeline.prepare(replace(self.setup.request(job), given=frames)),
            None if given is None else given.sha256,
            Faults() if given is None else given.faults,
            context_of(frames, self.setup.steering.rewards, self.setup.config),
        )

    def _settings(self, candidate: Candidate, given: str | None) -> dict[str, Any]:
        """All that decides this video: only a state with the same may be gone on from."""
        job = candidate.job
        return {
            **self.setup.settings,
            "mode": job.mode,
            "prompt": job.prompt,
            "negative_prompt": job.negative_prompt,
            "given_sha256": given,
            "variant": candidate.variant,
            "seed": candidate.seed,
        }
