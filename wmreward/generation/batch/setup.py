"""From flags and a job list to a run. All that can be found wrong without loading weights is found here."""

from __future__ import annotations

import heapq
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from magi1.config import EngineConfig, MagiConfig
from magi1.files.checkpoint import read_vae_config
from magi1.files.folders import find_vae
from magi1.parallel.groups import Place
from magi1.pipeline import Request, cut_prompts
from magi1.planning.plan import RELEASED_VAE, Mode, Plan, plan
from magi1.text.chunk_texts import SpecialTokens, load_token_vectors
from magi1.text.reader import CutPrompt
from magi1.transformer.kernels import find_kernels
from wmfiles.amounts import BYTES, LONG, amount, counted
from wmreward.batch.candidates import Candidate, Maker
from wmreward.devices import find_device, slow_to_compile
from wmreward.errors import UsageError
from wmreward.generation.batch.wanted import Wanted, listed
from wmreward.generation.configured import configuration
from wmreward.generation.foreign import foreign
from wmreward.generation.job import check_parts, precision
from wmreward.generation.output import settings_of
from wmreward.generation.room import check_room
from wmreward.generation.steering import steering_from
from wmreward.prompts.jobs import BatchJob
from wmweights import WeightsError


@dataclass(frozen=True, kw_only=True)
class Setup(Wanted):
    """What a run with MAGI-1 is to do.

    Attributes:
        config: The generator's configuration, flags applied.
        tokens: Special tokens before the text.
        special_tokens: The file with their vectors.
    """

    config: MagiConfig
    tokens: SpecialTokens
    special_tokens: str

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Setup:
        """Read flags and list; no weights need to be there.

        Raises:
            UsageError, MagiUsageError: flags or a list that are wrong.
        """
        config = configuration(values)
        # A list has no mode of its own: it is guided only if a scale was given.
        steering = steering_from({**values, "mode": None}, config, judges=not values["no_scores"])
        return cls(
            config=config,
            tokens=SpecialTokens.from_environment(),
            special_tokens=values["special_tokens"] or os.environ.get("SPECIAL_TOKEN_PATH", ""),
            **listed(values, steering),
        )

    @property
    def dtype(self) -> torch.dtype | None:
        """Of the transformer's layers; None: the configuration's."""
        return precision(self.values["dtype"])

    @property
    def released(self) -> bool:
        return bool(self.values["compat"] == "released")

    @property
    def engine(self) -> EngineConfig:
        return self.config.engine_config

    def check(self) -> list[str]:
        """Also tells of prompts that the text encoder does not read to their ends, and of foreign judges."""
        find_device(self.values["device"])
        find_kernels(self.values["kernels"])
        check_room(self.config, 1)
        load_token_vectors(self.special_tokens or "special_tokens.npz", self.tokens)
        reader = check_parts(self.config, self.dtype, self.texts, self.outputs)
        self.check_files()
        cut: dict[str, CutPrompt] = {}
        for job in self.jobs:
            if found := cut_prompts(reader, self.request(job)):
                cut[job.id] = found[0]
        notes = slow_to_compile(self.values["compile"], self.values["device"])
        notes += foreign(self.config.model_config.model_name, self.steering.rewards)
        if cut:
            name, first = next(iter(cut.items()))
            notes.append(f"job {name}: {first} ({len(cut)} such prompts in the list)")
        return notes

    def request(self, job: BatchJob) -> Request:
        """What a job asks for, without the frames that it gives."""
        return Request(prompt=job.prompt, negative_prompt=job.negative_prompt, tokens=self.tokens)

    @property
    def texts(self) -> list[str]:
        """All that the text encoder is to read, each once."""
        return list(dict.fromkeys(text for job in self.jobs for text in self.request(job).texts))

    def maker(self, place: Place) -> Maker:
        from wmreward.generation.batch.maker import MagiMaker

        return MagiMaker(self, place)

    @cached_property
    def settings(self) -> dict[str, Any]:
        return settings_of(self.config) | {
            "dtype": str(self.dtype or self.config.model_config.dtype),
            "compat": self.values["compat"],
            "special_tokens": [name for name, on in vars(self.tokens).items() if on],
            **self.steering.settings(),
            **self.judged_by,
        }

    # --- estimates --------------------------------------------------------------------------------------

    def cost(self, candidate: Candidate) -> float:
        """Estimated seconds of the processes that share it."""
        return self.plans[candidate.job.mode].seconds() * super().cost(candidate)

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
        groups, rest = divmod(processes, self.processes_per_video)
        if rest or not groups:
            raise UsageError(
                f"{processes} processes are not a multiple of the {self.processes_per_video} that share "
                "a video"
            )
        candidates = self.candidates
        memory = max(sum(plan.memory.values()) for plan in self.plans.values())
        seconds = until_the_last(map(self.cost, candidates), groups)
        rows = {
            "jobs": f"{len(self.jobs)} ({', '.join(self.plans)})",
            "candidates": f"{len(candidates)} ({', '.join(self.variants)})",
            "model": next(iter(self.plans.values())).model,
            "GPUs": f"{processes}: {counted(groups, 'video')} at a time, "
            f"{counted(self.processes_per_video, 'GPU')} each",
            "memory": f"{amount(memory, BYTES, '.1f')} per GPU, without guidance and rewards",
            "time": f"{amount(seconds, LONG, '.1f')} at 0.40 PFLOP/s per GPU (a CPU takes far longer)",
        }
        return "\n".join(f"{name:<12}{value}" for name, value in rows.items())


def until_the_last(costs: Iterable[float], groups: int) -> float:
    """Seconds until all is made: as in a run, whoever is free takes what is longest. No video is shared by
    groups, so that more of them than videos help nobody.
    """
    longest_first = sorted(costs, reverse=True)
    ends = [0.0] * min(groups, len(longest_first))
    for cost in longest_first:
        heapq.heapreplace(ends, ends[0] + cost)
    return max(ends, default=0.0)
