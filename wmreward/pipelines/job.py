"""From flags to what a run with a diffusers pipeline needs. All that can be found wrong before weights is."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wmfiles import JSONError, parse_json
from wmreward.commands.flags import Values
from wmreward.devices import find_device
from wmreward.errors import UsageError, WMRewardError
from wmreward.generation.job import (
    SearchPlan,
    check_rewards,
    check_search,
    kept,
    precision,
    seeds_of,
)
from wmreward.generation.output import Output
from wmreward.generation.steering import Steering, steering_of
from wmreward.pipelines.loading import FoundPipeline, find_pipeline
from wmreward.video.images import read_image

_OTHER_GENERATORS = (
    *("config_file", "init_video", "chunks_at_once", "text_scales", "prev_chunk_scales"),
    *("special_tokens", "compat", "preview", "save_latents", "plan", "cp_size", "kernels"),
    *("particle_beta", "particle_every", "particle_range", "particle_threshold", "particle_churn"),
)
"""Flags of `wmreward generate` that mean something to MAGI-1 only."""

_FLAGS = {
    "num_steps": "num_inference_steps",
    "num_frames": "num_frames",
    "video_size_h": "height",
    "video_size_w": "width",
}
"""Flags, and the argument of the pipeline's call that each one is."""

_RATES = ("frame_rate", "fps")
"""Names that pipelines have for the frames per second that they make."""

_OURS = frozenset(
    {*_FLAGS.values(), "prompt", "negative_prompt", "image", "generator", "output_type", "latents"}
    | {"return_dict", "num_videos_per_prompt", "callback_on_step_end"}
)
"""Arguments that ``--pipeline_call`` cannot set."""


@dataclass(frozen=True)
class PipelineRequest:
    """What is asked for.

    Attributes:
        prompt: What the video shows.
        given: The image, uint8 ``[1, H, W, 3]``, or None.
    """

    prompt: str
    given: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class PipelineJob:
    """One run of the command line with a pipeline; see `wmreward.generation.job.Job`.

    Attributes:
        found: The pipeline.
        call: What it is called with, but seed and image.
        fps: Of the video file.
    """

    found: FoundPipeline
    request: PipelineRequest
    call: Mapping[str, Any]
    fps: int
    seed: int
    output: Output
    device: str
    dtype: torch.dtype
    offload: bool
    plot: bool
    as_json: bool
    steering: Steering
    search: SearchPlan | None = field(default=None)


def job_from(values: Values) -> PipelineJob:
    """Check everything that needs no weights, the cheapest first.

    Raises:
        UsageError: flags that contradict each other or mean nothing to a pipeline.
        WMRewardError: something that is missing or cannot be written.
    """
    _check_flags(values)
    device = find_device(values["device"])
    seeds = seeds_of(values, values["seed"] or 0)
    searches = len(seeds) > 1 or bool(values["reward"]) or values["compare"]
    check_search(values, searches)
    found = find_pipeline(
        values["pipeline"], revision=values["pipeline_revision"], download=values["download"]
    )
    parameters = inspect.signature(found.kind.__call__).parameters
    call = _call(values, found, parameters)
    request = PipelineRequest(values["prompt"], _image(values, found))
    steps = _steps(call, parameters)
    steering = steering_of(
        values, steps, default_model="vitg", judges=searches, measures=not searches
    )
    if steering.rewards is not None:
        _check_frames(call, parameters, steering)
        check_rewards(steering.rewards, needed=searches)
    dtype = precision(values["dtype"])
    if dtype is None:
        dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    settings = {
        "pipeline": {"class": found.kind.__name__, "files": found.fingerprint},
        "diffusers": metadata.version("diffusers"),
        "call": call,
        "given_sha256": _sha256(request.given),
        "dtype": str(dtype),
        **steering.settings(),
    }
    search = None
    if searches:
        search = SearchPlan(
            seeds=seeds,
            batch=1,
            keep=kept(values["keep"]),
            compare=values["compare"],
            settings=settings,
            context=None,
        )
        assert steering.rewards is not None
        chosen = {"rewards": steering.rewards.settings(), "combine": steering.rewards.how}
        settings = settings | {"search": {"seeds": list(seeds), **chosen}}
    else:
        settings = settings | {"seed": seeds[0]}
    output = Output.check(
        values["output"],
        overwrite=values["overwrite"],
        settings=settings,
        search=None if search is None else search.candidates_id,
    )
    return PipelineJob(
        found=found,
        request=request,
        call=call,
        fps=_rate(values, found, call),
        seed=seeds[0],
        output=output,
        dtype=dtype,
        as_json=values["json"],
        steering=steering,
        search=search,
        **{name: values[name] for name in ("device", "offload", "plot")},
    )


def _check_flags(values: Values) -> None:
    for name in _OTHER_GENERATORS:
        if name in values.given:
            raise UsageError(f"--{name} has no meaning with --pipeline: leave it out")
    if values["search"] == "particles":
        raise UsageError("--search particles has no meaning with --pipeline: use --best_of")
    if values["guidance_through"] != "x0":
        raise UsageError("--guidance_through dit cannot be had with --pipeline: use x0")
    if values["candidate_batch"] != 1:
        raise UsageError(
            "--candidate_batch has no meaning with --pipeline: candidates come one by one"
        )
    if not values["prompt"].strip():
        raise UsageError("--pipeline needs a --prompt")


def _call(
    values: Values, found: FoundPipeline, parameters: Mapping[str, inspect.Parameter]
) -> dict[str, Any]:
    """What was asked for, in the pipeline's own names; its defaults are left to it."""
    call: dict[str, Any] = {"prompt": values["prompt"]}
    if values["negative_prompt"]:
        call["negative_prompt"] = values["negative_prompt"]
    call |= {name: values[flag] for flag, name in _FLAGS.items() if values[flag] is not None}
    if values["video_fps"] is not None:
        call |= {name: values["video_fps"] for name in _RATES if name in parameters}
    for entry in values["pipeline_call"] or ():
        name, equals, word = entry.partition("=")
        if not equals or name in _OURS:
            raise UsageError(f"--pipeline_call {entry} must be NAME=VALUE with a name of its own")
        call[name] = _value(word)
    if unknown := sorted(call.keys() - parameters.keys()):
        raise UsageError(f"{found.kind.__name__} does not take {', '.join(unknown)}")
    return call


def _value(word: str) -> Any:
    """A number, true, false, null, a list; else the word itself."""
    try:
        return parse_json(word)
    except JSONError:
        return word


def _image(values: Values, found: FoundPipeline) -> Tensor | None:
    name = found.kind.__name__
    if not values["init_image"]:
        if found.family.needs_image:
            raise UsageError(f"{name} starts from an image: give --init_image")
        return None
    if not found.family.needs_image:
        raise UsageError(
            f"{name} makes videos from text alone: leave out --init_image, or give a --pipeline that starts "
            "from an image"
        )
    return torch.from_numpy(np.ascontiguousarray(read_image(Path(values["init_image"]))))[None]


def _sha256(given: Tensor | None) -> str | None:
    if given is None:
        return None
    content = repr(tuple(given.shape)).encode() + given.numpy().tobytes()
    return hashlib.sha256(content).hexdigest()


def _steps(call: Mapping[str, Any], parameters: Mapping[str, inspect.Parameter]) -> int:
    found = call.get("num_inference_steps", parameters["num_inference_steps"].default)
    if not isinstance(found, int):
        raise WMRewardError("this pipeline does not say how many steps it takes: give --num_steps")
    return found


def _check_frames(
    call: Mapping[str, Any], parameters: Mapping[str, inspect.Parameter], steering: Steering
) -> None:
    """Where the number of frames is known beforehand."""
    frames = call.get("num_frames", parameters["num_frames"].default)
    assert steering.rewards is not None
    needed = steering.rewards.min_frames
    if isinstance(frames, int) and frames < needed:
        raise UsageError(
            f"the video has {frames} frames, but the reward needs {needed}: raise --num_frames, or lower "
            "--window_size"
        )


def _rate(values: Values, found: FoundPipeline, call: Mapping[str, Any]) -> int:
    """Frames per second of the file."""
    asked = [call[name] for name in _RATES if name in call]
    return int(values["video_fps"] or (asked[0] if asked else found.family.fps))
