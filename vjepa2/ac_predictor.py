"""The action-conditioned predictor (V-JEPA 2-AC): features, actions and states → features one step later."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor, nn

from vjepa2.config import VJEPA2Config
from vjepa2.layers import Block, LayerNorm, residual
from vjepa2.rope import grid_positions, rotary_tables, table_dtype


class ActionPredictor(nn.Module):
    """Block-causal predictor over time steps of [action, state, (extrinsics,) patch tokens]."""

    def __init__(self, config: VJEPA2Config) -> None:
        super().__init__()
        shape = config.predictor
        if shape.action_dim is None:
            raise ValueError(f"model {config.name!r} has no action-conditioned predictor")
        self.grid = config.grid
        self.head_dim = shape.width // shape.heads
        self.predictor_embed = nn.Linear(config.width, shape.width)
        self.action_encoder = nn.Linear(shape.action_dim, shape.width)
        self.state_encoder = nn.Linear(shape.action_dim, shape.width)
        self.extrinsics_encoder = nn.Linear(shape.extrinsics_dim, shape.width)
        self.predictor_blocks = nn.ModuleList(
            Block(shape.width, shape.heads, 4 * shape.width) for _ in range(shape.depth)
        )
        self.predictor_norm = LayerNorm(shape.width)
        self.predictor_proj = nn.Linear(shape.width, config.width)

    def forward(
        self, features: Tensor, actions: Tensor, states: Tensor, extrinsics: Tensor | None = None
    ) -> Tensor:
        """Predict each next step's features.

        Args:
            features: ``[B, T·n, D]``, one set of n = g² tokens per time step.
            actions: ``[B, T, 7]``: what is done between this step and the next.
            states: ``[B, T, 7]``: where the arm is at this step.
            extrinsics: Camera pose ``[B, T, 6]``; the released model runs without.

        Returns:
            ``[B, T·n, D]``: at step t, the prediction of the features of step t + 1.
        """
        steps, n = actions.shape[1], self.grid**2
        if features.shape[1] != steps * n:
            raise ValueError(
                f"{features.shape[1]} feature tokens do not fit {steps} actions of {n} tokens a step"
            )
        patches = self.predictor_embed(features).unflatten(1, (steps, n))
        conditions = [self.action_encoder(actions), self.state_encoder(states)]
        if extrinsics is not None:
            conditions.append(self.extrinsics_encoder(extrinsics))
        x = torch.cat([torch.stack(conditions, dim=2), patches], dim=2).flatten(1, 2)
        extra = len(conditions)
        cos, sin, mask = _layout(steps, extra, self.grid, self.head_dim, x.dtype, x.device)
        x = residual(x)
        for block in self.predictor_blocks:
            x = block(x, cos, sin, mask)
        x = x.unflatten(1, (steps, extra + n))[:, :, extra:].flatten(1, 2)
        return self.predictor_proj(self.predictor_norm(x))


@lru_cache(maxsize=8)
def _layout(
    steps: int, extra: int, grid: int, head_dim: int, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """Rotary tables and block-causal mask of ``steps`` time steps of ``extra`` conditions + g² patches."""
    # Not inference tensors: a kept table must be able to take part in a later gradient.
    with torch.inference_mode(False):
        patches = grid_positions(steps, grid, grid, table_dtype(dtype), device)
        patches = patches.unflatten(0, (steps, -1))
        # Condition tokens have a time but no place: only their time channels turn.
        conditions = patches[:, :1].expand(-1, extra, -1).clone()
        conditions[:, :, 1:] = math.nan
        positions = torch.cat([conditions, patches], dim=1).flatten(0, 1)
        cos, sin = rotary_tables(positions, head_dim)
        step = torch.arange(steps, device=device).repeat_interleave(extra + grid**2)
        return cos, sin, step[:, None] >= step[None, :]
