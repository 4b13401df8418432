"""Whole job lists with a pipeline of diffusers: `wmreward batch --pipeline`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from wmfiles.amounts import counted
from wmreward.batch.candidates import Candidate
from wmreward.commands.flags import Values
from wmreward.errors import UsageError
from wmreward.generation.batch.judge import BatchRewards
from wmreward.generation.batch.making import VIDEO, facts_of, failing
from wmreward.generation.batch.wanted import Wanted, listed
from wmreward.generation.foreign import foreign
from wmreward.generation.output import Output
from wmreward.generation.steering import steering_of
from wmreward.generation.workshop import Place
from wmreward.pipelines.command.request import PipelineChoice, PipelineRequest
from wmreward.pipelines.command.workshop import WorkingPipeline
from wmreward.prompts.jobs import BatchJob


@dataclass(frozen=True, kw_only=True)
class PipelineBatch(Wanted):
    """What a run with a pipeline is to do.

    Attributes:
        choice: The pipeline, and how it runs.
    """

    choice: PipelineChoice

    @classmethod
    def of(cls, values: Values) -> PipelineBatch:
        """Read flags and list; only the pipeline's configuration needs to be there.

        Raises:
            UsageError, WMRewardError: flags, a list or a pipeline that are wrong.
        """
        choice = PipelineChoice.of(values)
        # A list has no mode of its own: it is guided only if a scale was given.
        steering = steering_of(
            {**values, "mode": None},
            choice.steps,
            default_model="vitg",
            judges=not values["no_scores"],
        )
        return cls(choice=choice, **listed(values, steering))

    @cached_property
    def settings(self) -> dict[str, Any]:
        common = self.choice.settings(guided=self.steering.guidance is not None)
        return {**common, **self.steering.settings(), **self.judged_by}

    def check(self) -> list[str]:
        self.choice.check_room()
        self.choice.found.check_weights()
        name = self.choice.found.kind.__name__
        mode = "i2v" if self.choice.found.family.needs_image else "t2v"
        starts = "an image" if mode == "i2v" else "text alone"
        for job in self.jobs:
            if job.mode != mode:
                raise UsageError(
                    f"{self.values['jobs']}: job {job.id} has mode {job.mode}, but {name} makes videos from "
                    f"{starts} ({mode})"
                )
        if self.steering.rewards is not None:
            self.choice.tell_plain(self.steering.rewards)
            self.choice.check_frames(self.steering.rewards)
        self.check_files()
        return foreign(name, self.steering.rewards)

    def table(self, processes: int) -> str:
        rows = {
            "jobs": f"{len(self.jobs)}",
            "candidates": f"{len(self.candidates)} ({', '.join(self.variants)})",
            "pipeline": f"{self.choice.found.name}, {self.choice.found.kind.__name__}",
            "GPUs": f"{processes}: {counted(processes, 'video')} at a time",
        }
        return "\n".join(f"{name:<12}{value}" for name, value in rows.items())

    def maker(self, place: Place) -> PipelineMaker:
        return PipelineMaker(self, place)


class PipelineMaker:
    """A `wmreward.batch.candidates.Maker`: one of the processes, each of which makes videos of its own.

    Args:
        wanted: What is to be made.
        place: This process.
    """

    def __init__(self, wanted: PipelineBatch, place: Place) -> None:
        self.wanted = wanted
        self.rewards: BatchRewards | None = None
        if wanted.steering.rewards is not None:
            self.rewards = BatchRewards(wanted.steering.rewards, place.device)
            self.rewards.load()  # what is wrong with their weights shows before anything is sampled
        self.pipeline = WorkingPipeline(wanted.choice, place.device, shown=False)
        _ = self.pipeline.pipe

    def __call__(self, candidate: Candidate, folder: Path) -> dict[str, Any]:
        with failing():
            request = self._request(candidate.job)
            output = Output(folder / VIDEO, self._settings(candidate, request))
            # A process that died while it judged has left the video.
            record = output.record() or self._made(candidate, request, output)
            facts = facts_of(record, request.given_sha256)
            if self.rewards is not None and not self.wanted.values["no_scores"]:
                facts |= self.rewards.verdict(output.path, candidate.job.prompt)
            return facts

    def _made(
        self, candidate: Candidate, request: PipelineRequest, output: Output
    ) -> dict[str, Any]:
        guided = candidate.variant == "guided"
        guidance = self.wanted.steering.guidance if guided else None
        return self.pipeline.make(request, candidate.seed, output, guidance, self.rewards)

    def _request(self, job: BatchJob) -> PipelineRequest:
        return self.wanted.choice.request(job.prompt, job.negative_prompt, job.init_image)

    def _settings(self, candidate: Candidate, request: PipelineRequest) -> dict[str, Any]:
        """All that decides this video."""
        return {
            **self.wanted.settings,
            "call": dict(request.call),
            "given_sha256": request.given_sha256,
            "variant": candidate.variant,
            "seed": candidate.seed,
        }
