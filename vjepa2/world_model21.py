"""V-JEPA 2.1 as one world model, and the ways in which it can be read."""

from __future__ import annotations

from contextlib import nullcontext

import torch
from torch import Tensor
from torch.nn import functional as F

from vjepa2.config import VJEPA21Config
from vjepa2.encoder21 import Encoder21
from vjepa2.predictor21 import TRAINED_MASK_TOKEN, Predictor21
from vjepa2.reading import Branches, Reading
from vjepa2.rope import PAIRED, STRETCHED, Rotary
from vjepa2.world_model import FutureLatents, WorldModel

ROTARIES: dict[str, tuple[Rotary, Rotary]] = {
    "rescaled": (STRETCHED, STRETCHED),
    "hub": (STRETCHED, PAIRED),
    "raw": (PAIRED, PAIRED),
}
"""How encoders and predictor count rows and columns."""


class VJEPA21(WorldModel):
    """A V-JEPA 2.1 world model.

    Args:
        config: Sizes.
        branches: Which stored encoder serves which side; one serves both if they are the same.
        mask_token: Which mask token predicts.
        reading: What is compared with what.

    Attributes:
        target_encoder: The encoder of the whole window: the model's own, or the teacher's.
        predictor: The predictor with its two heads.
        reading: As given, settled for this model.
    """

    config: VJEPA21Config
    encoder: Encoder21
    target_encoder: Encoder21
    predictor: Predictor21

    def __init__(
        self,
        config: VJEPA21Config,
        *,
        branches: Branches | None = None,
        mask_token: int = TRAINED_MASK_TOKEN,
        reading: Reading | None = None,
    ) -> None:
        super().__init__()
        branches = branches or Branches("ema", "ema")
        self.config = config
        self.mask_token = mask_token
        self.reading = (reading or Reading()).of(config)
        in_encoders, in_predictor = ROTARIES[self.reading.positions]
        self.encoder = Encoder21(config, in_encoders)
        if config.teacher and self.reading.observed == "teacher":
            self.target_encoder = Encoder21(config.teacher, in_encoders)
        elif branches.context == branches.target:
            self.target_encoder = self.encoder
        else:
            self.target_encoder = Encoder21(config, in_encoders)
        self.predictor = Predictor21(config, in_predictor)

    def future_latents(
        self, pixels: Tensor, context_frames: int, *, context_grad: bool = False
    ) -> FutureLatents:
        """See :meth:`WorldModel.future_latents`.

        D is the width of the last level; of all levels with ``levels="all"``, each LayerNormed on its
        own; the teacher's for a distilled model, whose ``last_context`` is its own view of the teacher's.
        """
        tubelet, n = self.config.tubelet, self.config.tokens_per_tubelet
        seen, total = self.tubelets(pixels, context_frames)
        pixels = pixels.to(self.dtype)
        # no_grad, not inference_mode: the prediction meets a differentiated target in one expression.
        with nullcontext() if context_grad else torch.no_grad():
            past = pixels[:, :, : seen * tubelet]
            predicted, last_context = self._expect(past, total)
        observed = self._observe(pixels)[:, seen * n :]
        return FutureLatents(
            predicted.unflatten(1, (-1, n)), observed.unflatten(1, (-1, n)), last_context
        )

    def _expect(self, past: Tensor, tubelets: int) -> tuple[Tensor, Tensor]:
        """Prediction of the time steps after ``past``, and its last one, comparable with :meth:`_observe`."""
        n, distilled = self.config.tokens_per_tubelet, self.config.teacher is not None
        context = self.encoder(past, all_levels=not distilled)
        hidden = self.predictor.hidden_future(context, tubelets, mask_token=self.mask_token)
        if distilled:
            last = self.predictor.predictor_proj_context(hidden.context[:, -n:])
            return self.predictor.predictor_proj(hidden.targets), last
        if self.reading.levels == "all":
            return (
                self._each_level_normed(self.predictor.predictor_proj(hidden.targets)),
                self._each_level_normed(context[:, -n:]),
            )
        width = self.config.width
        return self.predictor.project(hidden.targets, width), context[:, -n:, -width:]

    def _observe(self, pixels: Tensor) -> Tensor:
        """What the whole window is seen as, ``[B, N, D]``."""
        if self.reading.levels == "all":
            return self._each_level_normed(self.target_encoder(pixels, all_levels=True))
        latents = self.target_encoder(pixels)
        if self.reading.observed != "student":
            return latents
        tubelets = pixels.shape[2] // self.config.tubelet
        hidden = self.predictor.hidden_future(latents, tubelets, mask_token=self.mask_token)
        return self.predictor.predictor_proj_context(hidden.context)

    def _each_level_normed(self, latents: Tensor) -> Tensor:
        """LayerNorm of every level on its own, as in training: no affine, eps 1e-5."""
        wide = torch.promote_types(latents.dtype, torch.float32)
        levels = latents.to(wide).unflatten(-1, (-1, self.config.width))
        return F.layer_norm(levels, levels.shape[-1:], eps=1e-5).flatten(-2)
