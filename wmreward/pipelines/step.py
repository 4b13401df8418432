"""One step of a pipeline's scheduler, as guidance sees it: all latent frames in one chunk."""

from __future__ import annotations

import torch
from torch import Tensor

from wmreward.errors import UsageError
from wmreward.pipelines.coordinates import Position
from wmreward.pipelines.decoding import Decoder
from wmreward.pipelines.families.base import Family


class PipelineStep:
    """A `wmreward.protocols.DenoiseStep`.

    Args:
        family: Knows the pipeline.
        position: Where the scheduler is.
        sample, output: Its state and the model output, in the scheduler's shape.
        decoder: To the video.
        turn: How many steps were guided before this one.
    """

    first_chunk = 0

    def __init__(
        self,
        family: Family,
        position: Position,
        sample: Tensor,
        output: Tensor,
        decoder: Decoder,
        turn: int,
    ) -> None:
        self.family, self.position, self.decoder, self.turn = family, position, decoder, turn
        exact = torch.promote_types(sample.dtype, torch.float32)
        level, x = position.level, family.unpack(sample.to(exact))
        clean = position.prediction.clean(level, x, family.unpack(output.to(exact)))
        self.latents = x / level.size
        self.velocity = (clean - self.latents) / (1 - level.time)
        self.times = torch.tensor([level.time], dtype=torch.float64)
        self.next_times = torch.tensor([position.following.time], dtype=torch.float64)
        self.steps = (position.index,)
        self.given = family.given
        self.chunk_width = self.decode_unit = x.shape[2]
        self.frames_per_latent = family.temporal_factor
        self.finished = x[:, :, :0]

    def clean_estimate(self, latents: Tensor, velocity: Tensor) -> Tensor:
        """x₀."""
        return latents + (1 - self.position.level.time) * velocity

    def decode(self, latents: Tensor) -> Tensor:
        """The video that is scored."""
        return self.decoder(latents, self.turn)

    def model(self, latents: Tensor) -> Tensor:
        """The transformer is out of reach: the pipeline calls it, not we."""
        raise UsageError("guidance through=dit cannot be had here: use through=x0")

    def resample(self, ancestors: Tensor) -> None:
        """Neither is the batch."""
        raise UsageError("particles cannot be had here: choose among candidates instead")

    def output(self, velocity: Tensor) -> Tensor:
        """The model output that stands for another velocity, in the scheduler's shape."""
        time, level = self.position.level.time, self.position.level
        clean = self.latents + (1 - time) * velocity
        noise = self.latents - time * velocity
        return self.family.pack(self.position.prediction.output(level, clean, noise))
