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

from wmreward.commands.flags import Values
from wmreward.devices import find_device
from wmreward.errors import UsageError, WMRewardError
from wmreward.generation.inputs import opening_image
from wmreward.generation.job import precision
from wmreward.generation.room import refuse_unless_fits
from wmreward.pipelines.command.arguments import arguments_of
from wmreward.pipelines.command.economy import changing, economy_of
from wmreward.pipelines.command.flags import ARGUMENTS, check_flags
from wmreward.pipelines.loading import FoundPipeline, find_pipeline
from wmreward.pipelines.seam import tell_plain
from wmreward.rewards.choice import RewardChoice
from wmreward.rewards.world import SeamReward

_RATES = ("frame_rate", "fps")
"""Names that pipelines have for the frames per second that they make."""


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

    def check_room(self) -> None:
        """Raise ``UsageError`` for a video that no memory holds: as it is decoded, scaled and written."""
        sides = [self.argument(name) for name in ("num_frames", "height", "width")]
        if not all(isinstance(side, int) for side in sides):
            return
        frames, height, width = sides
        picture = height * width * 3 * (2 * 4 + 1)
        refuse_unless_fits(lambda count: count * picture, frames, 1, (height, width))

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
    call = {name: values[flag] for flag, name in ARGUMENTS.items() if values[flag] is not None}
    if values["video_fps"] is not None:
        call |= {name: values["video_fps"] for name in _RATES if name in found.parameters}
    asked = values["pipeline_call"] or ()
    _check_known({**call, **dict.fromkeys(entry.partition("=")[0] for entry in asked)}, found)
    call |= arguments_of(asked, found.kind, _RATES)
    _check_size(call, found)
    return call


def _check_size(call: Mapping[str, Any], found: FoundPipeline) -> None:
    """Raise ``UsageError`` for a size or a length that the pipeline does not make; it would say so after its
    weights are loaded, or make another.
    """
    kind, unit = found.kind.__name__, found.family.size_unit
    for flag in ("video_size_h", "video_size_w"):
        size = call.get(ARGUMENTS[flag])
        if size is not None and size % unit:
            below = size // unit * unit
            fit = f"{below} and {below + unit} fit" if below else f"{unit} fits"
            raise UsageError(f"--{flag} {size} must be a multiple of {unit} for {kind}; {fit}")
    frames = call.get(ARGUMENTS["num_frames"])
    if frames is None:
        return
    step = found.family.time_unit(found.configuration("vae"))
    near = found.family.fitting(frames, step)
    if near != (frames,):
        fit = " and ".join(map(str, near)) + (" fit" if len(near) > 1 else " fits")
        raise UsageError(
            f"--num_frames {frames} is no length of {kind}, which makes {step} frames at a time; {fit}"
        )


def _check_known(call: Mapping[str, Any], found: FoundPipeline) -> None:
    if unknown := sorted(call.keys() - found.parameters.keys()):
        raise UsageError(f"{found.kind.__name__} does not take {', '.join(unknown)}")
