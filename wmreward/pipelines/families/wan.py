"""Wan 2.1 and 2.2, and others with its VAE."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from wmreward.pipelines.families.base import Family, statistics


class Wan(Family):
    """Wan 2.1 1.3B and 14B, 2.2 A14B (two experts) and 5B, from text; SkyReels-V2 from text."""

    pipelines = frozenset({"WanPipeline", "SkyReelsV2Pipeline"})
    fps = 16

    def denormalised(self, latents: Tensor) -> Tensor:
        config = self.pipe.vae.config
        mean, std = statistics(latents, config.latents_mean, config.latents_std)
        return latents * std + mean

    @classmethod
    def time_unit(cls, vae: Mapping[str, Any]) -> int:
        return int(2 ** sum(vae.get("temperal_downsample", (False, True, True))))


class WanImage(Wan):
    """The same from an image. The transformer sees it in extra channels, and the first frame is generated,
    too; in the 5B the image takes the place of the first latent frame whenever the transformer looks, and at
    the end, and what the sample has there means nothing.
    """

    pipelines = frozenset({"WanImageToVideoPipeline"})
    needs_image = True
    given = 1

    @property
    def watches(self) -> bool:
        return bool(self.pipe.config.expand_timesteps)

    def complete(self, latents: Tensor) -> Tensor:
        if not self.watches:
            return latents
        image = self.shown["hidden_states"][:, :, :1].to(latents)
        return torch.cat((image, latents[:, :, 1:]), dim=2)
