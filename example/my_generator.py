"""A generator of one's own, ready to be steered: each denoising step is shown to a guide."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from wmreward.protocols import DenoiseStep

Flow = Callable[[Tensor, Tensor], Tensor]  # latents and their time → velocity; differentiable
Decoder = Callable[
    [Tensor], Tensor
]  # latents → video [B, 3, T', H', W'] in [-1, 1]; differentiable


@dataclass
class Step:
    latents: Tensor  # x_t, [B, C, T, H, W]
    velocity: Tensor  # the generator's own, like latents
    times: Tensor  # [1]; 0 is noise, 1 is data: one chunk, so one time
    next_times: Tensor
    steps: tuple[int, ...]  # which step it is, from 0
    flow: Flow
    decoder: Decoder
    frames_per_latent: int
    first_chunk: int = 0
    given: int = 0  # latent frames that were given, not generated
    ancestors: Tensor | None = None  # rows of the batch to go on with

    @property
    def chunk_width(self) -> int:
        return self.latents.shape[2]

    decode_unit = chunk_width

    @property
    def finished(self) -> Tensor:
        return self.latents[:, :, :0]  # nothing before this chunk

    def clean_estimate(self, latents: Tensor, velocity: Tensor) -> Tensor:
        return latents + (1 - self.times) * velocity

    def model(self, latents: Tensor) -> Tensor:
        return self.flow(latents, self.times)

    @property
    def decode(self) -> Decoder:
        return self.decoder  # itself: it may pull gradients back, too (`PullsBack`)

    def resample(self, ancestors: Tensor) -> None:
        self.ancestors = ancestors


def sample(
    flow: Flow, decoder: Decoder, noise: Tensor, steps: int, guide: Callable[[DenoiseStep], Tensor]
) -> Tensor:
    """Noise [B, C, T, H, W] → video; `guide` returns the velocity that each step takes."""
    times, x = torch.linspace(0, 1, steps + 1), noise
    for i in range(steps):
        now, after = times[i : i + 1], times[i + 1 : i + 2]
        step = Step(x, flow(x, now), now, after, (i,), flow, decoder, frames_per_latent=2)
        x = x + (after - now) * guide(step)
        x = x if step.ancestors is None else x[step.ancestors]
    return decoder(x)
