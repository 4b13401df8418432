"""HunyuanVideo, Mochi and Cosmos-Predict2: families that are described in a few lines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from wmreward.pipelines.coordinates import Position, edm_position
from wmreward.pipelines.families.base import Family, statistics
from wmreward.pipelines.families.wan import Wan


class Hunyuan(Family):
    """HunyuanVideo and HunyuanVideo 1.5, from text."""

    pipelines = frozenset({"HunyuanVideoPipeline", "HunyuanVideo15Pipeline"})


class Mochi(Family):
    """Mochi 1; its time runs from noise to data, as ours."""

    pipelines = frozenset({"MochiPipeline"})
    fps = 30

    def denormalised(self, latents: Tensor) -> Tensor:
        config = self.pipe.vae.config
        if config.latents_mean is None or config.latents_std is None:
            return latents / config.scaling_factor
        mean, std = statistics(latents, config.latents_mean, config.latents_std)
        return latents * std / config.scaling_factor + mean

    @classmethod
    def time_unit(cls, vae: Mapping[str, Any]) -> int:
        return 6  # of the pipeline, whatever its VAE


class Cosmos2(Wan):
    """Cosmos-Predict2 from an image or a video: the transformer's mask says which frames are given."""

    pipelines = frozenset({"Cosmos2VideoToWorldPipeline"})
    needs_image = True
    watches = True

    def position(self, scheduler: Any, timestep: Any) -> Position:
        return edm_position(scheduler, timestep)

    @property
    def given(self) -> int:
        return int(self.shown["condition_mask"][0, 0, :, 0, 0].sum())

    def denormalised(self, latents: Tensor) -> Tensor:
        config = self.pipe.vae.config
        mean, std = statistics(latents, config.latents_mean, config.latents_std)
        return latents * std / self.pipe.scheduler.config.sigma_data + mean
