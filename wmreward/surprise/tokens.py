"""Predicted against observed latents → surprise per token and per window.

Notation of arXiv 2601.10553: z is the prediction, h the observed target, both LayerNormed; surprise is
1 − cos(z, h), in [0, 2]; the reward is its negative.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from wmreward.protocols import Latents
from wmreward.surprise.config import SurpriseConfig

COPY_WEIGHT = 0.5
"""``excess``: how much of the copy error is forgiven."""
TOP_FRACTION = 1 / 16
"""``top``, ``excess``: share of the target tokens that speak for a window (16 of the embedded
model's 256).
"""
COPY_FLOOR = 0.02
"""``relative``: keeps the ratio finite where nothing moves; near the copy error of a still scene
with sensor noise.
"""


def normalised(latent: Tensor) -> Tensor:
    """A latent as it is compared: LayerNorm over features, no affine, eps 1e-5 (unlike the model's).

    Computed in float32 at least.
    """
    latent = latent if latent.dtype == torch.float64 else latent.float()
    return F.layer_norm(latent, latent.shape[-1:], eps=1e-5)


def token_surprise(latents: Latents) -> Tensor:
    """1 − cos(z, h) at every future token, ``[B, t, n]`` in [0, 2]."""
    z, h = normalised(latents.predicted), normalised(latents.observed)
    return 1 - F.cosine_similarity(z, h, dim=-1, eps=1e-8)


def copy_surprise(latents: Latents) -> Tensor:
    """The same for a prediction that just copies the last context latent at the same place: how
    much really changed.

    ``[B, t, n]``. It costs nothing: the context encoder has seen that step anyway. Without
    gradient through the copy, like the prediction.
    """
    z, h = normalised(latents.last_context)[:, None], normalised(latents.observed)
    return 1 - F.cosine_similarity(z, h, dim=-1, eps=1e-8)


def channel_surprise(latents: Latents) -> Tensor:
    """``[B]``: the published scorer's variant, the cosine over the token axis and the mean over
    feature channels.
    """
    z, h = (normalised(side).flatten(1, 2) for side in (latents.predicted, latents.observed))
    return (1 - F.cosine_similarity(z, h, dim=1, eps=1e-8)).mean(dim=-1)


def window_surprise(latents: Latents, config: SurpriseConfig) -> tuple[Tensor, Tensor | None]:
    """Surprise of each window ``[B]`` and its map per token ``[B, t, n]`` by the rule of ``config``.

    * ``plain``: mean of S, the token surprise. The map is S.
    * ``top``: mean of the largest 1/16 of S: an event takes little of the picture. The map is S.
    * ``excess``: mean of the largest 1/16 of S − ½·S_copy, where S_copy is :func:`copy_surprise`.
      The map is that difference, which may be negative.
    * ``relative``: mean(S) / (mean(S_copy) + 0.02). The map is S / (mean(S_copy) + 0.02), so that
      its mean is the value.

    Under the first two a frozen video is easy and so looks plausible; the others measure it against
    how much there was to predict. ``similarity="token"`` has no map.
    """
    if config.similarity == "token":
        return channel_surprise(latents), None
    surprise = token_surprise(latents)
    if config.score == "plain":
        return surprise.mean(dim=(1, 2)), surprise
    if config.score == "top":
        return _top(surprise), surprise
    copied = copy_surprise(latents)
    if config.score == "relative":
        surprise = surprise / (copied.mean(dim=(1, 2), keepdim=True) + COPY_FLOOR)
        return surprise.mean(dim=(1, 2)), surprise
    excess = surprise - COPY_WEIGHT * copied
    return _top(excess), excess


def _top(tokens: Tensor) -> Tensor:
    """Mean of the largest of ``[B, t, n]``, ``[B]``."""
    flat = tokens.flatten(1)
    return flat.topk(math.ceil(flat.shape[1] * TOP_FRACTION), dim=1).values.mean(dim=1)
