"""Video tensors → surprise, batched over windows and videos, differentiable in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, get_args

import torch
from torch import Tensor

from wmreward.errors import UsageError
from wmreward.protocols import Latents, WorldModel
from wmreward.surprise.aggregate import aggregate, select_windows
from wmreward.surprise.config import ScoreRule, SurpriseConfig
from wmreward.surprise.tokens import copy_surprise, window_surprise
from wmreward.surprise.windows import gather_windows, window_starts


class WindowScores(NamedTuple):
    """Surprise of all windows of a batch of videos.

    Attributes:
        values: ``[B, W]``.
        maps: Per token, ``[B, W, t, g, g]``; ``None`` where the similarity has no map.
    """

    values: Tensor
    maps: Tensor | None


class GradientScores(NamedTuple):
    """Scores of a batch of videos, their gradient, and the windows they come from.

    Attributes:
        scores: ``[B]``.
        gradient: ``[B, 3, T, H, W]``: each video's own score with respect to it.
        windows: All windows, without gradient.
    """

    scores: Tensor
    gradient: Tensor
    windows: WindowScores


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
        tubelet, window = model.config.tubelet, self.config.window_size
        if not 0 < self.target_offset < window // tubelet * tubelet:
            raise UsageError(
                f"context_frames={self.config.context_frames} and window_size={window} must leave at "
                f"least {tubelet} frames (one token of model {model.config.name!r}) on both sides"
            )

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
        return self.score(video)[0]

    def score(self, video: Tensor) -> tuple[Tensor, WindowScores]:
        """The same, with the windows (without gradient) that the scores come from."""
        if not (video.requires_grad and torch.is_grad_enabled()):
            windows = self.score_windows(video)
            return aggregate(windows.values, self.config.mode), windows
        scored = self.score_and_gradient(video.detach())
        return _AttachGradient.apply(video, scored.scores, scored.gradient), scored.windows

    def score_windows(self, video: Tensor) -> WindowScores:
        """Score every window of ``[B, 3, T, H, W]`` in [−1, 1], by plain autograd if the video
        requires gradients.
        """
        return self.score_pixels(self.model.preprocess(video))

    def score_pixels(self, pixels: Tensor) -> WindowScores:
        """Score every window of preprocessed ``[B, 3, T, crop, crop]``."""
        return self._score_chosen(pixels, self._all_windows(pixels), self.batch_size)

    def score_rules(self, video: Tensor) -> dict[str, WindowScores]:
        """Every window of ``[B, 3, T, H, W]`` in [−1, 1] by all rules of the surprise, and for a
        prediction that copies the last context latent (``copy``), from one pass; without gradient.
        """
        rules: tuple[ScoreRule, ...] = get_args(ScoreRule)
        if self.config.similarity == "token":
            rules = (self.config.score,)  # the others compare tokens one by one
        found: dict[str, list[tuple[Tensor, Tensor | None]]] = {}
        for latents in self._latents(video):
            for rule in rules:
                scored = window_surprise(latents, replace(self.config, score=rule))
                found.setdefault(rule, []).append(scored)
            copied = copy_surprise(latents)
            found.setdefault("copy", []).append((copied.mean(dim=(1, 2)), copied))
        return {name: self._joined(parts, len(video)) for name, parts in found.items()}

    def observed_latents(self, video: Tensor) -> Tensor:
        """The latents of every window's future, ``[B, W, t, n, D]``, as the model sees them."""
        observed = torch.cat([latents.observed for latents in self._latents(video)])
        return observed.unflatten(0, (len(video), -1))

    @torch.no_grad()
    def _latents(self, video: Tensor) -> Iterator[Latents]:
        """Of all windows, in portions."""
        pixels = self.model.preprocess(video)
        for chunk in even_chunks(self._all_windows(pixels), self.batch_size):
            windows = gather_windows(pixels, chunk, self.config.window_size)
            yield self.model.future_latents(windows, self.config.context_frames)

    def _joined(self, parts: Sequence[tuple[Tensor, Tensor | None]], videos: int) -> WindowScores:
        """Portions of windows, put together by video."""
        shape, grid = (videos, -1), self.model.config.grid
        maps = [part for _, part in parts if part is not None]
        return WindowScores(
            torch.cat([values for values, _ in parts]).unflatten(0, shape),
            torch.cat(maps).unflatten(-1, (grid, grid)).unflatten(0, shape) if maps else None,
        )

    def _all_windows(self, pixels: Tensor) -> list[tuple[int, int]]:
        starts = window_starts(pixels.shape[2], self.config.window_size, self.config.stride)
        return [(video, start) for video in range(len(pixels)) for start in starts]

    def _score_chosen(
        self,
        pixels: Tensor,
        which: list[tuple[int, int]],
        batch_size: int,
        gradient: Tensor | None = None,
        weight: float = 1.0,
    ) -> WindowScores:
        """Score the windows ``which`` = (video, first frame), equally many of each video.

        With ``gradient`` (like ``pixels``), adds ``weight`` times the gradient of every window to it.
        """
        parts: list[tuple[Tensor, Tensor | None]] = []
        for chunk in even_chunks(which, batch_size):
            windows = gather_windows(pixels, chunk, self.config.window_size)
            with torch.set_grad_enabled(gradient is not None or torch.is_grad_enabled()):
                if gradient is not None:
                    windows.requires_grad_()
                latents = self.model.future_latents(
                    windows, self.config.context_frames, context_grad=self.config.context_grad
                )
                value, token_map = window_surprise(latents, self.config)
            if gradient is not None:
                (part,) = torch.autograd.grad(value, windows, torch.full_like(value, weight))
                for (video, start), window in zip(chunk, part, strict=True):
                    gradient[video, :, start : start + self.config.window_size] += window
                value, token_map = value.detach(), None if token_map is None else token_map.detach()
            parts.append((value, token_map))
        return self._joined(parts, len(pixels))

    def score_and_gradient(self, video: Tensor) -> GradientScores:
        """Scores and gradients of ``[B, 3, T, H, W]`` in [−1, 1]; see :meth:`__call__`."""
        leaf = video.detach().requires_grad_()
        with torch.enable_grad():
            preprocessed = self.model.preprocess(leaf)
        pixels = preprocessed.detach()
        gradient = torch.zeros_like(pixels)
        every = self._all_windows(pixels)
        if self.config.mode == "mean":
            share = len(pixels) / len(every)
            windows = self._score_chosen(pixels, every, self.grad_batch_size, gradient, share)
            scores = windows.values.mean(dim=1)
        else:
            with torch.no_grad():
                windows = self._score_chosen(pixels, every, self.batch_size)
            chosen = select_windows(windows.values, self.config.mode)
            count = windows.values.shape[1]
            which = [every[b * count + i] for b, row in enumerate(chosen.tolist()) for i in row]
            share = 1 / chosen.shape[1]
            again = self._score_chosen(pixels, which, self.grad_batch_size, gradient, share)
            scores = again.values.mean(dim=1)
        (gradient,) = torch.autograd.grad(preprocessed, leaf, gradient)
        return GradientScores(scores, gradient, windows)


class _AttachGradient(torch.autograd.Function):
    """Gives scores the gradient that was computed with them, as each chunk's graph is freed at once."""

    @staticmethod
    def forward(ctx: Any, video: Tensor, scores: Tensor, gradient: Tensor) -> Tensor:
        ctx.save_for_backward(gradient)
        return scores.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_scores: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * grad_scores.to(gradient.dtype)[:, None, None, None, None], None, None


def even_chunks(items: Sequence[tuple[int, int]], size: int) -> Iterator[Sequence[tuple[int, int]]]:
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
