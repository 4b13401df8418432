"""From flags to what a run needs. All that can be found wrong without loading weights is found here."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import gcd
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from magi1.config import MagiConfig, RuntimeConfig
from magi1.files.checkpoint import check_weights, read_vae_config
from magi1.files.folders import HOW_TO_GET, find_vae, missing_files
from magi1.pipeline import Request, cut_prompts, usable_frames
from magi1.planning.costs import frames_made
from magi1.sampling.schedule import VideoLayout
from magi1.text.chunk_texts import SpecialTokens, load_token_vectors
from magi1.text.features import FOLDER as TEXT_FOLDER
from magi1.text.features import PromptFeatures
from magi1.text.reader import CutPrompt, PromptReader
from magi1.tiling import Tiling
from magi1.transformer.kernels import find_kernels
from magi1.vae import VAEConfig
from wmreward.devices import find_device
from wmreward.errors import UsageError, WMRewardError
from wmreward.files import user_path
from wmreward.generation.asked import check_asked, usual_model
from wmreward.generation.early import check_mode
from wmreward.generation.inputs import LATENT_FRAMES, GivenFrames, given_frames, opens_output
from wmreward.generation.output import Output, settings_of
from wmreward.generation.room import check_room
from wmreward.generation.search.compared import other_judge
from wmreward.generation.search.plan import Candidates, SearchPlan, check_rewards
from wmreward.generation.steering import Steering, steering_from
from wmreward.rewards.choice import RewardChoice


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run of the command line.

    Attributes:
        config: The model's configuration, flags applied.
        mode: ``t2v``, ``i2v`` or ``v2v``.
        request: What to generate.
        cut: Prompts of it that the text encoder does not read to their ends.
        length: What will be written, see `told_length`.
        doubts: What is doubtful about the video that is continued, if anything.
        seed: Of the noise.
        output: Where it goes, and what is there already.
        device, dtype, offload, compile, kernels: How it runs; ``dtype`` None is the configuration's.
        special_tokens: The file with their vectors.
        released: Decode as the released code does.
        preview, save_latents, plot, as_json: What else is written.
        steering: Guidance, particles and rewards.
        search: Which candidates the output is chosen from; None where there is one only.
    """

    config: MagiConfig
    mode: str
    request: Request
    cut: tuple[CutPrompt, ...]
    length: str
    doubts: str
    seed: int
    output: Output
    device: str
    dtype: torch.dtype | None
    offload: bool
    compile: bool
    kernels: Any
    special_tokens: str
    released: bool
    preview: bool
    save_latents: bool
    plot: bool
    as_json: bool
    steering: Steering
    search: SearchPlan | None


def job_from(config: MagiConfig, values: Mapping[str, Any]) -> Job:
    """Check everything that needs no weights, the cheapest first.

    Raises:
        UsageError, MagiUsageError: flags that contradict each other, inputs that are not there or do not fit.
        WMRewardError: weights or packages that are missing, an output that cannot be written.
    """
    check_mode(values)
    check_asked(
        values, config.runtime_config.num_steps, usual_model(config.model_config.model_name)
    )
    find_device(values["device"])
    find_kernels(values["kernels"])
    candidates = Candidates.of(values, config.runtime_config.seed)
    searches = candidates.searches
    check_room(config, candidates.at_once)
    steering = steering_from(values, config, judges=searches)
    judge = other_judge(values, steering.rewards)
    dtype = precision(values["dtype"])
    tokens, special_tokens = _tokens(values)
    request = Request(
        prompt=values["prompt"], negative_prompt=values["negative_prompt"], tokens=tokens
    )
    reader = check_parts(config, dtype, request.texts, user_path(values["output"]).parent)
    given = given_of(config, values)
    if given is not None:
        request = replace(request, given=given.frames)
    context = context_of(request.given, steering.rewards, config)
    for rewards in filter(None, (steering.rewards, judge)):
        check_frames(config, request.given, context, rewards)
        check_rewards(rewards, needed=searches)
    settings = {
        "mode": values["mode"],
        "prompt": values["prompt"],
        "negative_prompt": values["negative_prompt"],
        "given_sha256": None if given is None else given.sha256,
        "special_tokens": [name for name, on in vars(tokens).items() if on],
        "dtype": str(dtype or config.model_config.dtype),
        "compat": values["compat"],
        **steering.settings(),
        **settings_of(config),
    }
    doubts = ""
    if given is not None and given.faults:
        settings["given_faults"] = given.faults.to_json()
        doubts = f"{values['init_video']}: {given.faults}"
    search, output = candidates.planned(settings, steering.rewards, judge, context)
    return Job(
        config=config,
        request=request,
        cut=cut_prompts(reader, request),
        length=told_length(config, request.given, values["num_frames"]),
        doubts=doubts,
        seed=candidates.seeds[0],
        output=output,
        dtype=dtype,
        special_tokens=special_tokens,
        released=values["compat"] == "released",
        as_json=values["json"],
        steering=steering,
        search=search,
        **{name: values[name] for name in _AS_GIVEN},
    )


_AS_GIVEN = ("mode", "device", "offload", "compile", "kernels", "preview", "save_latents", "plot")
"""Flags that a job has as they are."""


def precision(dtype: str) -> torch.dtype | None:
    """Of the transformer's layers; None: the configuration's."""
    return None if dtype == "auto" else getattr(torch, dtype)


def _tokens(values: Mapping[str, Any]) -> tuple[SpecialTokens, str]:
    """Special tokens that the environment asks for, and the file with their vectors, known to hold them."""
    tokens = SpecialTokens.from_environment()
    special_tokens = values["special_tokens"] or os.environ.get("SPECIAL_TOKEN_PATH", "")
    load_token_vectors(special_tokens or "special_tokens.npz", tokens)
    return tokens, special_tokens


def given_of(config: MagiConfig, values: Mapping[str, Any]) -> GivenFrames | None:
    runtime = config.runtime_config
    return given_frames(
        values["init_image"],
        values["init_video"],
        (runtime.video_size_h, runtime.video_size_w),
        runtime.fps,
        released=values["compat"] == "released",
    )


def context_of(
    given: Tensor | None, rewards: RewardChoice | None, config: MagiConfig
) -> Tensor | None:
    """The last frames of a given video that share a window with new ones, unless they are in the output."""
    if given is None or rewards is None or opens_output(given) or not rewards.context_frames:
        return None
    used = usable_frames(len(given), config.runtime_config.temporal_downsample_factor)
    return given[:used][-rewards.context_frames :]


def check_frames(
    config: MagiConfig, given: Tensor | None, context: Tensor | None, rewards: RewardChoice
) -> None:
    frames = _frames(config, given)[0]
    judged = frames + (0 if context is None else len(context))
    if judged < rewards.min_frames:
        raise UsageError(
            f"the video has {judged} frames, but the reward needs {rewards.min_frames}: raise --num_frames, "
            "or lower --window_size"
        )


def prefix_of(given: Tensor | None) -> int:
    """Latent frames of given ones: of an image, or of a video, of which the last are used."""
    used = 0 if given is None else usable_frames(len(given), LATENT_FRAMES)
    return 1 if used == 1 else used // LATENT_FRAMES


def _frames(config: MagiConfig, given: Tensor | None) -> tuple[int, int]:
    """How many frames are made, and how many given ones (of an image: those that it stands for) come before
    new ones in their chunks.
    """
    runtime, prefix = config.runtime_config, prefix_of(given)
    made = frames_made(runtime, VideoLayout.plan(runtime, prefix))
    return made, runtime.temporal_downsample_factor * prefix


def told_length(config: MagiConfig, given: Tensor | None, asked: int | None) -> str:
    """What will be written, in a line; and why it is not what was ``asked`` for, if anything was."""
    runtime = config.runtime_config
    frames, before = _frames(config, given)
    chunk = runtime.chunk_width * runtime.temporal_downsample_factor
    told = f"{frames} frames are made, {frames / runtime.fps:.1f} s at {runtime.fps} per second"
    if asked in (None, frames):
        return told
    counted = f", of which the given frames fill {before}" if before else ""
    if given is not None and len(given) == 1:
        counted = f", of which the image fills {before} frames"
    return f"{told}, not {asked}: videos are made in whole chunks of {chunk}{counted}"


def check_parts(
    config: MagiConfig, dtype: torch.dtype | None, texts: Sequence[str], outputs: Path
) -> PromptReader:
    """Look for all weights and read what their files say of themselves, before anything is computed.

    Args:
        config: The generator.
        dtype: Of the transformer's layers, if not the configuration's.
        texts: All that the text encoder is to read.
        outputs: Folder of the outputs, where an earlier run may have left what it says of them.

    Returns:
        How the text encoder takes prompts.

    Raises:
        WMRewardError, MagiError, WeightsError: what is missing, damaged or of another model.
    """
    if missing := missing_files(config):
        raise WMRewardError(f"{'; '.join(missing)}; {HOW_TO_GET}")
    check_vae(read_vae_config(find_vae(config).folder), config.runtime_config)
    narrower = (
        None if config.engine_config.fp8_quant or dtype == config.model_config.dtype else dtype
    )
    check_weights(config, dtype=narrower)
    return PromptFeatures(config, folder=outputs / TEXT_FOLDER).check(texts)


def check_vae(vae: VAEConfig, runtime: RuntimeConfig) -> None:
    """Raise ``UsageError`` for a rate at which half seconds are no whole latents, or leave one over at the
    end of a chunk: a single latent becomes one frame.
    """
    fps, step = runtime.fps, vae.patch_length

    def fits(rate: int) -> bool:
        latents, rest = divmod(rate // 2, step)
        return not rest and latents > 0 and gcd(latents, runtime.chunk_width) > 1

    if not fits(fps):
        rates = range(2 * step, 2 * fps + 2 * step * runtime.chunk_width, 2 * step)
        near = sorted(filter(fits, rates), key=lambda rate: abs(rate - fps))[:2]
        alone = "" if fps // 2 % step else ", where one that is left over becomes a single frame"
        raise UsageError(
            f"{fps} frames per second (--video_fps) do not fit the VAE, which takes half a second at a time "
            f"in steps of {step} frames{alone}; {' and '.join(map(str, sorted(near))) or 'none'} fit"
        )
    Tiling(frames=fps // 2).on(vae)
