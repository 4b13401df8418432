"""CogVideoX and CogVideoX 1.5."""

from __future__ import annotations

from torch import Tensor

from wmreward.pipelines.families.base import Family


class CogVideoX(Family):
    """From text. Frames come before channels. The decoder takes latent frames two by two, the first three
    together if their number is odd; if it is even, all frames are other ones.
    """

    pipelines = frozenset({"CogVideoXPipeline"})
    fps = 8
    slice_unit = 2

    def unpack(self, sample: Tensor) -> Tensor:
        return sample.transpose(1, 2)

    def pack(self, latents: Tensor) -> Tensor:
        return latents.transpose(1, 2)

    @property
    def padding(self) -> int:
        """Latent frames in front that the pipeline adds for 1.5, whose patches take two, and drops."""
        patch = self.pipe.transformer.config.patch_size_t
        frames = self.call["num_frames"] or self._trained_frames
        return -((frames - 1) // self.temporal_factor + 1) % patch if patch else 0

    @property
    def _trained_frames(self) -> int:
        return int(self.pipe.transformer.config.sample_frames)

    def complete(self, latents: Tensor) -> Tensor:
        return latents[:, :, self.padding :]

    def denormalised(self, latents: Tensor) -> Tensor:
        return latents / self.pipe.vae_scaling_factor_image

    @classmethod
    def shown_frames(cls, latent_frames: int, unit: int) -> int:
        even = latent_frames % 2 == 0
        return unit * latent_frames if even else super().shown_frames(latent_frames, unit)


class CogVideoXImage(CogVideoX):
    """From an image, which the transformer sees in extra channels."""

    pipelines = frozenset({"CogVideoXImageToVideoPipeline"})
    needs_image = True

    given_frames = 1

    @property
    def given(self) -> int:
        return self.padding + 1
