"""Context tokens + mask tokens → predicted latents of the unseen tokens."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vjepa2.config import VJEPA2Config
from vjepa2.layers import Block, LayerNorm, residual
from vjepa2.rope import grid_tables, rotary_tables, table_dtype

PARITY_MASK_TOKEN = 1
"""Which of the ten mask tokens the published loaders use (0-based)."""


class Predictor(nn.Module):
    """The mask-token predictor of V-JEPA 2 (every released model but the action-conditioned one)."""

    def __init__(self, config: VJEPA2Config) -> None:
        super().__init__()
        shape = config.predictor
        self.grid = config.grid
        self.head_dim = shape.width // shape.heads
        self.predictor_embed = nn.Linear(config.width, shape.width)
        self.mask_tokens = nn.ParameterList(
            nn.Parameter(torch.zeros(1, 1, shape.width)) for _ in range(shape.mask_tokens)
        )
        self.predictor_blocks = nn.ModuleList(
            Block(shape.width, shape.heads, 4 * shape.width) for _ in range(shape.depth)
        )
        self.predictor_norm = LayerNorm(shape.width)
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
        # Attention does not care about order, so tokens carry their positions instead of being sorted.
        where = torch.cat([context_indices, target_indices], dim=-1)
        n = self.grid**2
        positions = torch.stack([where // n, where % n // self.grid, where % self.grid], dim=-1)
        cos, sin = rotary_tables(positions.to(table_dtype(context.dtype)), self.head_dim)
        if where.ndim == 2:
            cos, sin = cos[:, None], sin[:, None]  # [B, 1, N, d]: the same for every head
        return self._hidden(context, target_indices.shape[-1], cos, sin, mask_token)

    def predict_future(
        self, context: Tensor, tubelets: int, *, mask_token: int = PARITY_MASK_TOKEN
    ) -> Tensor:
        """Predict the rest of a clip of ``tubelets`` time steps from its first steps (the causal split).

        ``context [B, Kc, D]`` holds whole time steps from the start of the clip; returns ``[B, N − Kc, D]``.
        """
        cos, sin = grid_tables(
            tubelets, self.grid, self.grid, self.head_dim, context.dtype, context.device
        )
        targets = len(cos) - context.shape[1]
        return self.predictor_proj(self._hidden(context, targets, cos, sin, mask_token))

    def _hidden(
        self, context: Tensor, targets: int, cos: Tensor, sin: Tensor, mask_token: int
    ) -> Tensor:
        x = self.predictor_embed(context)
        mask = self.mask_tokens[mask_token % len(self.mask_tokens)]
        x = torch.cat([x, mask.to(x.dtype).expand(len(x), targets, -1)], dim=1)
        x = residual(x)
        for block in self.predictor_blocks:
            x = block(x, cos, sin)
        return self.predictor_norm(x[:, context.shape[1] :])
