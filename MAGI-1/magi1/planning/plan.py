"""What a run will take before anything is loaded: parameters, memory per device, arithmetic, time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Literal

from magi1.config import MagiConfig
from magi1.files.folders import variant
from magi1.planning.costs import (
    Work,
    decoded,
    frames_made,
    vae_flop,
    work_as_run,
    work_of_all_branches,
)
from magi1.planning.memory import device_memory, host_of_video, parameter_counts, size_of
from magi1.sampling.schedule import plan_calls
from magi1.transformer.dit import DiT
from magi1.vae import VAE, VAEConfig
from wmfiles.amounts import BYTES, LONG, NUMBERS, OPERATIONS, amount, counted, unit_of
from wmweights import blank

Mode = Literal["t2v", "i2v", "v2v"]

PREFIX_LATENTS: dict[Mode, int] = {"t2v": 0, "i2v": 1, "v2v": 8}
"""Latent frames that are given: none, an image, the 32 frames that are used of a video."""

RELEASED_VAE = VAEConfig(
    video_size=256,
    video_length=16,
    patch_size=8,
    patch_length=4,
    z_chans=16,
    embed_dim=1024,
    depth=24,
    num_heads=16,
)
T5_WIDTH, T5_PARAMETERS = 4096, 4_762_310_656
"""The encoder of T5-XXL. An encoder of another width is small and not counted."""

SUSTAINED = 0.4e15
"""FLOP/s per device that an estimate assumes: about 40 per cent of what an H100 does at best."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run takes.

    Attributes:
        model: Name of the model.
        mode: ``t2v``, ``i2v`` or ``v2v``.
        world_size: Devices that share the tokens; each has all weights.
        offload: Whether layers and cache wait in host memory.
        videos, at_once: How many are made, and in one batch.
        width, height, frames: Of each video that comes out, given frames of a video left out.
        chunks, tokens_per_chunk, steps, calls: Of the sampler.
        parameters: By part; ``layer.…`` are those of one layer.
        memory: Bytes on each device while denoising, by part.
        host: Bytes in host memory for each device, by part; ``video``: its texts, latents and frames.
        text_encoder: Bytes of the text encoder, which is used and let go before the rest.
        all_branches: Transformer arithmetic of one video with every guidance branch.
        work: The same as it is run: without branches whose weight is zero.
        vae_flop: Arithmetic of the VAE for one video.
    """

    model: str
    mode: Mode
    world_size: int
    offload: bool
    videos: int
    at_once: int
    width: int
    height: int
    frames: int
    chunks: int
    tokens_per_chunk: int
    steps: int
    calls: int
    parameters: dict[str, int]
    memory: dict[str, int]
    host: dict[str, int]
    text_encoder: int
    all_branches: Work
    work: Work
    vae_flop: float

    def seconds(self, sustained: float = SUSTAINED) -> float:
        """Estimated time of all arithmetic on ``world_size`` devices of ``sustained`` FLOP/s each."""
        return self.videos * (self.work.flop + self.vae_flop) / (sustained * self.world_size)

    def to_json(self) -> str:
        """All numbers, in bytes and operations."""
        return json.dumps(asdict(self), indent=4) + "\n"

    def table(self, sustained: float = SUSTAINED) -> str:
        """For people."""
        return "\n".join(
            f"{name:<24}{value}" if name else value for name, value in self._rows(sustained)
        )

    def _rows(self, sustained: float) -> Iterator[tuple[str, str]]:
        yield (
            "",
            f"{self.model}, {self.mode}: {self.frames} frames of {self.width}×{self.height} in "
            f"{counted(self.chunks, 'chunk')} of {self.tokens_per_chunk} tokens, {self.steps} steps, "
            f"{counted(self.world_size, 'device')}" + (", offloading" if self.offload else ""),
        )
        if self.videos > 1:
            yield (
                "videos",
                f"{self.videos:8d}, {self.at_once} at a time; calls and arithmetic are of one",
            )
        yield "parameters", amount(self.parameters["transformer"], NUMBERS, "8.2f")
        for name, size in self.memory.items():
            yield f"  {name}", amount(size, BYTES, "8.2f")
        yield "per device", amount(sum(self.memory.values()), BYTES, "8.2f")
        for name, size in self.host.items():
            yield f"  {name}, host", amount(size, BYTES, "8.2f")
        if self.text_encoder:
            yield "text encoder", f"{amount(self.text_encoder, BYTES, '8.2f')}, before the rest"
        yield "calls", f"{self.calls:8d}"
        yield (
            "chunk forwards",
            f"{self.work.chunk_forwards:8d}   (all branches: {self.all_branches.chunk_forwards})",
        )
        scale, unit = unit_of(self.work.flop, OPERATIONS)
        yield (
            "transformer",
            f"{self.work.flop / scale:8.1f} {unit} (all branches: {self.all_branches.flop / scale:.1f})",
        )
        yield "VAE", amount(self.vae_flop, OPERATIONS, "8.2f")
        of_all = f" for all {self.videos}" if self.videos > 1 else ""
        yield (
            "time",
            f"{amount(self.seconds(sustained), LONG, '8.1f')}{of_all} at {sustained / 1e15:.2f} PFLOP/s "
            "per GPU (a CPU takes far longer)",
        )


def plan(
    config: MagiConfig,
    mode: Mode = "t2v",
    *,
    world_size: int = 1,
    offload: bool = False,
    vae: VAEConfig = RELEASED_VAE,
    prefix: int | None = None,
    videos: int = 1,
    at_once: int = 1,
    released: bool = False,
) -> Plan:
    """Count what a configuration takes; loads nothing.

    Args:
        config: What is generated.
        mode: From text alone, from an image, or from a video.
        world_size: Devices.
        offload: Whether layers and cache wait in host memory.
        vae: The VAE's shape.
        prefix: Latent frames that are given, where they are known.
        videos, at_once: How many are made, and in one batch.
        released: Whether they are decoded as in the released code.

    Raises:
        MagiUsageError: nothing is left to generate.
    """
    layout, calls = plan_calls(config, PREFIX_LATENTS[mode] if prefix is None else prefix)
    runtime, model = config.runtime_config, config.model_config
    with blank():
        dit, autoencoder = DiT(model, fp8=config.engine_config.fp8_quant), VAE(vae)
    memory, host = device_memory(config, dit, calls, world_size, offload, at_once)
    memory["VAE"] = 2 * size_of(autoencoder)
    host["video"] = host_of_video(config, layout, at_once)
    pieces = [latents for latents, _ in decoded(runtime, layout, released=released)]
    pieces += [layout.prefix] * (layout.prefix > 0)
    text_encoder = T5_PARAMETERS if model.caption_channels == T5_WIDTH else 0
    return Plan(
        model=variant(config) or model.model_name,
        mode=mode,
        world_size=world_size,
        offload=offload,
        videos=videos,
        at_once=at_once,
        width=runtime.video_size_w,
        height=runtime.video_size_h,
        frames=frames_made(runtime, layout, released=released),
        chunks=layout.chunks,
        tokens_per_chunk=config.tokens_per_chunk,
        steps=runtime.num_steps,
        calls=len(calls),
        parameters={
            **parameter_counts(dit),
            "VAE": size_of(autoencoder),
            "text encoder": text_encoder,
        },
        memory=memory,
        host=host,
        text_encoder=4 * text_encoder,
        all_branches=work_of_all_branches(config, layout, calls),
        work=work_as_run(config, layout, calls),
        vae_flop=sum(vae_flop(vae, runtime, latents) for latents in pieces),
    )
