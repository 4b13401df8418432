"""A world model of one's own: `--model example.my_world_model:StraightOn` things go straight on."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class Grid(NamedTuple):
    name: str = "straight on"
    crop: int = 32  # side in pixels of what it sees
    grid: int = 8  # tokens per side
    tubelet: int = 2  # frames per token


class Latents(NamedTuple):
    predicted: Tensor  # [B, t, n, D]
    observed: Tensor  # [B, t, n, D]
    last_context: Tensor  # [B, n, D]


class StraightOn:
    config, device = Grid(), torch.device("cpu")

    def preprocess(self, video: Tensor) -> Tensor:
        """[B, 3, T, H, W] in [-1, 1] → [B, 3, T, crop, crop]."""
        frames = video.transpose(1, 2).flatten(0, 1)
        small = F.interpolate(frames, (32, 32), mode="area")
        return small.unflatten(0, (len(video), -1)).transpose(1, 2)

    def future_latents(
        self, pixels: Tensor, context_frames: int, *, context_grad: bool = False
    ) -> Latents:
        """Latents after the first context_frames of windows [B, 3, w, crop, crop]."""
        pieces = pixels.unfold(2, 2, 2).unfold(3, 4, 4).unfold(4, 4, 4)
        # [B, 3, w/2, 8, 8, 2, 4, 4] → [B, w/2, 64, 96]
        tokens = pieces.permute(0, 2, 3, 4, 1, 5, 6, 7).flatten(4).flatten(2, 3)
        seen = context_frames // 2
        change = tokens[:, seen - 1] - tokens[:, seen - 2]
        ahead = torch.arange(1, tokens.shape[1] - seen + 1)[:, None, None]
        predicted = tokens[:, seen - 1, None] + ahead * change[:, None]
        if not context_grad:
            predicted = predicted.detach()
        return Latents(predicted, tokens[:, seen:], tokens[:, seen - 1])
