"""The predictor of V-JEPA 2.1: latents of unseen tokens, and of the visible ones as its targets see them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vjepa2.config import VJEPA21Config
from vjepa2.predictor import MaskTokenPredictor
from vjepa2.rope import STRETCHED, Rotary

TRAINED_MASK_TOKEN = VJEPA21Config.default_mask_token
"""The only one of the eight mask tokens that training used (0-based); the official hub predicts with 1."""


class TwoSides(NamedTuple):
    """Something of the tokens that were predicted and of those that were visible, in the caller's order."""

    targets: Tensor
    context: Tensor


class Predictor21(MaskTokenPredictor):
    """The predictor of V-JEPA 2.1, with one head for unseen and one for visible tokens.

    Args:
        config: Sizes. It takes all levels of the encoder and predicts all levels; a distilled model's
            takes the last level and predicts the teacher's last.
        rotary: How positions become angles.
    """

    def __init__(self, config: VJEPA21Config, rotary: Rotary = STRETCHED) -> None:
        width = config.predictor.width
        embed: nn.Module = nn.Linear(config.width, width)
        if config.teacher is None:
            widen = nn.Linear(config.context_width, config.width)
            embed = nn.Sequential(widen, nn.GELU(), embed)
        super().__init__(config, embed, rotary)
        self.img_mod_embed = nn.Parameter(torch.zeros(1, 1, width))
        self.video_mod_embed = nn.Parameter(torch.zeros(1, 1, width))
        self.predictor_proj = nn.Linear(width, config.predicted_width)
        self.predictor_proj_context = nn.Linear(width, config.predicted_width)

    def forward(
        self,
        context: Tensor,
        context_indices: Tensor,
        target_indices: Tensor,
        *,
        mask_token: int = TRAINED_MASK_TOKEN,
        image: bool = False,
    ) -> TwoSides:
        """Predict the latents at ``target_indices``, and say what the target sees at ``context_indices``.

        Args:
            context: Encoder output of the visible tokens: all levels, ``[B, Kc, levels · D]``, or the last,
                ``[B, Kc, D]``, if distilled.
            context_indices: Where those tokens stand in the clip, ``[Kc]`` or ``[B, Kc]``.
            target_indices: Where to predict, ``[Kt]`` or ``[B, Kt]``; may be empty.
            mask_token: Which learned mask token to use, modulo the number there are.
            image: Whether the tokens are those of an image.

        Returns:
            ``[B, Kt, O]`` and ``[B, Kc, O]``, before the LayerNorm of the surprise. O is levels · D,
            slice k · D … (k + 1) · D being level k, or the teacher's width if distilled.
        """
        tables = self.tables_at(context, context_indices, target_indices)
        modality = self.img_mod_embed if image else self.video_mod_embed
        hidden = self._hidden(context, *tables, mask_token, modality)
        return TwoSides(
            self.predictor_proj(hidden.targets), self.predictor_proj_context(hidden.context)
        )

    def hidden_future(
        self, context: Tensor, tubelets: int, *, mask_token: int = TRAINED_MASK_TOKEN
    ) -> TwoSides:
        """Both sides before the heads, for the rest of a clip of ``tubelets`` time steps.

        ``context [B, Kc, …]`` holds whole time steps from the start of the clip; all of them is possible.
        """
        tables = self.clip_tables(tubelets, context)
        return self._hidden(context, *tables, mask_token, self.video_mod_embed)

    def project(self, hidden: Tensor, width: int) -> Tensor:
        """The last ``width`` features of unseen tokens: the deepest levels, without forming the others."""
        weight, bias = self.predictor_proj.weight, self.predictor_proj.bias
        return F.linear(hidden, weight[-width:], bias[-width:])

    def _hidden(
        self, context: Tensor, cos: Tensor, sin: Tensor, mask_token: int, modality: Tensor
    ) -> TwoSides:
        seen = context.shape[1]
        x = self.with_masks(context, cos.shape[-2] - seen, mask_token) + modality
        x = self.predictor_norm(self.transformed(x, cos, sin))
        return TwoSides(x[:, seen:], x[:, :seen])
