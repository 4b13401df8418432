"""The embedded MAGI-1 as a pipeline of diffusers, and the family that describes it.

    pipe = MagiPipeline(magi_generator.tiny(device=device), context_frames=8)
    with guide_pipeline(pipe, reward, 0.15, family=MagiContinuation):
        videos = pipe(asked, noise)

It has what those pipelines have: a transformer, a VAE, diffusers' own Euler scheduler, and a call that goes
from noise to video through the scheduler's ``step()``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from benchmarks.shared.magi_generator import Asked, MagiGenerator
from magi1.errors import MagiUsageError
from magi1.sampling.schedule import chunk_calls
from magi1.sampling.velocity import MagiVelocity
from magi1.tiling import tiled_decode
from wmreward.pipelines.families.base import Family


class MagiPipeline:
    """Continues videos by one chunk: all new frames are denoised together, as diffusers' pipelines do it.

    Args:
        magi: Networks, times and settings.
        context_frames: Given frames that rewards see before the new ones.
    """

    def __init__(self, magi: MagiGenerator, context_frames: int) -> None:
        from diffusers import FlowMatchEulerDiscreteScheduler

        self.magi, self.context_frames = magi, context_frames
        self.transformer, self.vae = magi.networks.dit, magi.networks.vae
        self.scheduler: Any = FlowMatchEulerDiscreteScheduler()

    @torch.no_grad()
    def __call__(self, asked: Asked, latents: Tensor) -> Tensor:
        """New frames ``[B, 3, T, H, W]`` in about [−1, 1].

        Args:
            asked: Prompts and given videos, encoded: whole chunks of given latents.
            latents: Noise of the new latent frames, ``[B, C, T, H/8, W/8]``.

        Raises:
            MagiUsageError: other than one chunk after whole chunks.
        """
        layout, magi = asked.layout, self.magi
        if (
            asked.prefix is None
            or layout.prefix % layout.chunk_width
            or layout.chunks != 1 + layout.offset
        ):
            raise MagiUsageError(
                "this pipeline continues whole chunks of given frames by one chunk"
            )
        config = replace(magi.networks.config, runtime_config=asked.runtime)
        velocity = MagiVelocity(self.transformer, config, asked.texts)
        velocity.fill(asked.prefix, 0, count=layout.offset, given=layout.offset)
        self.scheduler.set_timesteps(sigmas=(1 - magi.times[:-1]).tolist(), device=latents.device)
        calls = chunk_calls(layout, asked.runtime)
        for call, timestep in zip(calls, self.scheduler.timesteps, strict=True):
            # MAGI-1's own time, not the timestep: between two guidance scales its last digit decides.
            output = -velocity(call, latents, magi.times[list(call.steps)])
            latents = self.scheduler.step(output, timestep, latents, return_dict=False)[0]
        return self.decode(latents)

    def decode(self, latents: Tensor) -> Tensor:
        """Latents to video; differentiable."""
        networks = self.magi.networks
        return tiled_decode(self.vae, latents / self.magi.runtime.scale_factor, networks.tiling)


class MagiContinuation(Family):
    """Rewards see the last given frames before the new ones, as in MAGI-1's own loop."""

    pipelines = frozenset({"MagiPipeline"})

    def __init__(self, pipe: Any, call: Mapping[str, Any]) -> None:
        super().__init__(pipe, call)
        unit = pipe.magi.networks.decode_unit
        self._before = unit * -(-pipe.context_frames // (unit * self.temporal_factor))
        """Given latent frames that are decoded for them: whole units of the decoder."""

    def complete(self, latents: Tensor) -> Tensor:
        if not self._before:
            return latents
        given = self.call["asked"].prefix[:, :, -self._before :]
        return torch.cat((given.to(latents), latents), dim=2)

    def decode(self, latents: Tensor) -> Tensor:
        video: Tensor = self.pipe.decode(latents)
        return video[:, :, -self.frames(latents.shape[2]) :]

    def frames(self, latent_frames: int) -> int:
        new = latent_frames - self._before
        return int(self.pipe.context_frames + new * self.temporal_factor)

    @property
    def given_frames(self) -> int:
        return int(self.pipe.context_frames)

    @property
    def temporal_factor(self) -> int:
        return int(self.pipe.magi.runtime.temporal_downsample_factor)
