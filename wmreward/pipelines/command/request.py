"""From flags to what a pipeline of diffusers is asked for. All that can be found wrong before weights is."""

from __future__ import annotations

import hashlib
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
from wmreward.generation.inputs import opening_image
from wmreward.generation.job import precision
from wmreward.pipelines.command.economy import changing, economy_of
from wmreward.pipelines.command.flags import check_flags
from wmreward.pipelines.loading import FoundPipeline, find_pipeline
from wmreward.pipelines.seam import tell_plain
from wmreward.rewards.choice import RewardChoice
from wmreward.rewards.world import SeamReward

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
        call: What the pipeline is called with, but seed and image.
        given: The image, uint8 ``[1, H, W, 3]``, or None.
    """

    prompt: str
    call: Mapping[str, Any]
    given: Tensor | None = None

    @property
    def given_sha256(self) -> str | None:
        """Of the image."""
        if self.given is None:
            return None
        content = repr(tuple(self.given.shape)).encode() + self.given.numpy().tobytes()
        return hashlib.sha256(content).hexdigest()


@dataclass(frozen=True, kw_only=True)
class PipelineChoice:
    """A pipeline and how it runs: what all videos of a run have in common.

    Attributes:
        found: The pipeline.
        common: Arguments of every call.
        fps: Of the video files.
        device, dtype, offload: Where and how it runs.
        economy: What guidance gives up from the beginning: fields of `Economy`.
    """

    found: FoundPipeline
    common: Mapping[str, Any]
    fps: int
    device: str
    dtype: torch.dtype
    offload: bool
    economy: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, values: Values) -> PipelineChoice:
        """From flags.

        Raises:
            UsageError: flags that contradict each other or mean nothing to a pipeline.
            WMRewardError: no such pipeline, or no diffusers.
        """
        check_flags(values)
        device = find_device(values["device"])
        dtype = precision(values["dtype"])
        if dtype is None:
            dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
        found = find_pipeline(
            values["pipeline"], revision=values["pipeline_revision"], download=values["download"]
        )
        common = _common(values, found)
        rates = [common[name] for name in _RATES if name in common]
        fps = int(values["video_fps"] or (rates[0] if rates else found.family.fps))
        return cls(
            found=found,
            common=common,
            fps=fps,
            device=values["device"],
            dtype=dtype,
            offload=values["offload"],
            economy=economy_of(values["pipeline_economy"] or ()),
        )

    def request(self, prompt: str, negative_prompt: str, image: Path | None) -> PipelineRequest:
        """One video.

        Raises:
            UsageError: the pipeline needs an image and there is none, or the other way round.
            VideoError: the image cannot be read.
        """
        name = self.found.kind.__name__
        if image is None and self.found.family.needs_image:
            raise UsageError(f"{name} starts from an image: give --init_image")
        if image is not None and not self.found.family.needs_image:
            raise UsageError(
                f"{name} makes videos from text alone: leave out --init_image, or give a --pipeline that "
                "starts from an image"
            )
        call = {"prompt": prompt, **self.common}
        if negative_prompt:
            call["negative_prompt"] = negative_prompt
            _check_known(call, self.found)
        if image is None:
            return PipelineRequest(prompt, call)
        frames = np.ascontiguousarray(opening_image(image))[None]
        return PipelineRequest(prompt, call, torch.from_numpy(frames))

    @property
    def steps(self) -> int:
        """Of the scheduler."""
        steps = self.argument("num_inference_steps")
        if not isinstance(steps, int):
            raise WMRewardError(
                "this pipeline does not say how many steps it takes: give --num_steps"
            )
        return steps

    def argument(self, name: str) -> Any:
        """What the call has for it, given or by default."""
        return self.common.get(name, self.found.parameters[name].default)

    def check_frames(self, rewards: RewardChoice) -> None:
        """Raises ``UsageError`` where videos are known beforehand to be too short for the rewards."""
        frames, needed = self.argument("num_frames"), rewards.min_frames
        if isinstance(frames, int) and frames < needed:
            raise UsageError(
                f"the video has {frames} frames, but the reward needs {needed}: raise --num_frames, or lower "
                "--window_size"
            )

    def tell_plain(self, rewards: RewardChoice) -> None:
        """Say that the reward ``seam`` is plain surprise: of a pipeline an image is given at most."""
        given, needed = int(self.found.family.needs_image), rewards.config.context_frames
        if SeamReward.name in rewards.weights and given < needed:
            tell_plain(self.found.kind.__name__, given, needed)

    def settings(self, *, guided: bool) -> dict[str, Any]:
        """All that decides what any video shows, weights included; of a run that guides, or does not."""
        economy = changing(self.economy) if guided else {}
        return {
            **({"economy": economy} if economy else {}),
            "pipeline": {"class": self.found.kind.__name__, "files": self.found.fingerprint},
            "diffusers": metadata.version("diffusers"),
            "call": dict(self.common),
            "dtype": str(self.dtype),
        }


def _common(values: Values, found: FoundPipeline) -> dict[str, Any]:
    """What was asked for, in the pipeline's own names; its defaults are left to it."""
    call = {name: values[flag] for flag, name in _FLAGS.items() if values[flag] is not None}
    if values["video_fps"] is not None:
        call |= {name: values["video_fps"] for name in _RATES if name in found.parameters}
    for entry in values["pipeline_call"] or ():
        name, equals, word = entry.partition("=")
        if not equals or name in _OURS:
            raise UsageError(f"--pipeline_call {entry} must be NAME=VALUE with a name of its own")
        call[name] = _value(word)
    _check_known(call, found)
    return call


def _check_known(call: Mapping[str, Any], found: FoundPipeline) -> None:
    if unknown := sorted(call.keys() - found.parameters.keys()):
        raise UsageError(f"{found.kind.__name__} does not take {', '.join(unknown)}")


def _value(word: str) -> Any:
    """A number, true, false, null, a list; else the word itself."""
    try:
        return parse_json(word)
    except JSONError:
        return word
