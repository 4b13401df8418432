"""Video tensors → surprise, batched over windows and videos, differentiable in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from wmreward.aggregate import aggregate, select_windows
from wmreward.config import SurpriseConfig
from wmreward.protocols import WorldModel
from wmreward.surprise import window_surprise
from wmreward.windows import gather_windows, window_starts


class WindowScores(NamedTuple):
    """Surprise of all windows of a batch of videos.

    Attributes:
        values: ``[B, W]``.
        maps: Per token, ``[B, W, t, g, g]``; ``None`` where the similarity has no map.
    """

    values: Tensor
    maps: Tensor | None


class SurpriseScorer:
    """The surprise of a world model as a function of a video.

    Args:
        model: Any :class:`wmreward.protocols.WorldModel`; its parameters are expected not to
            require gradients.
        config: What is computed.
        batch_size: Windows per forward pass. More is faster until the device is busy and costs
            memory in proportion.
        grad_batch_size: Windows per forward-and-backward pass.
    """

    def __init__(
        self,
        model: WorldModel,
        config: SurpriseConfig | None = None,
        *,
        batch_size: int = 32,
        grad_batch_size: int = 4,
    ) -> None:
        self.model = model
        self.config = config or SurpriseConfig()
        self.batch_size = batch_size
        self.grad_batch_size = grad_batch_size

    @property
    def target_offset(self) -> int:
        """Frames from a window's start to its first predicted frame: the context in whole tubelets."""
        tubelet = self.model.config.tubelet
        return self.config.context_frames // tubelet * tubelet

    def __call__(self, video: Tensor) -> Tensor:
        """Score each video: ``[B, 3, T, H, W]`` in [−1, 1] → ``[B]``.

        Differentiable with respect to ``video`` (once, not twice). Windows are processed
        ``grad_batch_size`` at a time and their gradients added up, so memory does not grow with
        the length of the video. Rules that keep few windows (max, median, topk) score first and
        then differentiate only those.
        """
        if video.requires_grad and torch.is_grad_enabled():
            return _ChunkedScore.apply(video, self)  # type: ignore[no-any-return]
        return aggregate(self.score_windows(video).values, self.config.mode)

    def score_windows(self, video: Tensor) -> WindowScores:
        """Score every window of ``[B, 3, T, H, W]`` in [−1, 1], by plain autograd if the video
        requires gradients.
        """
        return self.score_pixels(self.model.preprocess(video))

    def score_pixels(self, pixels: Tensor) -> WindowScores:
        """Score every window of preprocessed ``[B, 3, T, crop, crop]``."""
        starts = window_starts(pixels.shape[2], self.config.window_size, self.config.stride)
        which = [(video, start) for video in range(len(pixels)) for start in starts]
        values, maps = [], []
        for chunk in even_chunks(which, self.batch_size):
            value, token_map = self._score_chunk(pixels, chunk)
            values.append(value)
            maps.append(token_map)
        shape = (len(pixels), len(starts))
        grid = self.model.config.grid
        return WindowScores(
            torch.cat(values).view(shape),
            None
            if maps[0] is None
            else torch.cat([m for m in maps if m is not None])
            .unflatten(-1, (grid, grid))
            .unflatten(0, shape),
        )

    def _score_chunk(
        self, pixels: Tensor, which: Sequence[tuple[int, int]]
    ) -> tuple[Tensor, Tensor | None]:
        windows = gather_windows(pixels, which, self.config.window_size)
        latents = self.model.future_latents(
            windows, self.config.context_frames, context_grad=self.config.context_grad
        )
        return window_surprise(latents, self.config)

    def score_and_gradient(self, video: Tensor) -> tuple[Tensor, Tensor]:
        """Scores ``[B]`` and their gradient ``[B, 3, T, H, W]``: each video's own score with
        respect to it.
        """
        leaf = video.detach().requires_grad_()
        with torch.enable_grad():
            pixels = self.model.preprocess(leaf)
        scores, pixel_gradient = self._pixel_gradient(pixels.detach())
        (gradient,) = torch.autograd.grad(pixels, leaf, pixel_gradient)
        return scores, gradient

    def _pixel_gradient(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        starts = window_starts(pixels.shape[2], self.config.window_size, self.config.stride)
        if self.config.mode == "mean":
            chosen = torch.arange(len(starts)).expand(len(pixels), -1)
        else:
            with torch.no_grad():
                chosen = select_windows(self.score_pixels(pixels).values, self.config.mode)
        share = 1 / chosen.shape[1]
        which = [(b, starts[i]) for b, row in enumerate(chosen.tolist()) for i in row]
        gradient, values = torch.zeros_like(pixels), []
        for chunk in even_chunks(which, self.grad_batch_size):
            leaf = gather_windows(pixels, chunk, self.config.window_size).requires_grad_()
            with torch.enable_grad():
                latents = self.model.future_latents(
                    leaf, self.config.context_frames, context_grad=self.config.context_grad
                )
                value, _ = window_surprise(latents, self.config)
            (part,) = torch.autograd.grad(value, leaf, torch.full_like(value, share))
            for (video, start), window in zip(chunk, part, strict=True):
                gradient[video, :, start : start + self.config.window_size] += window
            values.append(value.detach())
        return torch.cat(values).view(chosen.shape).mean(dim=1), gradient


class _ChunkedScore(torch.autograd.Function):
    """Computes score and gradient together in the forward pass, as each chunk's graph is freed at once."""

    @staticmethod
    def forward(ctx: Any, video: Tensor, scorer: SurpriseScorer) -> Tensor:
        scores, gradient = scorer.score_and_gradient(video)
        ctx.save_for_backward(gradient)
        return scores

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_scores: Tensor) -> tuple[Tensor, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * grad_scores.to(gradient.dtype)[:, None, None, None, None], None


def even_chunks(
    items: Sequence[tuple[int, int]], size: int
) -> Iterator[Sequence[tuple[int, int]]]:
    """Split into the fewest chunks of at most ``size``, as equal as can be.

    Equal shapes keep compiled kernels from being built again for an odd last chunk.
    """
    count = -(-len(items) // size)
    step, extra = divmod(len(items), count)
    start = 0
    for i in range(count):
        end = start + step + (i < extra)
        yield items[start:end]
        start = end
