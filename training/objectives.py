"""The two losses of the embedded world model.

Stage 1 learns features by filling in pixels (a masked autoencoder). Stage 2 freezes them and learns
to predict them in the future: V-JEPA's latent prediction with a teacher that stands still. Letting
the teacher follow the student, as V-JEPA does, starts from almost constant targets and needs far
more data.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from training.masks import Masks
from vjepa2.config import VJEPA2Config
from vjepa2.encoder import Encoder
from vjepa2.predictor import Predictor

# Change of normalised pixels (mean over a patch) below which a token counts as still, and the range
# over which its weight grows: sensor noise alone reaches about 0.12.
STILL, MOVING_RANGE, MOVING_WEIGHT = 0.12, 0.4, 5.0
SPREAD_RANK, SPREAD_WEIGHT = 24.0, 0.2


def patches_of(pixels: Tensor, config: VJEPA2Config) -> Tensor:
    """``[B, 3, T, H, W]`` → ``[B, N, 3·τ·p²]`` in token order."""
    return rearrange(
        pixels,
        "b c (t dt) (h dh) (w dw) -> b (t h w) (c dt dh dw)",
        dt=config.tubelet,
        dh=config.patch,
        dw=config.patch,
    )


def motion_weight(patches: Tensor, reference: Tensor) -> Tensor:
    """Weight of each token ``[B, N]``, mean 1: most of a scene stands still and would drown what moves."""
    change = (patches - reference).abs().mean(dim=-1)
    weight = 1 + MOVING_WEIGHT * ((change - STILL) / MOVING_RANGE).clamp(0, 1)
    return weight / weight.mean()


def _take(tokens: Tensor, indices: Tensor) -> Tensor:
    if indices.ndim == 1:
        return tokens[:, indices]
    return tokens.gather(1, indices[:, :, None].expand(-1, -1, tokens.shape[-1]))


def clip_normalised(pixels: Tensor) -> Tensor:
    """Pixels without the colour and contrast of their clip, ``[B, 3, T, H, W]``.

    What a scene is painted in never changes: as a target it would fill the features with brightness.
    """
    dims = (2, 3, 4)
    centred = pixels - pixels.mean(dim=dims, keepdim=True)
    return centred / (centred.square().mean(dim=(1, *dims), keepdim=True) + 0.01).sqrt()


def spread_penalty(features: Tensor, rank: float = SPREAD_RANK) -> Tensor:
    """How far the participation ratio of LayerNormed ``features [B, N, D]`` stays below ``rank``.

    In nats, 0 when reached. Surprise is a cosine: if one direction (brightness, without this) carries
    most of the variance, an error in any other hardly turns it. Features are centred at each place, as
    where a token lies must not count as content.
    """
    unit = F.layer_norm(features.float(), features.shape[-1:])
    centred = (unit - unit.mean(dim=0)).flatten(0, 1)
    covariance = centred.T @ centred / len(centred)
    ratio = covariance.trace().square() / covariance.square().sum()
    return (math.log(rank) - ratio.log()).clamp_min(0)


class PixelModel(nn.Module):
    """Stage 1: encoder, predictor trunk and a linear pixel head."""

    def __init__(self, config: VJEPA2Config) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.predictor = Predictor(config)
        self.pixel_head = nn.Linear(config.predictor.width, 3 * config.tubelet * config.patch**2)

    def forward(self, pixels: Tensor, causal: Masks, block: Masks) -> Tensor:
        """Mean squared error of the hidden patches under both masks, and the spread of the features."""
        patches = patches_of(pixels, self.config)
        wanted = patches_of(clip_normalised(pixels), self.config)
        n = self.config.tokens_per_tubelet
        steps, seen = len(causal.target) // n, len(causal.keep) // n
        last_seen = patches[:, (seen - 1) * n : seen * n].repeat(1, steps, 1)
        mean = patches.unflatten(1, (-1, n)).mean(dim=1).repeat(1, steps + seen, 1)
        context = self.encoder(pixels[:, :, : seen * self.config.tubelet])
        future = self._error(
            context, causal, wanted, motion_weight(_take(patches, causal.target), last_seen)
        )
        filled = self._error(
            self.encoder(pixels, block.keep),
            block,
            wanted,
            motion_weight(_take(patches, block.target), _take(mean, block.target)),
        )
        with torch.autocast(pixels.device.type, enabled=False):
            # A seventh of the tokens is plenty; seven shares no factor with the grid's width, so that
            # all columns are among them.
            spread = spread_penalty(context[:, ::7])
        return future + filled + SPREAD_WEIGHT * spread

    def _error(self, context: Tensor, masks: Masks, wanted: Tensor, weight: Tensor) -> Tensor:
        predicted = self.pixel_head(self.predictor.hidden(context, masks.keep, masks.target))
        error = (predicted.float() - _take(wanted, masks.target)).square().mean(dim=-1)
        return (weight * error).mean()


class LatentStep(NamedTuple):
    """Stage 2's loss and the teacher latents it was measured against, ``[B, N, D]``."""

    loss: Tensor
    latents: Tensor


class LatentModel(nn.Module):
    """Stage 2: the frozen teacher is context and target encoder; only the predictor learns."""

    def __init__(self, config: VJEPA2Config, teacher: Encoder, predictor: Predictor) -> None:
        super().__init__()
        self.config = config
        self.teacher = teacher.requires_grad_(False)
        self.predictor = predictor

    def forward(self, pixels: Tensor) -> LatentStep:
        """L1 between prediction and LayerNormed latents of the second half of the clip."""
        config = self.config
        tubelets = pixels.shape[2] // config.tubelet
        seen = tubelets // 2
        with torch.no_grad():
            context = self.teacher(pixels[:, :, : seen * config.tubelet])
            latents = self.teacher(pixels)
        first = seen * config.tokens_per_tubelet
        wanted = F.layer_norm(latents[:, first:].float(), (config.width,))
        predicted = self.predictor.predict_future(context, tubelets)
        patches = patches_of(pixels, config)
        last_seen = patches[:, first - config.tokens_per_tubelet : first]
        weight = motion_weight(patches[:, first:], last_seen.repeat(1, tubelets - seen, 1))
        error = (predicted.float() - wanted).abs().mean(dim=-1)
        return LatentStep((weight * error).mean(), latents)


def collapse_diagnostics(latents: Tensor) -> dict[str, float]:
    """Whether features still say something: ``latents [B, N, D]`` of different clips.

    ``rank`` is the participation ratio of the covariance (1 = one direction holds everything, at most
    D), ``std`` the mean standard deviation of a feature, ``clip_std`` the same between clips at one
    place. All near zero or one: collapsed.
    """
    flat = latents.float().flatten(0, 1)
    centred = flat - flat.mean(dim=0)
    covariance = centred.T @ centred / len(flat)
    squares = covariance.square().sum().clamp_min(torch.finfo(torch.float32).tiny)
    rank = covariance.trace() ** 2 / squares
    return {
        "rank": rank.item(),
        "std": flat.std(dim=0).mean().item(),
        "clip_std": latents.float().std(dim=0).mean().item(),
    }
