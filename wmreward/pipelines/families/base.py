"""What a family of pipelines has of its own; a new family changes what differs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from wmreward.pipelines.coordinates import Position, places_of


class Family:
    """How pipelines of one kind hold their latents and decode them. One is made for every call.

    Args:
        pipe: The pipeline.
        call: What it was called with, defaults included, by name.

    Attributes:
        pipelines: Names of the classes.
        shown: What the transformer was last called with, by name, if ``watches``.
        needs_image: Whether a call must start from an image.
        fps: Frames per second of what it was trained on.
        slice_unit: Latent frames that the decoder takes together: slices begin at multiples of it.
        sees_ahead: Whether frames also depend on later latents.
        size_unit: Pixels that height and width must be multiples of.
    """

    pipelines: ClassVar[frozenset[str]] = frozenset()
    needs_image: ClassVar[bool] = False
    fps: ClassVar[int] = 24
    slice_unit: ClassVar[int] = 1
    sees_ahead: ClassVar[bool] = False
    size_unit: ClassVar[int] = 16

    def __init__(self, pipe: Any, call: Mapping[str, Any]) -> None:
        self.pipe, self.call = pipe, call
        self.shown: Mapping[str, Any] = {}

    @property
    def watches(self) -> bool:
        """Whether ``shown`` is needed."""
        return False

    # --- the scheduler ------------------------------------------------------------------------------------

    def position(self, scheduler: Any, timestep: Any) -> Position:
        """Where a step of the scheduler is."""
        return places_of(scheduler)(scheduler, timestep)

    # --- its sample ---------------------------------------------------------------------------------------

    def unpack(self, sample: Tensor) -> Tensor:
        """The scheduler's sample → latents ``[B, C, T, H, W]``."""
        return sample

    def pack(self, latents: Tensor) -> Tensor:
        """The inverse of ``unpack``."""
        return latents

    @property
    def given(self) -> int:
        """How many of the first latent frames are given: they are not pushed."""
        return 0

    @property
    def given_frames(self) -> int:
        """How many of the first frames of the video are given, those that ``complete`` puts in included:
        rewards may judge by where they end.
        """
        return self.frames(self.given) if self.given else 0

    # --- the video ----------------------------------------------------------------------------------------

    def complete(self, latents: Tensor) -> Tensor:
        """Clean latents → those that become the video, with what the pipeline puts in or leaves out."""
        return latents

    def denormalised(self, latents: Tensor) -> Tensor:
        """Complete latents → what the VAE takes."""
        return latents / self.pipe.vae.config.scaling_factor

    def decode(self, latents: Tensor) -> Tensor:
        """Complete latents ``[B, C, T, H, W]`` → ``[B, 3, F, H, W]`` in about [−1, 1]; differentiable."""
        vae = self.pipe.vae
        video: Tensor = vae.decode(self.denormalised(latents).to(vae.dtype), return_dict=False)[0]
        return video

    def frames(self, latent_frames: int) -> int:
        """Frames of video that so many latent frames become."""
        return self.shown_frames(latent_frames, self.temporal_factor)

    @property
    def temporal_factor(self) -> int:
        """Frames of video that a latent frame stands for, but the first, which stands for one."""
        return self.time_unit(self.pipe.vae.config)

    # --- before anything is loaded ------------------------------------------------------------------------

    @classmethod
    def time_unit(cls, vae: Mapping[str, Any]) -> int:
        """The same, from the configuration of the VAE."""
        return int(vae.get("temporal_compression_ratio") or 4)

    @classmethod
    def shown_frames(cls, latent_frames: int, unit: int) -> int:
        """See `frames`; ``unit`` is the temporal factor."""
        return unit * (latent_frames - 1) + 1

    @classmethod
    def fitting(cls, frames: int, unit: int) -> tuple[int, ...]:
        """``frames`` alone if a video can be so long; else the nearest lengths that one can have."""
        latent = (frames - 1) // unit + 1
        lengths = sorted({cls.shown_frames(n, unit) for n in range(max(1, latent - 1), latent + 2)})
        if frames in lengths:
            return (frames,)
        below, above = ([n for n in lengths if n < frames], [n for n in lengths if n > frames])
        return (*below[-1:], *above[:1])


def statistics(latents: Tensor, mean: Any, std: Any) -> tuple[Tensor, Tensor]:
    """A VAE's mean and standard deviation of each channel, to be combined with ``[B, C, T, H, W]``."""

    def shaped(values: Any) -> Tensor:
        return torch.as_tensor(values).to(latents).view(1, -1, 1, 1, 1)

    return shaped(mean), shaped(std)
