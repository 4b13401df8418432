"""From flags to what a run with a diffusers pipeline needs: `wmreward generate --pipeline`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from wmreward.commands.flags import Values
from wmreward.generation.asked import check_asked
from wmreward.generation.output import Output
from wmreward.generation.search.compared import other_judge
from wmreward.generation.search.plan import Candidates, SearchPlan, check_rewards
from wmreward.generation.steering import Steering, steering_of
from wmreward.pipelines.command.request import PipelineChoice, PipelineRequest


@dataclass(frozen=True, kw_only=True)
class PipelineJob:
    """One run of the command line with a pipeline; see `wmreward.generation.job.Job`.

    Attributes:
        choice: The pipeline, and how it runs.
    """

    choice: PipelineChoice
    request: PipelineRequest
    seed: int
    output: Output
    plot: bool
    as_json: bool
    steering: Steering
    search: SearchPlan | None

    @property
    def device(self) -> str:
        return self.choice.device


def job_from(values: Values) -> PipelineJob:
    """Check everything that needs no weights, the cheapest first.

    Raises:
        UsageError: flags that contradict each other or mean nothing to a pipeline.
        WMRewardError: something that is missing or cannot be written.
    """
    candidates = Candidates.of(values, values["seed"] or 0)
    searches = candidates.searches
    choice = PipelineChoice.of(values)
    choice.check_room()
    image = Path(values["init_image"]) if values["init_image"] else None
    request = choice.request(values["prompt"], values["negative_prompt"], image)
    steering = steering_of(values, choice.steps, default_model="vitg", judges=searches)
    check_asked(values, choice.steps, "vitg")
    choice.found.check_weights()
    judge = other_judge(values, steering.rewards)
    for rewards in filter(None, (steering.rewards, judge)):
        choice.tell_plain(rewards)
        choice.check_frames(rewards)
        check_rewards(rewards, needed=searches)
    settings = choice.settings(guided=steering.guidance is not None) | {
        "call": dict(request.call),
        "given_sha256": request.given_sha256,
        **steering.settings(),
    }
    search, output = candidates.planned(settings, steering.rewards, judge)
    return PipelineJob(
        choice=choice,
        request=request,
        seed=candidates.seeds[0],
        output=output,
        plot=values["plot"],
        as_json=values["json"],
        steering=steering,
        search=search,
    )
