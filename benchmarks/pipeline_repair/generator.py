"""The same generator as :mod:`benchmarks.shared.magi_generator`, by way of `guide_pipeline`.

python -m benchmarks.physics_repair --tasks video --generator benchmarks.pipeline_repair.generator:tiny
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from benchmarks.physics_repair.guides import GuideMaker
from benchmarks.pipeline_repair.pipeline import MagiContinuation, MagiPipeline
from benchmarks.shared import magi_generator
from benchmarks.shared.magi_generator import Asked, MagiGenerator
from magi1.errors import MagiUsageError
from magi1.sampling.sampler import make_noise
from wmreward.pipelines import guide_pipeline
from wmreward.pipelines.guide import MOST_VIDEOS
from wmreward.steering.guidance import Guidance


class PipelineGenerator:
    """A :class:`benchmarks.shared.generators.Generator` that continues videos by one chunk.

    Args:
        magi: What generates.
        make_guide: Makes the guide of each batch, whose reward and settings are taken and that is given the
            records of what guided instead.
    """

    def __init__(self, magi: MagiGenerator, make_guide: GuideMaker | None = None) -> None:
        self.magi, self.make_guide = magi, make_guide

    def describe(self) -> dict[str, Any]:
        return self.magi.describe() | {"through": "guide_pipeline"}

    def reconstruct(self, videos: Tensor) -> Tensor:
        return self.magi.reconstruct(videos)

    def from_image(
        self, images: Tensor, frames: int, prompts: Sequence[str], seeds: Sequence[int]
    ) -> Tensor:
        raise MagiUsageError("this pipeline only continues videos: --tasks video")

    def from_text(self, prompts: Sequence[str], frames: int, seeds: Sequence[int]) -> Tensor:
        raise MagiUsageError("this pipeline only continues videos: --tasks video")

    def continue_video(
        self, prefix: Tensor, frames: int, prompts: Sequence[str], seeds: Sequence[int]
    ) -> Tensor:
        parts = []
        for start in range(0, len(seeds), MOST_VIDEOS):
            rows = slice(start, start + MOST_VIDEOS)
            asked = self.magi.ask(prompts[rows], frames, prefix[rows])
            parts.append(self._continued(asked, self._noise(asked, seeds[rows])))
        return (torch.cat(parts)[:, :, :frames].float() / 2 + 0.5).clamp(0, 1)

    def _noise(self, asked: Asked, seeds: Sequence[int]) -> Tensor:
        """What MAGI-1 begins the new chunk with."""
        layout, runtime = asked.layout, asked.runtime
        channels = self.magi.networks.config.model_config.latent_channels
        size = (runtime.latent_height, runtime.latent_width)
        noise = torch.cat([make_noise(layout, channels, *size, seed) for seed in seeds])
        return noise[:, :, layout.prefix :].to(self.magi.device)

    def _continued(self, asked: Asked, noise: Tensor) -> Tensor:
        if self.make_guide is None:
            return MagiPipeline(self.magi, 0)(asked, noise)
        guide = self.make_guide()
        if not isinstance(guide, Guidance):
            raise MagiUsageError("trust is not there on this way")
        schedule = guide.config.schedule
        scales = schedule.scales[: len(self.magi.times) - 1]
        config = replace(guide.config, schedule=replace(schedule, scales=scales))
        pipe = MagiPipeline(self.magi, config.context_frames)
        with guide_pipeline(pipe, guide.reward, config, family=MagiContinuation) as guided:  # type: ignore[arg-type]
            made = pipe(asked, noise)
        guide.records.extend(guided.records)
        return made


def tiny(
    *, device: torch.device, make_guide: GuideMaker | None = None, **settings: Any
) -> PipelineGenerator:
    """The embedded generator; see `benchmarks.shared.magi_generator.tiny` for the settings."""
    return PipelineGenerator(magi_generator.tiny(device=device, **settings), make_guide)
