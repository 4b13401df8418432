"""What a batch with any generator takes from its flags: jobs, variants, what judges, the run's folder."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from magi1.config import EngineConfig
from magi1.parallel.groups import Place
from wmreward.batch.candidates import Candidate, Maker, candidates_of
from wmreward.batch.folder import RunFolder
from wmreward.batch.processes.share import Share
from wmreward.errors import WMRewardError
from wmreward.files import user_path
from wmreward.generation.batch.early import variants_of
from wmreward.generation.run import ALONE
from wmreward.generation.steering import Steering
from wmreward.prompts.cli import problems_with
from wmreward.prompts.jobs import BatchJob, read_jobs

GUIDED_COST = 2.0
"""Time of a guided candidate relative to a plain one, for the order and the estimate."""


@dataclass(frozen=True, kw_only=True)
class Wanted(ABC):
    """What a run is to do, with nothing loaded.

    Attributes:
        values: All flags.
        jobs: Of the list.
        variants: How each is made.
        steering: Guidance, and the rewards that judge.
        share: The part of the run that is worked on.
    """

    values: Mapping[str, Any]
    jobs: list[BatchJob]
    variants: tuple[str, ...]
    steering: Steering
    share: Share

    # --- of the generator -------------------------------------------------------------------------------

    @property
    def engine(self) -> EngineConfig:
        """How processes share a video; usually each makes its own."""
        return ALONE

    @property
    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """All that decides what candidates look like and how they are judged, beside jobs and seeds."""

    @abstractmethod
    def check(self) -> list[str]:
        """Look for everything that candidates will need; returns notes for people.

        Raises:
            UsageError, WMRewardError: weights, packages or files that are not there.
        """

    @abstractmethod
    def table(self, processes: int) -> str:
        """What the run would take on so many processes, for people."""

    @abstractmethod
    def maker(self, place: Place) -> Maker:
        """Loads what makes candidates."""

    def cost(self, candidate: Candidate) -> float:
        """How long it takes, in any unit."""
        return GUIDED_COST if candidate.variant == "guided" else 1.0

    # --- of all -----------------------------------------------------------------------------------------

    @property
    def processes_per_video(self) -> int:
        return self.engine.cp_size

    @property
    def candidates(self) -> list[Candidate]:
        """Those of this share."""
        return self.share.deal(candidates_of(self.jobs, self.variants))

    @property
    def judged_by(self) -> dict[str, Any]:
        """The part of the settings that says what judges; empty where nothing does."""
        rewards = self.steering.rewards
        if self.values["no_scores"] or rewards is None:
            return {}
        return {"judged_by": {**rewards.settings(), "combine": rewards.how}}

    def check_files(self) -> None:
        """Weights of the rewards, and images and videos of the list."""
        if self.steering.rewards is not None:
            self.steering.rewards.check_weights()
        files = [job.given for job in self.jobs if job.given]
        if problems := problems_with(files, full=False):
            raise WMRewardError(
                f"{problems[0]} ({len(problems)} of {len(files)} files of {self.values['jobs']}; "
                "wmreward prompts check lists all)"
            )

    @property
    def outputs(self) -> Path:
        """Folder of the run's folder."""
        run = self.values["run"]
        return user_path(run).parent if run else user_path(self.values["runs"])

    def folder(self) -> RunFolder:
        """Where the run is; reads the ends of the weights' files."""
        if self.values["run"]:
            return RunFolder(user_path(self.values["run"]), self.settings, self.share)
        name = Path(self.values["jobs"]).stem
        return RunFolder.named(self.outputs, name, self.settings, self.share)


def listed(values: Mapping[str, Any], steering: Steering) -> dict[str, Any]:
    """What the flags say of a run, as `Wanted` takes it.

    Raises:
        UsageError: flags or a list that are wrong.
    """
    variants = variants_of(values, guides=steering.guidance is not None)
    jobs = read_jobs(user_path(values["jobs"]))
    if (most := values["max_seeds"]) is not None:
        jobs = [replace(job, seeds=job.seeds[:most]) for job in jobs]
    if steering.rewards is not None:
        for job in jobs:
            steering.rewards.check_prompt(job.prompt, of=f"job {job.id}")
    return {
        "values": values,
        "jobs": jobs,
        "variants": variants,
        "steering": steering,
        "share": Share.parse(values["share"]),
    }
