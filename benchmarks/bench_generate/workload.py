"""What the generator's benchmark runs: MAGI-1 with random weights in the middle of a video."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from magi1.config import MagiConfig, ModelConfig
from magi1.planning.plan import RELEASED_VAE
from magi1.sampling import velocity
from magi1.sampling.schedule import guidance_scales, plan_calls, time_steps
from magi1.sampling.velocity import MagiVelocity, VideoTexts
from magi1.transformer import layers
from magi1.transformer.attention import CacheUse
from magi1.transformer.dit import DiT
from magi1.transformer.fp8 import E4M3
from magi1.transformer.kernels import TORCH, Kernels
from magi1.transformer.rope import default_bands
from magi1.vae import VAE

CONFIGS = Path(__file__).parents[2] / "MAGI-1" / "example"
MODELS = {
    "4.5B": "4.5B/4.5B_base",
    "4.5B-fp8": "4.5B/4.5B_distill_quant",
    "24B": "24B/24B_base",
    "24B-fp8": "24B/24B_distill_quant",
    "nano": "24B/24B_base",
    "nano-fp8": "24B/24B_distill_quant",
}
"""Names here, and the released configurations whose shapes they have (nano ones: in small)."""
TEXT_TOKENS, NULL_TOKENS = 100, 50
CHUNKS = 8
"""Chunks of the video that the window is taken from."""


def bench_config(model: str, size: str, processes: int) -> MagiConfig:
    """A released model at a size like ``480x480``, for so many processes."""
    released = MagiConfig.load(CONFIGS / f"{MODELS[model]}_config.json")
    shape = released.model_config
    if model.startswith("nano"):
        shape = nano(shape, released.engine_config.fp8_quant)
    height, width = (int(pixels) for pixels in size.split("x"))
    frames = CHUNKS * released.runtime_config.chunk_width * 4
    runtime = replace(
        released.runtime_config, video_size_h=height, video_size_w=width, num_frames=frames
    )
    engine = replace(released.engine_config, cp_size=processes, cp_strategy="cp_ulysses")
    return MagiConfig(model_config=shape, runtime_config=runtime, engine_config=engine)


def nano(config: ModelConfig, fp8: bool) -> ModelConfig:
    """The same kind of network, small enough for tests on a CPU."""
    return replace(
        config,
        params_dtype="torch.bfloat16" if fp8 else "torch.float32",
        num_layers=4,
        hidden_size=64,
        ffn_hidden_size=96,
        num_attention_heads=8,
        num_query_groups=2,
        kv_channels=8,
        caption_channels=16,
        caption_max_length=TEXT_TOKENS,
    )


def random_dit(config: ModelConfig, device: torch.device, *, fp8: bool = False) -> DiT:
    """Weights of a plausible scale, made on the device."""
    with torch.device("meta"):
        dit = DiT(config, fp8=fp8)
    dit = dit.to_empty(device=device).requires_grad_(False)
    torch.manual_seed(0)
    for name, parameter in dit.named_parameters():
        if parameter.dtype == E4M3:
            parameter.copy_(torch.randn(parameter.shape, device=device).to(E4M3))
        elif name.endswith("weight_scale"):
            nn.init.constant_(parameter, 0.02)
        elif name.endswith(("input_scale", "smooth_scale")):
            nn.init.ones_(parameter)
        elif parameter.ndim >= 2:
            nn.init.normal_(parameter, std=0.02)
        else:
            nn.init.zeros_(parameter)
    for module in dit.modules():
        if isinstance(module, nn.LayerNorm):
            module.reset_parameters()
    dit.rope.bands.copy_(default_bands(len(dit.rope.bands)))
    return dit


def random_vae(model: str, device: torch.device) -> VAE:
    """The released VAE's shape, or a small one for ``nano``; bfloat16 on a GPU."""
    shape = RELEASED_VAE
    if model.startswith("nano"):
        shape = replace(shape, embed_dim=32, depth=2, num_heads=2, use_final_proj=True)
    torch.manual_seed(0)
    with torch.device(device):
        vae = VAE(shape)
    return vae.to(torch.bfloat16 if device.type == "cuda" else torch.float32).requires_grad_(False)


class Scene:
    """A window of four chunks in the middle of a video, the chunk before it in the cache.

    Attributes:
        window_units: Chunks that those in flight see, in all.
        branches: Passes over the whole window in a step.
        alone: Chunks of the window that are run alone, too, for guidance.
    """

    def __init__(self, config: MagiConfig, dit: DiT, device: torch.device) -> None:
        self.config, self.dit, self.device = config, dit, device
        model, runtime = config.model_config, config.runtime_config
        _, calls = plan_calls(config)
        self.call = next(c for c in calls if c.first == 1 and len(c.steps) == 4 and c.inner == 1)
        self.times = time_steps(runtime.num_steps)[list(self.call.steps)]
        self.window_units = sum(stop - start for start, stop in self.call.ranges)
        guided = runtime.cfg_number == 3
        self.branches = 2 if guided else 1
        alone = (guidance_scales(self.times, runtime)[0] != 1).sum()
        self.alone = int(alone) if guided else 0
        generator = torch.Generator().manual_seed(0)

        def noise(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator).to(device)

        size = (runtime.latent_height, runtime.latent_width)
        self.x = noise(1, model.latent_channels, 4 * runtime.chunk_width, *size)
        self.finished = noise(1, model.latent_channels, runtime.chunk_width, *size)
        features = noise(2, CHUNKS, model.caption_max_length, model.caption_channels)
        mask = torch.zeros(features.shape[:3])
        mask[0, :, :TEXT_TOKENS], mask[1, :, :NULL_TOKENS] = 1, 1
        self.texts = VideoTexts.prepare(dit, features, mask)
        self.refill()

    def refill(self) -> None:
        """Fill the cache in the layout that the transformer's tokens have now."""
        self.velocity = MagiVelocity(self.dit, self.config, self.texts)
        with torch.no_grad():
            self.velocity.fill(self.finished, 0, count=1, given=1)

    @torch.no_grad()
    def chunk(self) -> Tensor:
        """One chunk that sees itself."""
        width = self.config.runtime_config.chunk_width
        times = self.times[None, :1].to(self.device)
        return self.dit(self.x[:, :, :width], times, self.texts.text[:1])

    @torch.no_grad()
    def window(self) -> Tensor:
        """All four chunks."""
        return self._window(self.x)

    def window_gradient(self) -> Tensor:
        """Of their velocity with respect to their latents; the layers are recomputed."""
        self.dit.checkpointing = True
        x = self.x.clone().requires_grad_()
        return torch.autograd.grad(self._window(x).square().mean(), x)[0]

    @torch.no_grad()
    def step(self) -> Tensor:
        """One guided step."""
        return self.velocity(self.call, self.x, self.times)

    def _window(self, x: Tensor) -> Tensor:
        return self.dit(
            x,
            self.times[None].to(self.device),
            self.texts.text[self.call.first : self.call.last],
            first=self.call.first,
            ranges=self.call.ranges,
            cached=CacheUse(self.velocity.cache),
        )

    def product_flops(self) -> float:
        """Large matrix products of one chunk in the layers that there are."""
        matrices = sum(
            parameter.numel()
            for name, parameter in self.dit.videodit_blocks.layers.named_parameters()
            if name.endswith("weight")
            and parameter.ndim > 1
            and "kv_xattn" not in name
            and "ada_modulate" not in name
        )
        return 2.0 * self.config.tokens_per_chunk * matrices

    def attention_flops(self) -> float:
        """Self-attention of one chunk to one chunk in the same layers."""
        model = self.config.model_config
        width = model.num_attention_heads * model.kv_channels
        return 4.0 * self.config.tokens_per_chunk**2 * width * model.num_layers

    def flops(self, what: str) -> float:
        """Of ``chunk``, ``window``, ``window grad`` or ``step``."""
        window, units, alone = len(self.times), self.window_units, self.alone
        products, attentions = {
            "chunk": (1.0, 1.0),
            "window": (window, units),
            "window grad": (3 * window, 4.5 * units),
            "step": (self.branches * window + alone, self.branches * units + alone),
        }[what]
        return products * self.product_flops() + attentions * self.attention_flops()


# --- the reference way ----------------------------------------------------------------------------------


def repeated_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    copies = q.shape[2] // k.shape[2]
    k, v = (part.repeat_interleave(copies, dim=2) for part in (k, v))
    q, k, v = (part.transpose(1, 2) for part in (q, k, v))
    keep = None if mask is None else mask[:, None, None, :]
    return F.scaled_dot_product_attention(q, k, v, attn_mask=keep).transpose(1, 2)


def upcast_linear(x: Tensor, weight: Tensor) -> Tensor:
    return F.linear(x.float(), weight.float())


@contextmanager
def reference_way(dit: DiT) -> Iterator[None]:
    """Repeated heads, a float32 product without tensor cores, and every guidance branch."""

    def all_count(*args: Any) -> tuple[Tensor, Tensor]:
        previous, text = guidance_scales(*args)
        return previous + 1e-6, text + 1e-6

    dit.kernels = Kernels(attention=repeated_attention)
    try:
        with (
            mock.patch.object(layers, "wide_linear", upcast_linear),
            mock.patch.object(velocity, "guidance_scales", all_count),
        ):
            yield
    finally:
        dit.kernels = TORCH
