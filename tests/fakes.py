"""Small world models whose answers are known, and small random networks of the real kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor

from vjepa2 import (
    VJEPA2,
    VJEPA21,
    Branches,
    PredictorConfig,
    Reading,
    VJEPA2Config,
    VJEPA21Config,
)
from wmreward.protocols import WorldModel


@dataclass(frozen=True)
class FakeGrid:
    """Sizes of :class:`LinearWorldModel`: 2 × 2 tokens of 2 frames × 2 × 2 pixels, 24 features each."""

    name: str = "linear"
    crop: int = 4
    grid: int = 2
    tubelet: int = 2


class FakeLatents(NamedTuple):
    predicted: Tensor
    observed: Tensor
    last_context: Tensor


class LinearWorldModel:
    """Expects everything to go on as it went: a latent is its pixels, and the future a straight line.

    A video whose pixels change linearly in time is predicted exactly, so its surprise is 0; a frozen
    one is also predicted exactly by copying. Linear in the video, so that gradients are easy to check.

    Args:
        mixing: How much of the mean over the whole window every observed token holds, as attention
            would mix it in; with it the context frames get a gradient through the observed side.
        expected: If given, the prediction is this constant instead, ``[t, n, D]``.
    """

    config = FakeGrid()
    device = torch.device("cpu")

    def __init__(self, *, mixing: float = 0.0, expected: Tensor | None = None) -> None:
        self.mixing = mixing
        self.expected = expected
        self.batch_sizes: list[int] = []

    def preprocess(self, video: Tensor) -> Tensor:
        return 2 * video + 0.5

    def tokens(self, pixels: Tensor) -> Tensor:
        """``[B, 3, T, 4, 4]`` → ``[B, T/2, 4, 24]``; an odd last frame is dropped."""
        whole = pixels[:, :, : pixels.shape[2] // 2 * 2]
        return rearrange(
            whole, "b c (t dt) (h dh) (w dw) -> b t (h w) (c dt dh dw)", dt=2, dh=2, dw=2
        )

    def future_latents(
        self, pixels: Tensor, context_frames: int, *, context_grad: bool = False
    ) -> FakeLatents:
        self.batch_sizes.append(len(pixels))
        seen = context_frames // 2
        tokens = self.tokens(pixels)
        observed = tokens[:, seen:] + self.mixing * tokens.mean(dim=1, keepdim=True)
        context = tokens[:, :seen] if context_grad else tokens[:, :seen].detach()
        last = context[:, -1]
        speed = last - context[:, -2] if seen > 1 else torch.zeros_like(last)
        ahead = torch.arange(1, observed.shape[1] + 1, dtype=pixels.dtype)[:, None, None]
        predicted = last[:, None] + ahead * speed[:, None]
        if self.expected is not None:
            predicted = self.expected.to(pixels.dtype).expand_as(predicted)
        return FakeLatents(predicted, observed, last)


linear_model_is_a_world_model: WorldModel = LinearWorldModel()  # checked by the type checker


NANO = VJEPA2Config(
    name="nano",
    width=24,
    depth=2,
    heads=2,
    mlp_width=40,
    crop=32,
    predictor=PredictorConfig(width=16, depth=1, heads=2, mask_tokens=3),
)
"""The smallest V-JEPA 2: 4 tokens a time step."""

NANO_TINY = VJEPA2Config(
    name="tiny",
    width=32,
    depth=1,
    heads=1,
    mlp_width=32,
    crop=64,
    patch=8,
    predictor=PredictorConfig(width=32, depth=1, heads=1, mask_tokens=1),
)
"""In place of the embedded model where weights do not matter: its picture and its names, hardly a weight."""

NANO_AC = VJEPA2Config(
    name="nanoac",
    width=24,
    depth=1,
    heads=2,
    mlp_width=40,
    crop=32,
    predictor=PredictorConfig(width=16, depth=2, heads=2, mask_tokens=0, action_dim=7),
)
"""The smallest action-conditioned one."""


def random_model(
    config: VJEPA2Config = NANO,
    *,
    dtype: torch.dtype = torch.float64,
    branches: Branches | None = None,
    seed: int = 0,
) -> VJEPA2:
    """A frozen network whose every parameter is random and not zero."""
    model = VJEPA2(config, branches=branches)
    _fill(model, seed)
    return model.to(dtype).requires_grad_(False).eval()


def random_model21(
    config: VJEPA21Config,
    *,
    dtype: torch.dtype = torch.float64,
    reading: Reading | None = None,
    seed: int = 0,
) -> VJEPA21:
    """The same of V-JEPA 2.1."""
    model = VJEPA21(config, reading=reading)
    _fill(model, seed)
    return model.to(dtype).requires_grad_(False).eval()


@torch.no_grad()
def _fill(model: torch.nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        fan = parameter[0].numel() if parameter.ndim > 1 else 1
        matrix = parameter.ndim > 1 and not name.endswith("mod_embed")
        scale = fan**-0.5 if matrix and "mask_tokens" not in name else 0.3
        parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
        if "norm" in name and name.endswith("weight"):
            parameter.add_(1)
