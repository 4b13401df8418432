"""Makes the candidates of a batch with MAGI-1, whose networks stay loaded."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from magi1.errors import MagiError
from magi1.parallel.context import parallelise, share_tiles
from magi1.parallel.groups import Place
from magi1.pipeline import Pipeline, Prepared
from magi1.text_features import FOLDER as TEXT_FOLDER
from wmreward.batch.candidates import Candidate, Unfit
from wmreward.errors import WMRewardError
from wmreward.generation.batch.judge import BatchSteering
from wmreward.generation.batch.setup import Setup
from wmreward.generation.candidate import Making, make_candidate
from wmreward.generation.inputs import given_frames
from wmreward.generation.job import context_of
from wmreward.generation.output import Output
from wmreward.prompts.jobs import BatchJob
from wmweights import WeightsError, write_state

VIDEO, EMBEDDINGS = "video.mp4", "embeddings.safetensors"
_REMEMBERED = 8
_FROM_RECORD = ("frames", "fps", "size", "resumed", "device", "processes", "peak_memory_bytes")


@dataclass(frozen=True)
class _Read:
    """A job, ready for any seed.

    Attributes:
        prepared: As the sampler takes it.
        sha256: Of the given frames.
        context: Given frames that are judged with the video.
    """

    prepared: Prepared
    sha256: str | None
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
        try:
            return self._make(candidate, folder)
        except (torch.OutOfMemoryError, MemoryError) as error:
            torch.cuda.empty_cache()
            raise WMRewardError(f"not enough memory ({error})") from error
        except (MagiError, WeightsError) as error:
            raise WMRewardError(str(error)) from error
        except RuntimeError as error:
            if "CUDA error" in str(error):  # nothing works in this process any more
                raise Unfit(str(error)) from error
            raise

    def _make(self, candidate: Candidate, folder: Path) -> dict[str, Any]:
        job = self._job(candidate.job)
        output = Output(folder / VIDEO, self._settings(candidate, job.sha256))
        # A process that died while it judged has left the video. Several must decide the same.
        found = output.record() if self.place.group is None else None
        record = found or self._generate(candidate, job.prepared, output)
        facts: dict[str, Any] = {
            "video": VIDEO,
            "given_sha256": job.sha256,
            **{name: record[name] for name in _FROM_RECORD},
        }
        if "prompt_cut" in record:
            facts["prompt_cut"] = record["prompt_cut"]
        if "guidance" in record:
            facts["guidance"] = {name: record["guidance"][name] for name in ("summary", "effect")}
        if self.place.rank == 0 and not self.setup.values["no_scores"]:
            facts |= self._judge(output.path, job.context)
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

    def _judge(self, video: Path, context: Tensor | None) -> dict[str, Any]:
        assert self.steering is not None
        judged, of_windows = self.steering.judge_file(video, context)
        if judged.embeddings:
            write_state(judged.embeddings, video.with_name(EMBEDDINGS))
        facts: dict[str, Any] = {"scores": judged.scores, "parts": judged.parts, **of_windows}
        if judged.scores:
            weights = self.steering.mix.weights
            facts["score"] = sum(weights[name] * score for name, score in judged.scores.items())
        return facts

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
        return _Read(
            self.pipeline.prepare(replace(self.setup.request(job), given=frames)),
            None if given is None else given.sha256,
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
