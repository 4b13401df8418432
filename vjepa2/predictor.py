"""Context tokens + mask tokens → predicted latents of the unseen tokens."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vjepa2.config import ModelConfig, VJEPA2Config
from vjepa2.layers import Block, LayerNorm, residual
from vjepa2.rope import TILED, Rotary, grid_tables, rotary_tables, table_dtype

PARITY_MASK_TOKEN = VJEPA2Config.default_mask_token
"""Which of the ten mask tokens the published loaders of V-JEPA 2 use (0-based)."""


class MaskTokenPredictor(nn.Module):
    """What the mask-token predictors of both generations share; each adds its heads.

    Args:
        config: Sizes.
        embed: Maps a context token to the predictor's width.
        rotary: How positions become angles.
    """

    def __init__(self, config: ModelConfig, embed: nn.Module, rotary: Rotary) -> None:
        super().__init__()
        shape = config.predictor
        self.grid = config.grid
        self.head_dim = shape.width // shape.heads
        self.rotary = rotary
        self.predictor_embed = embed
        self.mask_tokens = nn.ParameterList(
            nn.Parameter(torch.zeros(1, 1, shape.width)) for _ in range(shape.mask_tokens)
        )
        self.predictor_blocks = nn.ModuleList(
            Block(shape.width, shape.heads, 4 * shape.width) for _ in range(shape.depth)
        )
        self.predictor_norm = LayerNorm(shape.width)

    def tables_at(
        self, context: Tensor, context_indices: Tensor, target_indices: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Rotary tables of the tokens of ``context`` and of the targets, both at ``[K]`` or ``[B, K]``."""
        if context_indices.shape[-1] != context.shape[1]:
            raise ValueError(
                f"{context.shape[1]} context tokens need as many indices, not {context_indices.shape[-1]}"
            )
        where, n = torch.cat([context_indices, target_indices], dim=-1), self.grid**2
        positions = torch.stack([where // n, where % n // self.grid, where % self.grid], dim=-1)
        positions = positions.to(table_dtype(context.dtype))
        positions = self.rotary.stretched(positions, self.grid, self.grid)
        cos, sin = rotary_tables(positions, self.head_dim, self.rotary)
        if where.ndim == 2:
            cos, sin = cos[:, None], sin[:, None]  # [B, 1, N, d]: the same for every head
        return cos, sin

    def clip_tables(self, tubelets: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """Rotary tables of all tokens of a clip of ``tubelets`` time steps."""
        return grid_tables(
            tubelets, self.grid, self.grid, self.head_dim, like.dtype, like.device, self.rotary
        )

    def with_masks(self, context: Tensor, targets: int, mask_token: int) -> Tensor:
        """Embedded context ``[B, Kc, D]`` and ``targets`` mask tokens, ``[B, Kc + targets, width]``."""
        x = self.predictor_embed(context)
        mask = self.mask_tokens[mask_token % len(self.mask_tokens)]
        return residual(torch.cat([x, mask.to(x.dtype).expand(len(x), targets, -1)], dim=1))

    def transformed(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """All blocks; order does not matter to attention, so tokens carry their positions unsorted."""
        for block in self.predictor_blocks:
            x = block(x, cos, sin)
        return x


class Predictor(MaskTokenPredictor):
    """The mask-token predictor of V-JEPA 2 (every released model but the action-conditioned one)."""

    def __init__(self, config: VJEPA2Config) -> None:
        shape = config.predictor
        super().__init__(config, nn.Linear(config.width, shape.width), TILED)
        self.predictor_proj = nn.Linear(shape.width, config.width)

    def forward(
        self,
        context: Tensor,
        context_indices: Tensor,
        target_indices: Tensor,
        *,
        mask_token: int = PARITY_MASK_TOKEN,
    ) -> Tensor:
        """Predict the latents at ``target_indices``.

        Args:
            context: Encoder output of the visible tokens, ``[B, Kc, D]``.
            context_indices: Where those tokens stand in the clip, ``[Kc]`` or ``[B, Kc]``.
            target_indices: Where to predict, ``[Kt]`` or ``[B, Kt]``.
            mask_token: Which learned mask token to use, modulo the number there are.

        Returns:
            ``[B, Kt, D]`` in the order of ``target_indices``, before the LayerNorm of the surprise.
        """
        hidden = self.hidden(context, context_indices, target_indices, mask_token=mask_token)
        return self.predictor_proj(hidden)

    def hidden(
        self,
        context: Tensor,
        context_indices: Tensor,
        target_indices: Tensor,
        *,
        mask_token: int = PARITY_MASK_TOKEN,
    ) -> Tensor:
        """Like :meth:`forward`, but before the projection to latents (training attaches other heads)."""
        cos, sin = self.tables_at(context, context_indices, target_indices)
        return self._hidden(context, target_indices.shape[-1], cos, sin, mask_token)

    def predict_future(
        self, context: Tensor, tubelets: int, *, mask_token: int = PARITY_MASK_TOKEN
    ) -> Tensor:
        """Predict the rest of a clip of ``tubelets`` time steps from its first steps (the causal split).

        ``context [B, Kc, D]`` holds whole time steps from the start of the clip; returns ``[B, N − Kc, D]``.
        """
        cos, sin = self.clip_tables(tubelets, context)
        targets = len(cos) - context.shape[1]
        return self.predictor_proj(self._hidden(context, targets, cos, sin, mask_token))

    def _hidden(
        self, context: Tensor, targets: int, cos: Tensor, sin: Tensor, mask_token: int
    ) -> Tensor:
        x = self.transformed(self.with_masks(context, targets, mask_token), cos, sin)
        return self.predictor_norm(x[:, context.shape[1] :])
