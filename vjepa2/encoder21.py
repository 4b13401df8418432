"""The encoder of V-JEPA 2.1: videos and images → tokens, at several depths."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vjepa2.config import VJEPA21Config
from vjepa2.layers import (
    RECOMPUTED_DEPTH,
    Block,
    LayerNorm,
    PatchEmbed,
    keep_tokens,
    residual,
    run_block,
)
from vjepa2.rope import STRETCHED, Rotary, grid_tables


class Encoder21(nn.Module):
    """The V-JEPA 2.1 encoder.

    Args:
        config: Sizes.
        rotary: How positions become angles.

    Attributes:
        recompute: Whether gradients compute activations again instead of keeping them; large ones do.
    """

    def __init__(self, config: VJEPA21Config, rotary: Rotary = STRETCHED) -> None:
        super().__init__()
        self.head_dim = config.width // config.heads
        self.recompute = config.depth >= RECOMPUTED_DEPTH
        self.levels = config.levels
        self.rotary = rotary
        self.patch_embed = PatchEmbed(config.width, config.patch, config.tubelet)
        self.patch_embed_img = PatchEmbed(config.width, config.patch, tubelet=1)
        self.img_mod_embed = nn.Parameter(torch.zeros(1, 1, config.width))
        self.video_mod_embed = nn.Parameter(torch.zeros(1, 1, config.width))
        self.blocks = nn.ModuleList(
            Block(config.width, config.heads, config.mlp_width) for _ in range(config.depth)
        )
        self.norms_block = nn.ModuleList(LayerNorm(config.width) for _ in config.levels)

    def forward(
        self, pixels: Tensor, keep: Tensor | None = None, *, all_levels: bool = False
    ) -> Tensor:
        """Encode a clip or an image, or only some of its tokens.

        Args:
            pixels: ``[B, 3, T, H, W]``, normalised as :func:`vjepa2.preprocess.preprocess` does; H and
                W multiples of the patch side, at least two patches. T = 1 is an image; a longer clip
                loses an odd last frame.
            keep: Token indices, ``[K]`` or ``[B, K]``; the other tokens are dropped before any attention, so
                that nothing of them reaches the result. Kept tokens keep their positions.
            all_levels: Return every level, shallowest first, side by side.

        Returns:
            The last level, ``[B, N, D]``, or all of them, ``[B, N, levels · D]``; K for N with ``keep``.
            Token ``t·n + y·g + x``, time slowest.
        """
        image = pixels.shape[2] == 1
        embed = self.patch_embed_img if image else self.patch_embed
        tubelets = pixels.shape[2] // embed.tubelet
        rows, columns = (side // embed.patch for side in pixels.shape[-2:])
        x = residual(embed(pixels)) + (self.img_mod_embed if image else self.video_mod_embed)
        tables = grid_tables(tubelets, rows, columns, self.head_dim, x.dtype, x.device, self.rotary)
        x, cos, sin = keep_tokens(x, *tables, keep)
        outputs: list[Tensor] = []  # on the side: the stream goes on un-normed
        for depth, block in enumerate(self.blocks):
            x = run_block(block, x, cos, sin, recompute=self.recompute)
            if all_levels and depth in self.levels:
                outputs.append(self.norms_block[len(outputs)](x))
        return torch.cat(outputs, dim=-1) if all_levels else self.norms_block[-1](x)
