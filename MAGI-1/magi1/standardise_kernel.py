"""The kernels of :mod:`magi1.standardise`, in Triton. They round where the plain operations do."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

_ROWS = 32
"""Rows that a program takes."""


@triton.jit
def _moments(x, inside, width: tl.constexpr):
    """Rows of float32 → mean, what is left without it, and the biased std."""
    mean = tl.sum(x, axis=1) / width
    centred = tl.where(inside, x - mean[:, None], 0.0)
    std = tl.sqrt_rn(tl.sum(centred * centred, axis=1) / width)
    return mean, centred, std


@triton.jit
def _places(rows, width: tl.constexpr, block: tl.constexpr, size: tl.constexpr):
    row = tl.program_id(0).to(tl.int64) * size + tl.arange(0, size)[:, None]
    column = tl.arange(0, block)[None, :]
    return row * width + column, (row < rows) & (column < width)


@triton.jit
def _forward(x_at, out_at, rows, eps, width: tl.constexpr, block: tl.constexpr, size: tl.constexpr):
    place, inside = _places(rows, width, block, size)
    narrow = x_at.dtype.element_ty
    x = tl.load(x_at + place, mask=inside, other=0.0).to(tl.float32)
    mean, _, std = _moments(x, inside, width)
    left = (x - mean.to(narrow).to(tl.float32)[:, None]).to(narrow).to(tl.float32)
    scale = (std.to(narrow).to(tl.float32) + eps).to(narrow).to(tl.float32)
    out = tl.div_rn(left, tl.broadcast_to(scale[:, None], left.shape))
    tl.store(out_at + place, out.to(narrow), mask=inside)


@triton.jit
def _backward(
    x_at, grad_at, out_at, rows, eps, width: tl.constexpr, block: tl.constexpr, size: tl.constexpr
):
    place, inside = _places(rows, width, block, size)
    x = tl.load(x_at + place, mask=inside, other=0.0).to(tl.float32)
    grad = tl.load(grad_at + place, mask=inside, other=0.0).to(tl.float32)
    _, centred, std = _moments(x, inside, width)
    grad = grad / (std + eps)[:, None]
    along = tl.sum(grad * centred, axis=1) / (std + eps) / width
    turn = tl.where(std > 0, along / std, 0.0)  # of equal channels the std has no gradient
    out = grad - (tl.sum(grad, axis=1) / width)[:, None] - centred * turn[:, None]
    tl.store(out_at + place, out.to(x_at.dtype.element_ty), mask=inside)


def forward(x: Tensor, eps: float) -> Tensor:
    """Standardised ``x [..., d]``, contiguous."""
    out = torch.empty_like(x)
    _launch(_forward, x, x, out, eps=eps)
    return out


def backward(x: Tensor, grad: Tensor, eps: float) -> Tensor:
    """The gradient in ``x``, from the one in what :func:`forward` returns."""
    out = torch.empty_like(x)
    _launch(_backward, x, x, grad, out, eps=eps)
    return out


def _launch(kernel, like: Tensor, *tensors: Tensor, eps: float) -> None:
    width = like.shape[-1]
    rows = like.numel() // width
    if not rows:
        return
    with torch.cuda.device(like.device):
        kernel[(triton.cdiv(rows, _ROWS),)](
            *tensors,
            rows,
            eps,
            width=width,
            block=triton.next_power_of_2(width),
            size=_ROWS,
        )
