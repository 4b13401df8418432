"""What a video generator has to offer to be judged here."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from tqdm import tqdm

from benchmarks.shared.bootstrap import Values


class Generator(Protocol):
    """Makes videos of B scenes at once: RGB in [0, 1], [B, 3, T, H, W], on any device.

    One prompt and one seed per scene; equal arguments give equal videos.
    """

    def describe(self) -> dict[str, Any]:
        """What belongs beside its numbers, ready for JSON: name, hash of the weights, settings."""

    def continue_video(
        self, prefix: Tensor, frames: int, prompts: Sequence[str], seeds: Sequence[int]
    ) -> Tensor:
        """The `frames` frames that follow prefixes [B, 3, P, H, W]."""

    def from_image(
        self, images: Tensor, frames: int, prompts: Sequence[str], seeds: Sequence[int]
    ) -> Tensor:
        """`frames` frames, of which the first shows the images [B, 3, H, W]."""

    def from_text(self, prompts: Sequence[str], frames: int, seeds: Sequence[int]) -> Tensor:
        """`frames` frames."""

    def reconstruct(self, videos: Tensor) -> Tensor:
        """The videos as its autoencoder gives them back: the best that it could generate."""


def over_seeds(
    mark: Callable[[slice, list[int]], Values], count: int, seeds: int, batch: int, what: str
) -> Values:
    """Generate and mark every scene with every seed.

    Args:
        mark: Gets some of the scenes and a seed for each, gives their measures [b]. All seeds differ,
            between scenes too: the same noise everywhere would tie the errors of the scenes together.
        count: Number of scenes N.
        seeds: Number of seeds S per scene.
        batch: Scenes at once.
        what: For the progress bar.

    Returns:
        The measures, [N, S].
    """
    columns = []
    for seed in tqdm(range(seeds), desc=what, disable=not sys.stderr.isatty()):
        parts = []
        for start in range(0, count, batch):
            rows = slice(start, min(start + batch, count))
            numbers = [seed * 1_000_003 + row for row in range(rows.start, rows.stop)]
            parts.append(mark(rows, numbers))
        columns.append({name: torch.cat([part[name] for part in parts]) for name in parts[0]})
    return {name: torch.stack([column[name] for column in columns], 1) for name in columns[0]}


def checked(video: Tensor, expected: Sequence[int], device: torch.device) -> Tensor:
    """A generated video as it would be shown: float32, clipped to [0, 1].

    Raises:
        ValueError: Another shape than `expected`, or numbers that are none.
    """
    if list(video.shape) != list(expected):
        raise ValueError(f"the generator returned {list(video.shape)}, not {list(expected)}")
    video = video.to(device, torch.float32)
    if not video.isfinite().all():
        raise ValueError("the generator returned numbers that are not finite")
    return video.clamp(0.0, 1.0)
