"""Surprise of the action-conditioned model: what the camera sees next, given what was really done."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from vjepa2.ac_predictor import ActionPredictor
from vjepa2.encoder import Encoder
from vjepa2.world_model import VJEPA2
from wmreward.errors import UsageError
from wmreward.surprise.tokens import normalised


class StepSurprise(NamedTuple):
    """Surprise at each predicted step.

    Attributes:
        values: Mean of 1 − cos over the step's tokens, ``[B, T − 1]``.
        maps: The same per token, ``[B, T − 1, 1, g, g]``.
        l1: Mean absolute difference, the loss the model was trained with, ``[B, T − 1]``.
    """

    values: Tensor
    maps: Tensor
    l1: Tensor


def action_surprise(
    model: VJEPA2, video: Tensor, actions: Tensor, states: Tensor, *, context_grad: bool = False
) -> StepSurprise:
    """Teacher-forced surprise of every step after the first.

    Each frame is encoded on its own (doubled to fill a tubelet); from the features, actions and states
    of the steps so far the predictor expects the next frame's features.

    Args:
        model: ``vitgac``, or any model with an action-conditioned predictor.
        video: One frame per step, ``[B, 3, T, H, W]`` in [−1, 1].
        actions: ``[B, T − 1, 7]``, what was done between the frames.
        states: ``[B, T, 7]``; the last one is not used.
        context_grad: Let gradients flow through the prediction too.
    """
    if not isinstance(model.predictor, ActionPredictor):
        raise UsageError(f"model {model.config.name!r} knows no actions; use vitgac")
    batch, _, steps = video.shape[:3]
    n, grid = model.config.tokens_per_tubelet, model.config.grid
    pixels = model.preprocess(video).to(model.dtype)
    frames = pixels.transpose(1, 2).flatten(0, 1)[:, :, None]
    doubled = frames.expand(-1, -1, model.config.tubelet, -1, -1)

    def features(encoder: Encoder) -> Tensor:
        return normalised(encoder(doubled)).unflatten(0, (batch, steps)).flatten(1, 2)

    seen = features(model.target_encoder)  # [B, T·n, D]
    shared = model.encoder is model.target_encoder
    context = (seen if shared else features(model.encoder))[:, : (steps - 1) * n]
    with torch.set_grad_enabled(context_grad and torch.is_grad_enabled()):
        predicted = model.predictor(
            (context if context_grad else context.detach()).to(model.dtype),
            actions.to(pixels),
            states[:, :-1].to(pixels),
        )
        predicted = normalised(predicted)
    observed = seen[:, n:]
    cosine = F.cosine_similarity(predicted, observed, dim=-1, eps=1e-8)
    surprise = (1 - cosine).unflatten(1, (steps - 1, n))
    l1 = (predicted - observed).abs().unflatten(1, (steps - 1, n)).mean(dim=(2, 3))
    return StepSurprise(surprise.mean(dim=2), surprise.unflatten(2, (1, grid, grid)), l1)
