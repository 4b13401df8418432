"""Building blocks that encoder and predictors share. Parameter names are those of the released
checkpoints.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from vjepa2.rope import rotate

RECOMPUTED_DEPTH = 24
"""Encoders of so many blocks compute activations again for a gradient: kept, those of ViT-g take 3 GiB for a
window of 16 frames; recomputed, 0.6.
"""


class PatchEmbed(nn.Module):
    """Cuts a video into ``tubelet × patch × patch`` blocks and maps each to one token."""

    def __init__(self, width: int, patch: int, tubelet: int) -> None:
        super().__init__()
        self.patch, self.tubelet = patch, tubelet
        size = (tubelet, patch, patch)
        self.proj = nn.Conv3d(3, width, kernel_size=size, stride=size)

    def forward(self, pixels: Tensor) -> Tensor:
        """``[B, 3, T, H, W]`` → ``[B, T/tubelet · H/patch · W/patch, D]``.

        As by a convolution, an odd last frame is dropped, and rows and columns that fill no patch.
        """
        steps = (self.tubelet, self.patch, self.patch)
        frames, rows, columns = (
            side - side % step for side, step in zip(pixels.shape[2:], steps, strict=True)
        )
        if not frames * rows * columns:
            raise ValueError(
                f"a clip of {' × '.join(map(str, pixels.shape[2:]))} is smaller than a token, "
                f"{' × '.join(map(str, steps))} (frames × rows × columns)"
            )
        patches = rearrange(
            pixels[:, :, :frames, :rows, :columns],
            "b c (t dt) (h dh) (w dw) -> b (t h w) (c dt dh dw)",
            dt=self.tubelet,
            dh=self.patch,
            dw=self.patch,
        )
        # A convolution whose stride is its kernel is a matrix product, which is the faster kernel everywhere.
        return F.linear(patches, self.proj.weight.flatten(1), self.proj.bias)


class LayerNorm(nn.LayerNorm):
    """Normalises in float32 at least, whatever the precision of its weights, and returns theirs.

    The residual stream of a half-precision model stays in float32: rounding it at every block would
    cost more accuracy than all the matrix products together.
    """

    def __init__(self, width: int) -> None:
        super().__init__(width, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        wide = torch.promote_types(x.dtype, torch.float32)
        out = F.layer_norm(
            x.to(wide), self.normalized_shape, self.weight.to(wide), self.bias.to(wide), self.eps
        )
        return out.to(self.weight.dtype)


def residual(x: Tensor) -> Tensor:
    """Tokens as the residual stream carries them: float32, or float64 in a float64 model."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


class Attention(nn.Module):
    """Multi-head self-attention with rotary positions; one fused projection whose rows are [q | k | v]."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor | None = None) -> Tensor:
        """``x [B, N, D]``; ``cos, sin [N, d]`` or ``[B, 1, N, d]``; ``mask [N, N]`` is true where seen."""
        q, k, v = rearrange(self.qkv(x), "b n (three h d) -> three b h n d", three=3, h=self.heads)
        out = F.scaled_dot_product_attention(
            rotate(q, cos, sin), rotate(k, cos, sin), v, attn_mask=mask
        )
        return self.proj(rearrange(out, "b h n d -> b n (h d)"))


class MLP(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))  # the exact erf form: tanh is off by 4e-4


class Block(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, width: int, heads: int, mlp_width: int) -> None:
        super().__init__()
        self.norm1 = LayerNorm(width)
        self.attn = Attention(width, heads)
        self.norm2 = LayerNorm(width)
        self.mlp = MLP(width, mlp_width)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor | None = None) -> Tensor:
        """``[B, N, D]`` → ``[B, N, D]``; the other arguments go to :class:`Attention`."""
        x = x + self.attn(self.norm1(x), cos, sin, mask)
        return x + self.mlp(self.norm2(x))


def run_block(block: nn.Module, x: Tensor, cos: Tensor, sin: Tensor, *, recompute: bool) -> Tensor:
    """``block(x, cos, sin)``; with ``recompute``, a gradient of frozen weights computes activations again."""
    if recompute and x.requires_grad and torch.is_grad_enabled() and _is_frozen(block):
        again: Tensor = _Recomputed.apply(x, block, cos, sin)
        return again
    out: Tensor = block(x, cos, sin)
    return out


def _is_frozen(module: nn.Module) -> bool:
    return not any(parameter.requires_grad for parameter in module.parameters())


class _Recomputed(torch.autograd.Function):
    """Gradient checkpointing. PyTorch's own loads its compiler first, which takes seconds."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, block: nn.Module, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.block, ctx.autocast = block, _autocast_of(x.device.type)
        ctx.save_for_backward(x, cos, sin)
        out: Tensor = block(x, cos, sin)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        x, cos, sin = ctx.saved_tensors
        leaf = x.detach().requires_grad_()
        with torch.enable_grad(), ctx.autocast:
            out = ctx.block(leaf, cos, sin)
        return torch.autograd.grad(out, leaf, grad)[0], None, None, None


def _autocast_of(device: str) -> AbstractContextManager[Any]:
    """What autocast does now, for a backward pass, which runs outside of it."""
    if not torch.amp.is_autocast_available(device):
        return nullcontext()
    return torch.autocast(
        device, torch.get_autocast_dtype(device), torch.is_autocast_enabled(device)
    )


def keep_tokens(
    x: Tensor, cos: Tensor, sin: Tensor, keep: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Tokens ``[B, N, D]`` and their tables ``[N, d]`` at indices ``keep``, ``[K]`` or ``[B, K]``; all for
    ``None``.
    """
    if keep is None:
        return x, cos, sin
    keep = keep.expand(len(x), -1)  # else a gather would leave out all but the first of a batch
    kept = x.gather(1, keep[:, :, None].expand(-1, -1, x.shape[-1]))
    return kept, cos[keep][:, None], sin[keep][:, None]  # [B, 1, K, d]: the same for every head
