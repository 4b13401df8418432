"""A video as a trajectory: one feature vector for every step of an encoder, in bounded memory.

A video is cut into pieces of equal length, a step apart, and every piece is seen alone: features of
neighbours differ by what happens, never by where a batch begins or how long the video is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from wmreward.errors import UsageError, named
from wmreward.surprise.scorer import even_chunks, with_gradient


class FrameEncoder(Protocol):
    """Describes a piece of a video by tokens; its parameters are expected not to require gradients."""

    @property
    def name(self) -> str: ...
    @property
    def model(self) -> nn.Module: ...

    @property
    def frames(self) -> int:
        """Of a piece."""
        ...

    @property
    def step(self) -> int:
        """Frames from one piece to the next."""
        ...

    @property
    def middle(self) -> float:
        """Frames from the beginning of a piece to the middle of what its tokens speak of."""
        ...

    def preprocess(self, video: Tensor) -> Tensor:
        """Video ``[B, 3, T, H, W]`` in [−1, 1] → pixels ``[B, 3, T, h, w]``; differentiable."""
        ...

    def tokens(self, pieces: Tensor) -> Tensor:
        """Pieces ``[N, 3, frames, h, w]`` → ``[N, n, D]``; differentiable."""
        ...


class Trajectory:
    """Features of videos, step by step: the mean over the tokens of each piece.

    Args:
        encoder: Describes the pieces.
        batch_size: Pieces at once.
        grad_batch_size: Pieces at once where they are differentiated.
    """

    def __init__(
        self, encoder: FrameEncoder, *, batch_size: int = 32, grad_batch_size: int = 4
    ) -> None:
        self.encoder = encoder
        self.batch_size, self.grad_batch_size = batch_size, grad_batch_size

    def frames_of(self, features: int) -> int:
        """Frames of the shortest video with so many features."""
        return self.encoder.frames + (features - 1) * self.encoder.step

    def starts(self, frames: int) -> range:
        """First frames of the pieces of a video; raises ``UsageError`` if it has none."""
        if frames < self.encoder.frames:
            raise UsageError(
                f"too short: {frames} frames, but encoder {self.encoder.name} sees {self.encoder.frames}; "
                f"use a longer video, more of its frames a second, or a smaller {named('window_size')}"
            )
        return range(0, frames - self.encoder.frames + 1, self.encoder.step)

    def places(self, frames: int) -> list[float]:
        """What each feature of a video speaks of: its middle, in frames of the video."""
        return [start + self.encoder.middle for start in self.starts(frames)]

    @torch.no_grad()
    def __call__(self, videos: Tensor) -> Tensor:
        """``[B, 3, T, H, W]`` in [−1, 1] → ``[B, S, D]``, without gradient."""
        pixels = self.encoder.preprocess(videos)
        return self._features(pixels)

    @torch.no_grad()
    def tokens(self, videos: Tensor) -> Tensor:
        """The tokens before they are pooled, ``[B, S, n, D]``, without gradient."""
        pixels = self.encoder.preprocess(videos)
        parts = [self.encoder.tokens(pieces) for pieces, _ in self._pieces(pixels, self.batch_size)]
        return torch.cat(parts).unflatten(0, (len(videos), -1))

    def differentiated(self, videos: Tensor, score: Callable[[Tensor], Tensor]) -> Tensor:
        """A score of features ``[B, S, D]``, by video ``[B]``, as a function of the videos.

        Differentiable once. Features are made first without a gradient, then made again, some pieces at a
        time, each with its part of the score's gradient: memory does not grow with the length of the video.

        Args:
            videos: ``[B, 3, T, H, W]`` in [−1, 1], that require a gradient.
            score: Each video's own, from its features alone.
        """
        leaf = videos.detach().requires_grad_()
        with torch.enable_grad():
            preprocessed = self.encoder.preprocess(leaf)
        pixels = preprocessed.detach()
        with torch.no_grad():
            features = self._features(pixels)
        features.requires_grad_()
        with torch.enable_grad():
            scores = score(features)
        (wanted,) = torch.autograd.grad(scores.sum(), features)
        of_pixels = torch.zeros_like(pixels)
        flat = wanted.flatten(0, 1)
        first = 0
        for pieces, which in self._pieces(pixels, self.grad_batch_size):
            with torch.enable_grad():
                pieces.requires_grad_()
                made = self.encoder.tokens(pieces).mean(dim=1)
            pull = flat[first : first + len(which)].to(made.dtype)
            (of_pieces,) = torch.autograd.grad(made, pieces, pull)
            for (video, start), part in zip(which, of_pieces, strict=True):
                of_pixels[video, :, start : start + self.encoder.frames] += part
            first += len(which)
        (gradient,) = torch.autograd.grad(preprocessed, leaf, of_pixels)
        return with_gradient(videos, scores.detach().to(gradient.dtype), gradient)

    def _features(self, pixels: Tensor) -> Tensor:
        parts = [
            self.encoder.tokens(pieces).mean(dim=1)
            for pieces, _ in self._pieces(pixels, self.batch_size)
        ]
        features = torch.cat(parts).unflatten(0, (len(pixels), -1))
        return features if features.dtype == torch.float64 else features.float()

    def _pieces(
        self, pixels: Tensor, size: int
    ) -> Iterator[tuple[Tensor, Sequence[tuple[int, int]]]]:
        """The pieces of all videos, some at a time, and the video and first frame of each."""
        starts = self.starts(pixels.shape[2])
        every = [(video, start) for video in range(len(pixels)) for start in starts]
        for which in even_chunks(every, size):
            cut = [pixels[video, :, start : start + self.encoder.frames] for video, start in which]
            yield torch.stack(cut), which
