"""Small random pipelines of every family, without text encoders: nothing is downloaded.

made = tiny("wan")
video = made(seed=0).frames             # made.pipe is the pipeline, made.call its arguments
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

SIZE, STEPS = 32, 4
SHORT, FRAMES = 5, 9
"""Frames of what is slow, and of all else: two or three latent ones."""


@dataclass
class Tiny:
    """A pipeline and what it is called with."""

    pipe: Any
    call: dict[str, Any] = field(default_factory=dict)

    def __call__(self, seed: int = 0, **changes: Any) -> Any:
        generator = torch.Generator().manual_seed(seed)
        return self.pipe(**{**self.call, "generator": generator, **changes})

    def video(self, seed: int = 0, **changes: Any) -> Tensor:
        """``[B, 3, T, H, W]`` in [−1, 1]."""
        frames: Tensor = self(seed, output_type="pt", **changes).frames
        return frames.movedim(2, 1) * 2 - 1

    def latents(self, seed: int = 0, **changes: Any) -> Tensor:
        found: Tensor = self(seed, output_type="latent", **changes).frames
        return found


BUILDERS: dict[str, Callable[[], Tiny]] = {}
"""Each way that a family's pipeline can be, by name."""


def drawn(build: Callable[[], Tiny]) -> Tiny:
    """A new pipeline, always with the same weights, whatever was drawn before."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build()


def tiny(name: str) -> Tiny:
    """The same by name, ready to be called."""
    made = drawn(BUILDERS[name])
    for module in made.pipe.components.values():
        if isinstance(module, nn.Module):
            module.requires_grad_(False).eval()
    made.pipe.set_progress_bar_config(disable=True)
    return made


def builder(function: Callable[[], Tiny]) -> Callable[[], Tiny]:
    BUILDERS[function.__name__] = function
    return function


def general(width: int = 32, frames: int = FRAMES, **more: Any) -> dict[str, Any]:
    """Arguments that all pipelines have."""
    random = torch.Generator().manual_seed(1)
    texts = [torch.randn(1, 16, width, generator=random) for _ in range(2)]
    return {
        "prompt_embeds": texts[0],
        "negative_prompt_embeds": texts[1],
        "height": SIZE,
        "width": SIZE,
        "num_frames": frames,
        "num_inference_steps": STEPS,
        "guidance_scale": 3.0,
    } | more


def image() -> Any:
    from PIL import Image

    ramp = torch.arange(SIZE * SIZE * 3).reshape(SIZE, SIZE, 3) % 251
    return Image.fromarray(ramp.to(torch.uint8).numpy())


def image_tensor() -> Tensor:
    random = torch.Generator().manual_seed(2)
    return torch.rand(1, 3, SIZE, SIZE, generator=random)


# --- Wan --------------------------------------------------------------------------------------------------


def wan_vae(**changes: Any) -> Any:
    from diffusers import AutoencoderKLWan

    config: dict[str, Any] = {
        "base_dim": 8,
        "z_dim": 16,
        "dim_mult": [1, 1, 1, 1],
        "num_res_blocks": 1,
        "temperal_downsample": [False, True, True],
    }
    return AutoencoderKLWan(**(config | changes))


def wan_5b_vae() -> Any:
    return wan_vae(
        decoder_base_dim=8,
        z_dim=48,
        in_channels=12,
        out_channels=12,
        is_residual=True,
        patch_size=2,
        latents_mean=[0.0] * 48,
        latents_std=[1.0] * 48,
        scale_factor_spatial=16,
    )


def wan_transformer(**changes: Any) -> Any:
    from diffusers import WanTransformer3DModel

    config: dict[str, Any] = {
        "patch_size": (1, 2, 2),
        "num_attention_heads": 2,
        "attention_head_dim": 12,
        "in_channels": 16,
        "out_channels": 16,
        "text_dim": 32,
        "freq_dim": 256,
        "ffn_dim": 32,
        "num_layers": 2,
        "cross_attn_norm": True,
        "qk_norm": "rms_norm_across_heads",
        "rope_max_seq_len": 32,
    }
    return WanTransformer3DModel(**(config | changes))


def flow_unipc(**changes: Any) -> Any:
    from diffusers import UniPCMultistepScheduler

    config = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 3.0}
    return UniPCMultistepScheduler(**(config | changes))


def flow_dpm() -> Any:
    from diffusers import DPMSolverMultistepScheduler

    return DPMSolverMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
    )


def flow_euler(**changes: Any) -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler

    return FlowMatchEulerDiscreteScheduler(**({"shift": 3.0} | changes))


def _wan(name: str = "WanPipeline", **parts: Any) -> Any:
    import diffusers

    whole: dict[str, Any] = {
        "tokenizer": None,
        "text_encoder": None,
        "vae": parts.pop("vae", None) or wan_vae(),
        "scheduler": flow_unipc(),
    }
    return getattr(diffusers, name)(**(whole | parts))


@builder
def wan() -> Tiny:
    return Tiny(_wan(transformer=wan_transformer()), general(frames=SHORT))


@builder
def wan_two_experts() -> Tiny:
    experts = {"transformer": wan_transformer(), "transformer_2": wan_transformer()}
    return Tiny(_wan(**experts, boundary_ratio=0.875), general(frames=SHORT, guidance_scale_2=2.0))


@builder
def wan_5b() -> Tiny:
    transformer = wan_transformer(in_channels=48, out_channels=48)
    return Tiny(
        _wan(transformer=transformer, vae=wan_5b_vae(), expand_timesteps=True),
        general(frames=SHORT),
    )


@builder
def wan_i2v() -> Tiny:
    from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

    vision = CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=4,
            projection_dim=4,
            num_hidden_layers=2,
            num_attention_heads=2,
            image_size=32,
            intermediate_size=16,
            patch_size=1,
        )
    )
    pipe = _wan(
        "WanImageToVideoPipeline",
        transformer=wan_transformer(in_channels=36, image_dim=4),
        image_encoder=vision,
        image_processor=CLIPImageProcessor(crop_size=32, size=32),
    )
    return Tiny(pipe, general(frames=SHORT, image=image()))


@builder
def wan_two_experts_i2v() -> Tiny:
    pipe = _wan(
        "WanImageToVideoPipeline",
        transformer=wan_transformer(in_channels=36),
        transformer_2=wan_transformer(in_channels=36),
        boundary_ratio=0.875,
        image_encoder=None,
        image_processor=None,
    )
    return Tiny(pipe, general(frames=SHORT, image=image()))


@builder
def wan_5b_i2v() -> Tiny:
    pipe = _wan(
        "WanImageToVideoPipeline",
        transformer=wan_transformer(in_channels=48, out_channels=48),
        vae=wan_5b_vae(),
        expand_timesteps=True,
        image_encoder=None,
        image_processor=None,
    )
    return Tiny(pipe, general(frames=SHORT, image=image()))


@builder
def skyreels() -> Tiny:
    from diffusers import SkyReelsV2Transformer3DModel

    transformer = SkyReelsV2Transformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=16,
        out_channels=16,
        text_dim=32,
        freq_dim=256,
        ffn_dim=32,
        num_layers=2,
        cross_attn_norm=True,
        qk_norm="rms_norm_across_heads",
        rope_max_seq_len=32,
    )
    return Tiny(_wan("SkyReelsV2Pipeline", transformer=transformer), general(frames=SHORT))


def wan_with_text() -> Tiny:
    """With a tokenizer of a few words and a text encoder, as a whole pipeline on a disk is."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

    words = ["<pad>", "</s>", "<unk>", "a", "red", "ball", "rolls", "falls"]
    rules = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    rules.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=rules, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )
    text = UMT5Config(vocab_size=len(words), d_model=32, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    pipe = _wan(
        transformer=wan_transformer(), tokenizer=tokenizer, text_encoder=UMT5EncoderModel(text)
    )
    return Tiny(pipe)


# --- CogVideoX --------------------------------------------------------------------------------------------


def _cogvideox(name: str, scheduler: str, **changes: Any) -> Any:
    import diffusers

    transformer: dict[str, Any] = {
        "num_attention_heads": 4,
        "attention_head_dim": 8,
        "in_channels": 4,
        "out_channels": 4,
        "time_embed_dim": 2,
        "text_embed_dim": 32,
        "num_layers": 1,
        "sample_width": 4,
        "sample_height": 4,
        "sample_frames": 9,
        "patch_size": 2,
        "temporal_compression_ratio": 4,
        "max_text_seq_length": 16,
    }
    vae = diffusers.AutoencoderKLCogVideoX(
        down_block_types=("CogVideoXDownBlock3D",) * 4,
        up_block_types=("CogVideoXUpBlock3D",) * 4,
        block_out_channels=(8, 8, 8, 8),
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=2,
    )
    return getattr(diffusers, name)(
        tokenizer=None,
        text_encoder=None,
        vae=vae,
        transformer=diffusers.CogVideoXTransformer3DModel(**(transformer | changes)),
        scheduler=getattr(diffusers, scheduler)(
            prediction_type="v_prediction",
            beta_schedule="scaled_linear",
            beta_start=0.00085,
            beta_end=0.012,
            clip_sample=False,
            rescale_betas_zero_snr=True,
            timestep_spacing="trailing",
            snr_shift_scale=1.0,
        ),
    )


@builder
def cogvideox() -> Tiny:
    return Tiny(_cogvideox("CogVideoXPipeline", "CogVideoXDDIMScheduler"), general())


@builder
def cogvideox_dpm() -> Tiny:
    return Tiny(_cogvideox("CogVideoXPipeline", "CogVideoXDPMScheduler"), general())


_COGVIDEOX_I2V: dict[str, Any] = {
    "num_attention_heads": 2,
    "attention_head_dim": 16,
    "in_channels": 8,
    "use_rotary_positional_embeddings": True,
    "use_learned_positional_embeddings": True,
}


@builder
def cogvideox_i2v() -> Tiny:
    pipe = _cogvideox("CogVideoXImageToVideoPipeline", "CogVideoXDPMScheduler", **_COGVIDEOX_I2V)
    return Tiny(pipe, general(image=image()))


@builder
def cogvideox_15() -> Tiny:
    """With padded latent frames: 9 frames are 3 latents, and a patch takes 2."""
    changes = _COGVIDEOX_I2V | {
        "in_channels": 4,
        "patch_size_t": 2,
        "patch_bias": False,
        "use_learned_positional_embeddings": False,
    }
    return Tiny(_cogvideox("CogVideoXPipeline", "CogVideoXDPMScheduler", **changes), general())


# --- LTX --------------------------------------------------------------------------------------------------


def _ltx(name: str, **vae_changes: Any) -> Any:
    import diffusers

    vae: dict[str, Any] = {
        "latent_channels": 8,
        "block_out_channels": (8, 8, 8, 8),
        "decoder_block_out_channels": (8, 8, 8, 8),
        "layers_per_block": (1, 1, 1, 1, 1),
        "decoder_layers_per_block": (1, 1, 1, 1, 1),
        "spatio_temporal_scaling": (True, True, False, False),
        "decoder_spatio_temporal_scaling": (True, True, False, False),
        "decoder_inject_noise": (False, False, False, False, False),
        "upsample_residual": (False, False, False, False),
        "upsample_factor": (1, 1, 1, 1),
        "timestep_conditioning": False,
        "patch_size": 1,
        "patch_size_t": 1,
        "encoder_causal": True,
        "decoder_causal": False,
    }
    return getattr(diffusers, name)(
        tokenizer=None,
        text_encoder=None,
        vae=diffusers.AutoencoderKLLTXVideo(**(vae | vae_changes)),
        transformer=diffusers.LTXVideoTransformer3DModel(
            in_channels=8,
            out_channels=8,
            patch_size=1,
            patch_size_t=1,
            num_attention_heads=4,
            attention_head_dim=8,
            cross_attention_dim=32,
            num_layers=1,
            caption_channels=32,
        ),
        scheduler=flow_euler(shift=1.0, use_dynamic_shifting=True, base_shift=0.95, max_shift=2.05),
    )


def _masked(**more: Any) -> dict[str, Any]:
    mask = torch.ones(1, 16)
    return general(prompt_attention_mask=mask, negative_prompt_attention_mask=mask, **more)


@builder
def ltx() -> Tiny:
    return Tiny(_ltx("LTXPipeline"), _masked())


@builder
def ltx_timestep() -> Tiny:
    """As LTX 0.9.1: the decoder takes a time and draws noise."""
    changes = {
        "timestep_conditioning": True,
        "decoder_inject_noise": (True, False, False, False, False),
    }
    pipe = _ltx("LTXPipeline", **changes)
    return Tiny(pipe, _masked(decode_timestep=0.05, decode_noise_scale=0.0))


@builder
def ltx_i2v() -> Tiny:
    return Tiny(_ltx("LTXImageToVideoPipeline"), _masked(image=image()))


# --- others -----------------------------------------------------------------------------------------------


@builder
def hunyuan_15() -> Tiny:
    import diffusers
    from diffusers.guiders import ClassifierFreeGuidance

    transformer = diffusers.HunyuanVideo15Transformer3DModel(
        in_channels=9,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=8,
        num_layers=1,
        num_refiner_layers=1,
        mlp_ratio=2.0,
        patch_size=1,
        patch_size_t=1,
        text_embed_dim=16,
        text_embed_2_dim=32,
        image_embed_dim=12,
        rope_axes_dim=(2, 2, 4),
        target_size=16,
        task_type="t2v",
    )
    vae = diffusers.AutoencoderKLHunyuanVideo15(
        latent_channels=4,
        block_out_channels=(16, 16),
        layers_per_block=1,
        spatial_compression_ratio=4,
        temporal_compression_ratio=2,
        downsample_match_channel=False,
        upsample_match_channel=False,
    )
    pipe = diffusers.HunyuanVideo15Pipeline(
        text_encoder=None,
        tokenizer=None,
        transformer=transformer,
        vae=vae,
        scheduler=flow_euler(shift=7.0),
        text_encoder_2=None,
        tokenizer_2=None,
        guider=ClassifierFreeGuidance(guidance_scale=3.0),
    )
    call = general(width=16)
    del call["guidance_scale"]
    second = general()
    mask = torch.ones(1, 16)
    for kind in ("prompt_embeds", "negative_prompt_embeds"):
        call |= {f"{kind}_mask": mask, f"{kind}_2": second[kind], f"{kind}_mask_2": mask}
    return Tiny(pipe, call | {"height": 16, "width": 16})


@builder
def hunyuan() -> Tiny:
    import diffusers

    transformer = diffusers.HunyuanVideoTransformer3DModel(
        in_channels=4,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=10,
        num_layers=1,
        num_single_layers=1,
        num_refiner_layers=1,
        patch_size=1,
        patch_size_t=1,
        guidance_embeds=True,
        text_embed_dim=32,
        pooled_projection_dim=8,
        rope_axes_dim=(2, 4, 4),
    )
    vae = diffusers.AutoencoderKLHunyuanVideo(
        latent_channels=4,
        down_block_types=("HunyuanVideoDownBlock3D",) * 4,
        up_block_types=("HunyuanVideoUpBlock3D",) * 4,
        block_out_channels=(8, 8, 8, 8),
        layers_per_block=1,
        norm_num_groups=4,
        mid_block_add_attention=True,
    )
    pipe = diffusers.HunyuanVideoPipeline(
        text_encoder=None,
        tokenizer=None,
        transformer=transformer,
        vae=vae,
        scheduler=flow_euler(shift=7.0),
        text_encoder_2=None,
        tokenizer_2=None,
    )
    call = general(
        prompt_attention_mask=torch.ones(1, 16), pooled_prompt_embeds=torch.full((1, 8), 0.1)
    )
    del call["negative_prompt_embeds"]
    return Tiny(pipe, call)


@builder
def mochi() -> Tiny:
    import diffusers

    transformer = diffusers.MochiTransformer3DModel(
        patch_size=2,
        num_attention_heads=2,
        attention_head_dim=8,
        num_layers=2,
        pooled_projection_dim=16,
        in_channels=12,
        out_channels=None,
        qk_norm="rms_norm",
        text_embed_dim=32,
        time_embed_dim=4,
        activation_fn="swiglu",
        max_sequence_length=16,
    )
    transformer.pos_frequencies.data.zero_()
    vae = diffusers.AutoencoderKLMochi(
        latent_channels=12,
        out_channels=3,
        encoder_block_out_channels=(32, 32, 32, 32),
        decoder_block_out_channels=(32, 32, 32, 32),
        layers_per_block=(1, 1, 1, 1, 1),
    )
    pipe = diffusers.MochiPipeline(
        scheduler=flow_euler(shift=1.0, invert_sigmas=True),
        vae=vae,
        text_encoder=None,
        tokenizer=None,
        transformer=transformer,
    )
    return Tiny(pipe, _masked(frames=7))


@builder
def cosmos2() -> Tiny:
    import diffusers

    transformer = diffusers.CosmosTransformer3DModel(
        in_channels=16 + 1,
        out_channels=16,
        num_attention_heads=2,
        attention_head_dim=16,
        num_layers=2,
        mlp_ratio=2,
        text_embed_dim=32,
        adaln_lora_dim=4,
        max_size=(4, 32, 32),
        patch_size=(1, 2, 2),
        rope_scale=(2.0, 1.0, 1.0),
        concat_padding_mask=False,
        extra_pos_embed_type="learnable",
    )
    pipe = diffusers.Cosmos2VideoToWorldPipeline(
        text_encoder=None,
        tokenizer=None,
        transformer=transformer,
        vae=wan_vae(),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(use_karras_sigmas=True),
        safety_checker=Harmless(),
    )
    return Tiny(pipe, general(frames=SHORT, image=image_tensor()))


class Harmless(nn.Module):
    """In the place of a safety checker."""

    device, dtype = torch.device("cpu"), torch.float32

    def check_text_safety(self, *_: Any, **__: Any) -> bool:
        return True

    def check_video_safety(self, video: Any) -> Any:
        return video


NAMES: tuple[str, ...] = tuple(BUILDERS)


@functools.cache
def plain_latents(name: str, seed: int = 0) -> Tensor:
    """What the pipeline makes without us."""
    return tiny(name).latents(seed)
