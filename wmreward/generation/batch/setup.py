"""From flags and a job list to a run. All that can be found wrong without loading weights is found here."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from magi1.checkpoint import read_vae_config
from magi1.config import MagiConfig
from magi1.folders import find_vae
from magi1.kernels import find_kernels
from magi1.pipeline import Request, cut_prompts
from magi1.plan import RELEASED_VAE, Mode, Plan, plan
from magi1.prompt_reader import CutPrompt
from magi1.prompt_tokens import SpecialTokens, load_token_vectors
from wmreward.batch.candidates import Candidate, candidates_of
from wmreward.batch.folder import RunFolder
from wmreward.batch.share import Share
from wmreward.devices import find_device
from wmreward.errors import UsageError, WMRewardError
from wmreward.files import user_path
from wmreward.generation.job import check_parts, configuration, precision
from wmreward.generation.output import settings_of
from wmreward.generation.steering import Steering, steering_from
from wmreward.prompts.cli import problems_with
from wmreward.prompts.jobs import BatchJob, read_jobs
from wmweights import WeightsError

GUIDED_COST = 2.0
"""Time of a guided candidate relative to a plain one, for the order and the estimate."""
GIB = 2**30


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What a run is to do, with nothing loaded.

    Attributes:
        values: All flags.
        config: The generator's configuration, flags applied.
        jobs: Of the list.
        variants: How each is made.
        steering: Guidance, and the rewards that judge.
        tokens: Special tokens before the text.
        special_tokens: The file with their vectors.
        share: The part of the run that is worked on.
    """

    values: Mapping[str, Any]
    config: MagiConfig
    jobs: list[BatchJob]
    variants: tuple[str, ...]
    steering: Steering
    tokens: SpecialTokens
    special_tokens: str
    share: Share

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Setup:
        """Read flags and list; no weights need to be there.

        Raises:
            UsageError, MagiUsageError: flags or a list that are wrong.
        """
        config = configuration(values)
        # A list has no mode of its own: it is guided only if a scale was given.
        steering = steering_from({**values, "mode": None}, config, judges=not values["no_scores"])
        guides = steering.guidance is not None
        variants = tuple(dict.fromkeys(values["variants"] or ["guided" if guides else "plain"]))
        if "guided" in variants and not guides:
            raise UsageError("--variants guided needs a --guidance_scale")
        if variants == ("plain",) and guides:
            raise UsageError("--guidance_scale has no meaning with --variants plain alone")
        jobs = read_jobs(user_path(values["jobs"]))
        if (most := values["max_seeds"]) is not None:
            jobs = [replace(job, seeds=job.seeds[:most]) for job in jobs]
        return cls(
            values=values,
            config=config,
            jobs=jobs,
            variants=variants,
            steering=steering,
            tokens=SpecialTokens.from_environment(),
            special_tokens=values["special_tokens"] or os.environ.get("SPECIAL_TOKEN_PATH", ""),
            share=Share.parse(values["share"]),
        )

    @property
    def dtype(self) -> torch.dtype | None:
        """Of the transformer's layers; None: the configuration's."""
        return precision(self.values["dtype"])

    @property
    def released(self) -> bool:
        return bool(self.values["compat"] == "released")

    @property
    def processes_per_video(self) -> int:
        return self.config.engine_config.cp_size

    def check(self) -> dict[str, CutPrompt]:
        """Look for everything that candidates will need.

        Returns:
            Prompts that the text encoder does not read to their ends, by job.

        Raises:
            UsageError, WMRewardError: weights, packages or files that are not there.
        """
        find_device(self.values["device"])
        find_kernels(self.values["kernels"])
        load_token_vectors(self.special_tokens or "special_tokens.npz", self.tokens)
        reader = check_parts(self.config, self.dtype, self.texts, self.outputs)
        if self.steering.rewards is not None:
            self.steering.rewards.check_weights()
        files = [job.given for job in self.jobs if job.given]
        if problems := problems_with(files, full=False):
            raise WMRewardError(
                f"{problems[0]} ({len(problems)} of {len(files)} files of {self.values['jobs']}; "
                "wmreward prompts check lists all)"
            )
        cut: dict[str, CutPrompt] = {}
        for job in self.jobs:
            if found := cut_prompts(reader, self.request(job)):
                cut[job.id] = found[0]
        return cut

    def request(self, job: BatchJob) -> Request:
        """What a job asks for, without the frames that it gives."""
        return Request(prompt=job.prompt, negative_prompt=job.negative_prompt, tokens=self.tokens)

    @property
    def texts(self) -> list[str]:
        """All that the text encoder is to read, each once."""
        return list(dict.fromkeys(text for job in self.jobs for text in self.request(job).texts))

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

    @cached_property
    def settings(self) -> dict[str, Any]:
        """All that decides what candidates look like and how they are judged, beside jobs and seeds."""
        rewards = self.steering.rewards
        settings = settings_of(self.config) | {
            "dtype": str(self.dtype or self.config.model_config.dtype),
            "compat": self.values["compat"],
            "special_tokens": [name for name, on in vars(self.tokens).items() if on],
            **self.steering.settings(),
        }
        if not self.values["no_scores"] and rewards is not None:
            settings["judged_by"] = {**rewards.settings(), "combine": rewards.how}
        return settings

    # --- estimates --------------------------------------------------------------------------------------

    def cost(self, candidate: Candidate) -> float:
        """Estimated seconds of the processes that share it."""
        seconds = self.plans[candidate.job.mode].seconds()
        return seconds * (GUIDED_COST if candidate.variant == "guided" else 1.0)

    @cached_property
    def plans(self) -> dict[Mode, Plan]:
        """Of one plain candidate of each mode in the list."""
        try:
            vae = read_vae_config(find_vae(self.config).folder)
        except WeightsError:  # not there yet: count with the released one
            vae = RELEASED_VAE
        return {
            mode: plan(
                self.config,
                mode,
                world_size=self.processes_per_video,
                offload=self.values["offload"],
                vae=vae,
            )
            for mode in sorted({job.mode for job in self.jobs})
        }

    def table(self, processes: int) -> str:
        """What the run would take on so many processes, for people."""
        groups, rest = divmod(processes, self.processes_per_video)
        if rest or not groups:
            raise UsageError(
                f"{processes} processes are not a multiple of the {self.processes_per_video} that share "
                "a video"
            )
        candidates = self.share.deal(candidates_of(self.jobs, self.variants))
        memory = max(sum(plan.memory.values()) for plan in self.plans.values()) / GIB
        hours = sum(map(self.cost, candidates)) / groups / 3600
        rows = {
            "jobs": f"{len(self.jobs)} ({', '.join(self.plans)})",
            "candidates": f"{len(candidates)} ({', '.join(self.variants)})",
            "model": next(iter(self.plans.values())).model,
            "GPUs": f"{processes}: {groups} videos at a time, {self.processes_per_video} GPUs each",
            "memory": f"{memory:.1f} GiB per GPU, without guidance and rewards",
            "hours": f"{hours:.2f} at 0.40 PFLOP/s per GPU",
        }
        return "\n".join(f"{name:<12}{value}" for name, value in rows.items())
