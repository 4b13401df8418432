"""Pipelines at the sizes of the published models, with random weights and no text encoder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn


@dataclass(frozen=True)
class Model:
    """One pipeline.

    Attributes:
        pipeline: Class of the pipeline.
        transformer, vae: Class, and what differs from its defaults.
        scheduler: Likewise.
        size: Height, width, frames.
        text: Tokens and width of the text's embedding.
        masked: Whether the call takes masks of the text.
        options: Of the pipeline.
    """

    pipeline: str
    transformer: tuple[str, Mapping[str, Any]]
    vae: tuple[str, Mapping[str, Any]]
    scheduler: tuple[str, Mapping[str, Any]]
    size: tuple[int, int, int]
    text: tuple[int, int] = (512, 4096)
    masked: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)

    def make(self, device: torch.device, dtype: torch.dtype) -> Any:
        """On the device, its weights drawn there."""
        import diffusers

        parts: dict[str, Any] = {"tokenizer": None, "text_encoder": None}
        before = torch.get_default_dtype()
        torch.manual_seed(0)
        torch.set_default_dtype(dtype)
        try:
            with torch.device(device):
                for part in ("transformer", "vae"):
                    name, changes = getattr(self, part)
                    parts[part] = _frozen(getattr(diffusers, name)(**changes))
        finally:
            torch.set_default_dtype(before)
        name, changes = self.scheduler
        parts["scheduler"] = getattr(diffusers, name)(**changes)
        pipe = getattr(diffusers, self.pipeline)(**parts, **self.options)
        pipe.to(device=device, dtype=dtype)
        pipe.set_progress_bar_config(disable=True)
        return pipe

    def call(self, device: torch.device, dtype: torch.dtype, steps: int) -> dict[str, Any]:
        """What the pipeline is called with."""
        random = torch.Generator().manual_seed(1)
        texts = torch.randn(2, 1, *self.text, generator=random).to(device, dtype)
        height, width, frames = self.size
        call: dict[str, Any] = {
            "prompt_embeds": texts[0],
            "negative_prompt_embeds": texts[1],
            "height": height,
            "width": width,
            "num_frames": frames,
            "num_inference_steps": steps,
            "guidance_scale": 5.0,
        }
        if self.masked:
            mask = torch.ones(1, self.text[0], device=device, dtype=dtype)
            call |= {"prompt_attention_mask": mask, "negative_prompt_attention_mask": mask}
        return call


def _frozen(module: nn.Module) -> nn.Module:
    return module.requires_grad_(False).eval()


_FLOW = (
    "UniPCMultistepScheduler",
    {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 3.0},
)
_COGVIDEOX = (
    "CogVideoXDDIMScheduler",
    {
        "prediction_type": "v_prediction",
        "clip_sample": False,
        "rescale_betas_zero_snr": True,
        "timestep_spacing": "trailing",
        "snr_shift_scale": 1.0,
    },
)


def _wan(heads: int, ffn: int, layers: int, **changes: Any) -> tuple[str, dict[str, Any]]:
    sizes = {"num_attention_heads": heads, "ffn_dim": ffn, "num_layers": layers}
    return ("WanTransformer3DModel", sizes | changes)


_WAN_VAE: tuple[str, Mapping[str, Any]] = ("AutoencoderKLWan", {})
_WAN_5B_VAE: tuple[str, Mapping[str, Any]] = (
    "AutoencoderKLWan",
    {
        "base_dim": 160,
        "decoder_base_dim": 256,
        "z_dim": 48,
        "in_channels": 12,
        "out_channels": 12,
        "is_residual": True,
        "patch_size": 2,
        "latents_mean": [0.0] * 48,
        "latents_std": [1.0] * 48,
        "scale_factor_spatial": 16,
    },
)

MODELS: dict[str, Model] = {
    "wan-1.3b": Model("WanPipeline", _wan(12, 8960, 30), _WAN_VAE, _FLOW, (480, 832, 81)),
    "wan-14b": Model("WanPipeline", _wan(40, 13824, 40), _WAN_VAE, _FLOW, (480, 832, 81)),
    "wan2.2-5b": Model(
        "WanPipeline",
        _wan(24, 14336, 30, in_channels=48, out_channels=48),
        _WAN_5B_VAE,
        _FLOW,
        (704, 1280, 121),
        options={"expand_timesteps": True},
    ),
    "cogvideox-5b": Model(
        "CogVideoXPipeline",
        (
            "CogVideoXTransformer3DModel",
            {"num_attention_heads": 48, "num_layers": 42, "use_rotary_positional_embeddings": True},
        ),
        (
            "AutoencoderKLCogVideoX",
            {
                "down_block_types": ("CogVideoXDownBlock3D",) * 4,
                "up_block_types": ("CogVideoXUpBlock3D",) * 4,
                "block_out_channels": (128, 256, 256, 512),
                "sample_height": 480,
                "sample_width": 720,
            },
        ),
        _COGVIDEOX,
        (480, 720, 49),
        text=(226, 4096),
    ),
    "ltx": Model(
        "LTXPipeline",
        ("LTXVideoTransformer3DModel", {}),
        ("AutoencoderKLLTXVideo", {}),
        ("FlowMatchEulerDiscreteScheduler", {"use_dynamic_shifting": True}),
        (512, 704, 121),
        text=(128, 4096),
        masked=True,
    ),
    "nano": Model(
        "WanPipeline",
        _wan(2, 32, 2, attention_head_dim=12, text_dim=32, rope_max_seq_len=32),
        ("AutoencoderKLWan", {"base_dim": 8, "dim_mult": [1, 1, 1, 1], "num_res_blocks": 1}),
        _FLOW,
        (32, 32, 17),
        text=(16, 32),
    ),
}
"""``nano`` only shows on a CPU that the benchmark works."""
