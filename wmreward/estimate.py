"""What a video is about to become, as a reward sees it: clean estimates after the finished frames."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from wmreward.protocols import DenoiseStep, RewardScores


@dataclass
class EstimateReward:
    """The reward of clean estimates, shown after the last finished frames.

    Args:
        reward: Scores ``[B, 3, T, H, W]`` in about [−1, 1], in float32 or more.
        context_frames: Finished frames that are shown, at most.
    """

    reward: Callable[[Tensor], RewardScores]
    context_frames: int
    _seen: tuple[Tensor, Tensor] | None = field(default=None, repr=False)

    def __call__(self, step: DenoiseStep, clean: Tensor) -> Tensor:
        """Rewards ``[B]`` of the clean latents of the first frames in flight; differentiable in them."""
        video, context = step.decode(clean), self.context(step)
        if context is not None:
            video = torch.cat((context, video), dim=2)
        # Half precision keeps 8 bits of a grey value: too few for a reward.
        return self.reward(video.to(torch.promote_types(video.dtype, torch.float32))).scores

    def frames(self, step: DenoiseStep, latent_frames: int) -> int:
        """How many frames a reward sees of so many latent frames in flight."""
        context = self.context(step)
        shown = 0 if context is None else context.shape[2]
        return shown + latent_frames * step.frames_per_latent

    def context(self, step: DenoiseStep) -> Tensor | None:
        """The last finished frames, ``[B, 3, T, H, W]``: whole decoder units, then cut to length.

        They are the same for all steps of a stage, unless the batch was resampled.
        """
        if not (step.finished.shape[2] and self.context_frames):
            return None
        units = -(-self.context_frames // (step.decode_unit * step.frames_per_latent))
        shown = step.finished[:, :, -units * step.decode_unit :]
        if self._seen is None or not torch.equal(self._seen[0], shown):
            with torch.no_grad():
                self._seen = (shown.clone(), step.decode(shown)[:, :, -self.context_frames :])
        return self._seen[1]
