"""From flags to what a run needs. All that can be found wrong without loading weights is found here."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from generation.flags import OVERRIDES, SCALES, TINY_CONFIG
from generation.inputs import given_frames
from generation.output import Output
from magi1.config import MagiConfig
from magi1.folders import HOW_TO_GET, find_t5, find_vae, missing_files
from magi1.kernels import find_kernels
from magi1.pipeline import Request
from magi1.plan import RELEASED_VAE, plan
from magi1.prompt_tokens import SpecialTokens, load_token_vectors
from magi1.text_encoder import check_text_encoder
from magi1.tiling import Tiling
from magi1.vae import VAEConfig
from wmreward.devices import find_device
from wmreward.errors import UsageError, WMRewardError

ROOT = Path(__file__).parents[1]

_NEEDS = {"t2v": None, "i2v": "init_image", "v2v": "init_video"}


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run of the command line.

    Attributes:
        config: The model's configuration, flags applied.
        mode: ``t2v``, ``i2v`` or ``v2v``.
        request: What to generate.
        seed: Of the noise.
        output: Where it goes, and what is there already.
        device, dtype, offload, kernels: How it runs; ``dtype`` None is the configuration's.
        special_tokens: The file with their vectors.
        released: Decode as the released code does.
        preview, save_latents, as_json: What else is written.
    """

    config: MagiConfig
    mode: str
    request: Request
    seed: int
    output: Output
    device: str
    dtype: torch.dtype | None
    offload: bool
    kernels: Any
    special_tokens: str
    released: bool
    preview: bool
    save_latents: bool
    as_json: bool


def configuration(values: Mapping[str, Any]) -> MagiConfig:
    """The configuration file with the numbers that flags replace.

    Raises:
        MagiUsageError: a file or a number that is not right.
    """
    path = Path(values["config_file"])
    if values["config_file"] == TINY_CONFIG and not path.exists():
        path = ROOT / TINY_CONFIG  # the small model works from any folder
    config = MagiConfig.load(path)
    changes: dict[str, Any] = {
        name: values[name] for name in (*OVERRIDES, "seed") if values[name] is not None
    }
    intervals = len(config.runtime_config.cfg_t_range)
    for name in SCALES:
        if (given := values[name]) is not None:
            changes[name] = tuple(given) * (intervals if len(given) == 1 else 1)
    engine = config.engine_config
    if (processes := values["cp_size"]) is not None:
        strategy = "cp_ulysses" if processes > 1 else engine.cp_strategy
        engine = replace(engine, cp_size=processes, cp_strategy=strategy)
    return replace(
        config, runtime_config=replace(config.runtime_config, **changes), engine_config=engine
    )


def plan_table(config: MagiConfig, values: Mapping[str, Any]) -> str:
    """What the run would take, as a table or as JSON; loads no weights."""
    try:
        file = find_vae(config).folder / "config.json"
        vae = VAEConfig.from_json(json.loads(file.read_text(encoding="utf-8")))
    except (RuntimeError, OSError, ValueError):  # not there yet: count with the released one
        vae = RELEASED_VAE
    counted = plan(
        config,
        values["mode"],
        world_size=config.engine_config.cp_size,
        offload=values["offload"],
        vae=vae,
    )
    return counted.to_json() if values["json"] else counted.table()


def job_from(config: MagiConfig, values: Mapping[str, Any]) -> Job:
    """Check everything that needs no weights, the cheapest first.

    Raises:
        UsageError, MagiUsageError: flags that contradict each other, inputs that are not there or do not fit.
        WMRewardError: weights or packages that are missing, an output that cannot be written.
    """
    _check_mode(values)
    find_device(values["device"])
    find_kernels(values["kernels"])
    tokens = SpecialTokens.from_environment()
    special_tokens = values["special_tokens"] or os.environ.get("SPECIAL_TOKEN_PATH", "")
    load_token_vectors(special_tokens or "special_tokens.npz", tokens)
    if missing := missing_files(config):
        raise WMRewardError(f"{'; '.join(missing)}; {HOW_TO_GET}")
    _check_vae(config)
    check_text_encoder(find_t5(config).folder)
    runtime = config.runtime_config
    size = (runtime.video_size_h, runtime.video_size_w)
    given = given_frames(values["init_image"], values["init_video"], size, runtime.fps)
    request = Request(
        prompt=values["prompt"],
        negative_prompt=values["negative_prompt"],
        given=None if given is None else given.frames,
        tokens=tokens,
    )
    released = values["compat"] == "released"
    dtype = None if values["dtype"] == "auto" else getattr(torch, values["dtype"])
    output = Output.check(
        values["output_path"],
        overwrite=values["overwrite"],
        config=config,
        settings={
            "mode": values["mode"],
            "prompt": values["prompt"],
            "negative_prompt": values["negative_prompt"],
            "seed": runtime.seed,
            "given_sha256": None if given is None else given.sha256,
            "special_tokens": [name for name, on in vars(tokens).items() if on],
            "dtype": str(dtype or config.model_config.dtype),
            "compat": values["compat"],
        },
    )
    return Job(
        config=config,
        mode=values["mode"],
        request=request,
        seed=runtime.seed,
        output=output,
        device=values["device"],
        dtype=dtype,
        offload=values["offload"],
        kernels=values["kernels"],
        special_tokens=special_tokens,
        released=released,
        preview=values["preview"],
        save_latents=values["save_latents"],
        as_json=values["json"],
    )


def _check_mode(values: Mapping[str, Any]) -> None:
    mode, needed = values["mode"], _NEEDS[values["mode"]]
    for flag in filter(None, _NEEDS.values()):
        if flag == needed and not values[flag]:
            raise UsageError(
                f"--mode {mode} needs --{flag}; for a video from text alone use --mode t2v"
            )
        if flag != needed and values[flag]:
            raise UsageError(f"--{flag} has no meaning with --mode {mode}: leave it out")
    if mode == "t2v" and not values["prompt"].strip():
        raise UsageError("--mode t2v needs a --prompt")


def _check_vae(config: MagiConfig) -> None:
    file = find_vae(config).folder / "config.json"
    try:
        vae = VAEConfig.from_json(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise WMRewardError(f"{file}: {error}") from error
    Tiling(frames=config.runtime_config.fps // 2).on(vae)
