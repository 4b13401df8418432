"""Makes the candidates of a batch with MAGI-1, whose networks stay loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from generation.batch_setup import Setup
from generation.candidate import Making, make_candidate
from generation.inputs import given_frames
from generation.output import Output
from generation.steering import LoadedSteering
from magi1.errors import MagiError
from magi1.parallel.context import parallelise, share_tiles
from magi1.parallel.groups import Place
from magi1.pipeline import Pipeline, Prepared, Request
from weightfiles import WeightsError, write_state
from wmreward.batch import Candidate
from wmreward.batch.candidates import Unfit
from wmreward.errors import WMRewardError
from wmreward.jobs import BatchJob
from wmreward.rewards import Judged
from wmreward.search import FileJudge

VIDEO, EMBEDDINGS = "video.mp4", "embeddings.safetensors"
_REMEMBERED = 8
_FROM_RECORD = ("frames", "fps", "size", "resumed", "device", "processes", "peak_memory_bytes")


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
        )
        parallelise(self.pipeline.dit, place.group)
        self.pipeline.tile_map = share_tiles(place.group)
        self.steering: LoadedSteering | None = None
        if setup.steering.rewards is not None:
            self.steering = LoadedSteering(setup.steering, self.pipeline, alone=place.group is None)
        self._prepared: dict[str, tuple[Prepared, str | None]] = {}

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
        prepared, given = self._prepare(candidate.job)
        guided = candidate.variant == "guided"
        guidance = self.steering.guidance() if self.steering and guided else None
        writes = self.place.rank == 0
        record = make_candidate(
            self.pipeline,
            prepared,
            Output(folder / VIDEO, self._settings(candidate, given)),
            seed=candidate.seed,
            guidance=guidance,
            making=Making(
                released=self.setup.released,
                writes=writes,
                processes=self.setup.processes_per_video,
            ),
        )
        facts: dict[str, Any] = {
            "video": VIDEO,
            "given_sha256": given,
            **{name: record[name] for name in _FROM_RECORD},
        }
        if "guidance" in record:
            facts["guidance"] = {name: record["guidance"][name] for name in ("summary", "effect")}
        if writes and self.steering is not None and not self.setup.values["no_scores"]:
            facts |= self._judge(self.steering, folder)
        return facts

    def _judge(self, steering: LoadedSteering, folder: Path) -> dict[str, Any]:
        judged: Judged = FileJudge(steering.mix, self.pipeline.device)(folder / VIDEO)
        if judged.embeddings:
            write_state(judged.embeddings, folder / EMBEDDINGS)
        facts: dict[str, Any] = {"scores": judged.scores, "parts": judged.parts}
        if judged.scores:
            weights = steering.mix.weights
            facts["score"] = sum(weights[name] * score for name, score in judged.scores.items())
        return facts

    def _prepare(self, job: BatchJob) -> tuple[Prepared, str | None]:
        """Text and given frames as the sampler takes them, and the hash of those frames."""
        if job.id not in self._prepared:
            while len(self._prepared) >= _REMEMBERED:
                del self._prepared[next(iter(self._prepared))]
            runtime = self.setup.config.runtime_config
            size = (runtime.video_size_h, runtime.video_size_w)
            image = str(job.init_image) if job.init_image else None
            video = str(job.init_video) if job.init_video else None
            given = given_frames(image, video, size, runtime.fps)
            request = Request(
                prompt=job.prompt,
                negative_prompt=job.negative_prompt,
                given=None if given is None else given.frames,
                tokens=self.setup.tokens,
            )
            sha256 = None if given is None else given.sha256
            self._prepared[job.id] = self.pipeline.prepare(request), sha256
        return self._prepared[job.id]

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
