"""What the method asks of its parts: shapes and value ranges of everything that passes between packages."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor


class TokenGrid(Protocol):
    """How a world model cuts a clip into tokens."""

    @property
    def name(self) -> str: ...
    @property
    def crop(self) -> int:
        """Side in pixels of the square it sees."""
        ...

    @property
    def grid(self) -> int:
        """Tokens per side of that square, g."""
        ...

    @property
    def tubelet(self) -> int:
        """Frames per token."""
        ...


class Latents(Protocol):
    """Future latents of a batch of windows: t time steps, n = g² tokens each, D features."""

    @property
    def predicted(self) -> Tensor:
        """What the model expects from the context alone, ``[B, t, n, D]``."""
        ...

    @property
    def observed(self) -> Tensor:
        """What it sees in the whole window, ``[B, t, n, D]``."""
        ...

    @property
    def last_context(self) -> Tensor:
        """The last context time step, ``[B, n, D]``."""
        ...


class WorldModel(Protocol):
    """A frozen network that expects a future and sees one; anything of this shape can be scored with."""

    @property
    def config(self) -> TokenGrid: ...
    @property
    def device(self) -> torch.device: ...

    def preprocess(self, video: Tensor) -> Tensor:
        """Video ``[B, 3, T, H, W]`` in [−1, 1] → pixels ``[B, 3, T, crop, crop]``; differentiable."""
        ...

    def future_latents(
        self, pixels: Tensor, context_frames: int, *, context_grad: bool = False
    ) -> Latents:
        """Latents after the first ``context_frames`` of windows ``[B, 3, w, crop, crop]``.

        ``predicted`` must not depend on the later frames, and carries gradient only with ``context_grad``.
        """
        ...
