"""A MAGI-1 of a few thousand weights, written as the released ones are: config, transformer, VAE, text."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from magi1.config import EngineConfig, MagiConfig, ModelConfig, RuntimeConfig
from magi1.text.byte_t5 import ByteT5, ByteT5Config
from magi1.transformer.dit import DiT
from magi1.vae import VAE, VAEConfig

NANO_MODEL = ModelConfig(
    model_name="nano",
    num_layers=2,
    hidden_size=32,
    ffn_hidden_size=48,
    num_attention_heads=4,
    num_query_groups=2,
    kv_channels=8,
    layernorm_epsilon=1e-6,
    apply_layernorm_1p=True,
    x_rescale_factor=1.0,
    half_channel_vae=False,
    params_dtype="torch.float32",
    patch_size=1,
    t_patch_size=1,
    in_channels=4,
    out_channels=4,
    cond_hidden_ratio=0.25,
    caption_channels=16,
    caption_max_length=32,
    xattn_cond_hidden_ratio=1.0,
    cond_gating_ratio=1.0,
    gated_linear_unit=False,
)

NANO_VAE = {
    "video_size": 16,
    "video_length": 16,
    "patch_size": 8,
    "patch_length": 4,
    "z_chans": 4,
    "embed_dim": 16,
    "depth": 1,
    "num_heads": 2,
    "use_final_proj": True,
}

NANO_TEXT = {
    "model_type": "byte_t5",
    "d_model": 16,
    "num_layers": 1,
    "num_heads": 2,
    "d_kv": 8,
    "d_ff": 16,
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 16,
    "layer_norm_epsilon": 1e-6,
    "max_length": 32,
}


def nano_config(folder: Path, **runtime: Any) -> MagiConfig:
    """24 + 24 frames of 16 × 16 pixels in two chunks, 8 steps."""
    base = RuntimeConfig(
        cfg_number=3,
        cfg_t_range=(0.0, 0.0217, 0.1, 0.3, 0.999),
        prev_chunk_scales=(1.5, 1.5, 1.5, 1.0, 1.0),
        text_scales=(7.5, 7.5, 7.5, 0.0, 0.0),
        noise2clean_kvrange=(5, 4, 3, 2),
        clean_chunk_kvrange=1,
        clean_t=0.9999,
        seed=1234,
        num_frames=48,
        video_size_h=16,
        video_size_w=16,
        num_steps=8,
        window_size=4,
        fps=24,
        chunk_width=6,
        load=str(folder / "dit"),
        t5_pretrained=str(folder / "t5"),
        t5_device="cpu",
        vae_pretrained=str(folder / "vae"),
        scale_factor=0.5,
        temporal_downsample_factor=4,
    )
    engine = EngineConfig(
        distributed_backend="gloo",
        distributed_timeout_minutes=5,
        pp_size=1,
        cp_size=1,
        cp_strategy="none",
        ulysses_overlap_degree=1,
        fp8_quant=False,
        distill_nearly_clean_chunk_threshold=0.3,
        shortcut_mode="8,16,16",
        distill=False,
        kv_offload=False,
        enable_cuda_graph=False,
    )
    return MagiConfig(
        model_config=NANO_MODEL, runtime_config=replace(base, **runtime), engine_config=engine
    )


def write_nano(folder: Path, **runtime: Any) -> Path:
    """All files of a nano MAGI-1 below ``folder``; returns the configuration file."""
    config = nano_config(folder, **runtime)
    torch.manual_seed(7)
    for name, module, file in (
        ("dit", DiT(config.model_config), "model.safetensors"),
        ("vae", VAE(VAEConfig.from_json(NANO_VAE)), "diffusion_pytorch_model.safetensors"),
        ("t5", ByteT5(ByteT5Config.from_dict(NANO_TEXT)), "model.safetensors"),
    ):
        place = folder / name
        place.mkdir(parents=True, exist_ok=True)
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.copy_(0.2 * torch.randn(parameter.shape))
        state = {key: value.contiguous() for key, value in module.state_dict().items()}
        save_file(state, place / file)
    (folder / "vae" / "config.json").write_text(json.dumps(NANO_VAE))
    (folder / "t5" / "config.json").write_text(json.dumps(NANO_TEXT))
    path = folder / "nano.json"
    config.save(path)
    return path
