"""What a run with MAGI-1 would take (`--plan`): counts what the run does, and refuses what that refuses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from magi1.config import MagiConfig
from magi1.files.checkpoint import read_vae_config
from magi1.files.folders import find_vae
from magi1.pipeline import MAX_PREFIX_FRAMES
from magi1.planning.plan import RELEASED_VAE, plan
from wmreward.generation.job import check_frames, check_vae, context_of, given_of, prefix_of
from wmreward.generation.search.compared import other_judge
from wmreward.generation.search.plan import Candidates
from wmreward.generation.steering import steering_from
from wmweights import WeightsError

_NOT_COUNTED = """
not counted             guidance: decoding, the world model and their gradients at every guided step;
                        --guidance_scale 0 goes without"""
_USUALLY_GIVEN = {"t2v": 0, "i2v": 1, "v2v": MAX_PREFIX_FRAMES}
"""Frames, where nothing is given for a plan to look at."""


def plan_table(config: MagiConfig, values: Mapping[str, Any]) -> str:
    """What the run would take, as a table or as JSON; loads no weights.

    Raises:
        UsageError, VideoError: see `wmreward.generation.job.job_from`.
    """
    try:
        vae = read_vae_config(find_vae(config).folder)
    except WeightsError:  # not there yet: count with the released one
        vae = RELEASED_VAE
    check_vae(vae, config.runtime_config)
    candidates = Candidates.of(values, config.runtime_config.seed)
    steering = steering_from(values, config, judges=candidates.searches)
    judge = other_judge(values, steering.rewards)
    found = given_of(config, values)
    given = None if found is None else found.frames
    if given is None and (usual := _USUALLY_GIVEN[values["mode"]]):
        given = torch.zeros(usual, 1, 1, 3, dtype=torch.uint8)
    context = context_of(given, steering.rewards, config)
    for rewards in filter(None, (steering.rewards, judge)):
        check_frames(config, given, context, rewards)
    counted = plan(
        config,
        values["mode"],
        world_size=config.engine_config.cp_size,
        offload=values["offload"],
        vae=vae,
        prefix=prefix_of(given),
        videos=candidates.videos(steering),
        at_once=candidates.at_once,
        released=values["compat"] == "released",
    )
    if values["json"]:
        return counted.to_json()
    return counted.table() + (_NOT_COUNTED if steering.guidance is not None else "")
