"""LTX-Video."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from wmreward.pipelines.families.base import Family, statistics


class LTX(Family):
    """From text: latents are a sequence of patches."""

    pipelines = frozenset({"LTXPipeline"})
    sees_ahead = True
    size_unit = 32

    def unpack(self, sample: Tensor) -> Tensor:
        call, pipe = self.call, self.pipe
        patch, patch_t = pipe.transformer_spatial_patch_size, pipe.transformer_temporal_patch_size
        side = pipe.vae_spatial_compression_ratio * patch
        return rearrange(
            sample,
            "b (f h w) (c pt ph pw) -> b c (f pt) (h ph) (w pw)",
            h=call["height"] // side,
            w=call["width"] // side,
            pt=patch_t,
            ph=patch,
            pw=patch,
        )

    def pack(self, latents: Tensor) -> Tensor:
        patch = self.pipe.transformer_spatial_patch_size
        return rearrange(
            latents,
            "b c (f pt) (h ph) (w pw) -> b (f h w) (c pt ph pw)",
            pt=self.pipe.transformer_temporal_patch_size,
            ph=patch,
            pw=patch,
        )

    def denormalised(self, latents: Tensor) -> Tensor:
        vae = self.pipe.vae
        mean, std = statistics(latents, vae.latents_mean, vae.latents_std)
        return latents * std / vae.config.scaling_factor + mean

    def decode(self, latents: Tensor) -> Tensor:
        """Without the noise that the pipeline may add before it decodes for good."""
        vae = self.pipe.vae
        latents = self.denormalised(latents).to(vae.dtype)
        time: Any = None
        if vae.config.timestep_conditioning:
            asked = self.call["decode_timestep"]
            asked = asked[0] if isinstance(asked, list) else asked
            time = torch.full((len(latents),), asked, device=latents.device, dtype=latents.dtype)
        video: Tensor = vae.decode(latents, time, return_dict=False)[0]
        return video

    @classmethod
    def time_unit(cls, vae: Mapping[str, Any]) -> int:
        if ratio := vae.get("temporal_compression_ratio"):
            return int(ratio)
        scaled = vae.get("spatio_temporal_scaling", (True, True, True, False))
        return int(vae.get("patch_size_t", 1) * 2 ** sum(scaled))


class LTXImage(LTX):
    """From an image: it is the first latent frame, which the scheduler does not see."""

    pipelines = frozenset({"LTXImageToVideoPipeline"})
    given_frames = 1
    needs_image = True
    watches = True

    def unpack(self, sample: Tensor) -> Tensor:
        return sample

    def pack(self, latents: Tensor) -> Tensor:
        return latents

    def complete(self, latents: Tensor) -> Tensor:
        seen = super().unpack(self.shown["hidden_states"])[: len(latents), :, :1]
        return torch.cat((seen.to(latents), latents), dim=2)
