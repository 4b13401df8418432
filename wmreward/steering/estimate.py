"""What a video is about to become, as a reward sees it: clean estimates after the finished frames."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from wmreward.protocols import ContinuationReward, DenoiseStep, RewardScores
from wmreward.steering.checks import checked_scores, gradient_of
from wmreward.steering.keep_edges import edge_energy, without_blur
from wmreward.steering.pullback import decoded


@dataclass
class EstimateReward:
    """The reward of clean estimates, shown after the last finished frames.

    Args:
        reward: Scores ``[B, 3, T, H, W]`` in about [−1, 1], in float32 or more. One that wants to know where
            given frames end (`ContinuationReward`) judges every chunk in flight as the continuation of what
            comes before it.
        context_frames: Frames that are shown before those that are judged, at most.
        batch_size: Videos that are decoded and scored, or differentiated, at once.
        keep_edges: Whether the gradient may not blur; edges are those of all that is shown.
    """

    reward: Callable[[Tensor], RewardScores]
    context_frames: int
    batch_size: int = 32
    keep_edges: bool = False
    _seen: tuple[Tensor, Tensor] | None = field(default=None, repr=False)

    def __call__(self, step: DenoiseStep, clean: Tensor) -> Tensor:
        """Rewards ``[B]`` of the clean latents of the first frames in flight."""
        with torch.no_grad():
            portions = self._portions(len(clean))
            videos = (self._shown(step, step.decode(clean[rows]), rows) for rows in portions)
            return torch.cat([self._score(step, video) for video in videos])

    def gradient(self, step: DenoiseStep, clean: Tensor) -> tuple[Tensor, Tensor]:
        """Rewards ``[B]``, and the gradient of each with respect to its clean latents."""
        rewards: list[Tensor] = []
        gradients: list[Tensor] = []
        for rows in self._portions(len(clean)):
            video, pull_back = decoded(step.decode, clean[rows])
            pixels = self._shown(step, video, rows).requires_grad_()
            with torch.enable_grad():
                scores = self._score(step, pixels)
                towards = [gradient_of(scores, pixels)]
                if self.keep_edges:
                    towards.append(gradient_of(edge_energy(pixels), pixels, "the edge energy"))
            rewards.append(scores.detach())
            new = [part[:, :, -video.shape[2] :].to(video.dtype) for part in towards]
            gradient, *sharpens = pull_back(new)
            if self.keep_edges:
                gradient = without_blur(gradient, sharpens[0], step.chunk_width)
            gradients.append(gradient)
        return torch.cat(rewards), torch.cat(gradients)

    def _portions(self, count: int) -> list[slice]:
        starts = range(0, count, self.batch_size)
        return [slice(start, start + self.batch_size) for start in starts]

    def _shown(self, step: DenoiseStep, video: Tensor, rows: slice) -> Tensor:
        """What a reward is shown of some videos of the batch: what came before, then what was decoded."""
        context = self.context(step)
        if context is not None:
            video = torch.cat((context[rows], video), dim=2)
        # Half precision keeps 8 bits of a grey value: too few for a reward.
        return video.to(torch.promote_types(video.dtype, torch.float32))

    def _score(self, step: DenoiseStep, video: Tensor) -> Tensor:
        context = self.context(step)
        shown = 0 if context is None else context.shape[2]
        return checked_scores(self._judged(step, video, shown), video)

    def _judged(self, step: DenoiseStep, video: Tensor, shown: int) -> RewardScores:
        """The reward of a video that begins with ``shown`` finished frames."""
        if not isinstance(self.reward, ContinuationReward):
            return self.reward(video)
        scores = []
        length = step.chunk_width * step.frames_per_latent
        given = shown + step.given * step.frames_per_latent
        for begin in range(shown, video.shape[2], length):
            end, seam = begin + length, max(begin, given)
            if seam < end:
                first = max(0, seam - self.context_frames)
                piece = video[:, :, first:end]
                scores.append(checked_scores(self.reward.after(piece, seam - first), piece))
        return RewardScores(torch.stack(scores).mean(dim=0), {})

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
