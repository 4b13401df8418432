"""Video → tokens: a pre-norm vision transformer without class token or learned positions."""

from __future__ import annotations

from torch import Tensor, nn

from vjepa2.config import VJEPA2Config
from vjepa2.layers import (
    RECOMPUTED_DEPTH,
    Block,
    LayerNorm,
    PatchEmbed,
    keep_tokens,
    residual,
    run_block,
)
from vjepa2.rope import grid_tables


class Encoder(nn.Module):
    """The V-JEPA 2 video encoder.

    Attributes:
        recompute: Whether gradients compute activations again instead of keeping them; large ones do.
    """

    def __init__(self, config: VJEPA2Config) -> None:
        super().__init__()
        self.head_dim = config.width // config.heads
        self.recompute = config.depth >= RECOMPUTED_DEPTH
        self.patch_embed = PatchEmbed(config.width, config.patch, config.tubelet)
        self.blocks = nn.ModuleList(
            Block(config.width, config.heads, config.mlp_width) for _ in range(config.depth)
        )
        self.norm = LayerNorm(config.width)

    def forward(self, pixels: Tensor, keep: Tensor | None = None) -> Tensor:
        """Encode a clip, or only some of its tokens.

        Args:
            pixels: ``[B, 3, T, H, W]``, normalised as :func:`vjepa2.preprocess.preprocess` does. T
                even (an odd last frame is dropped), H and W multiples of the patch side.
            keep: Token indices ``[B, K]``; the other tokens are dropped before any attention, so
                that nothing of them reaches the result. Kept tokens keep their positions.

        Returns:
            ``[B, N, D]``, or ``[B, K, D]`` with ``keep``; token ``t·n + y·g + x``, time slowest.
        """
        size = (self.patch_embed.patch, self.patch_embed.patch)
        rows, columns = (side // step for side, step in zip(pixels.shape[-2:], size, strict=True))
        tubelets = pixels.shape[2] // self.patch_embed.tubelet
        x = self.patch_embed(pixels)
        cos, sin = grid_tables(tubelets, rows, columns, self.head_dim, x.dtype, x.device)
        x, cos, sin = keep_tokens(x, cos, sin, keep)
        x = residual(x)
        for block in self.blocks:
            x = run_block(block, x, cos, sin, recompute=self.recompute)
        return self.norm(x)
