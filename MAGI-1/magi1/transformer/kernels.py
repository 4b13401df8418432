"""The few operations that have a fast kernel somewhere: one file owns detection, choice and fallback.

Plain torch is the default and the reference; the fast kernels are used only where asked for.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from magi1.errors import MagiUsageError
from magi1.transformer.operators import operator

KernelChoice = Literal["torch", "flash"]


def wide(dtype: torch.dtype) -> torch.dtype:
    """The type of the regions that run "in float32": at least that, float64 where the model is."""
    return torch.promote_types(dtype, torch.float32)


def sdpa(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """softmax(q kᵀ / √d) v with grouped queries.

    Query head i reads key head i // (heads / groups). As no query sees less than another, the heads
    of a group are folded into the sequence, so keys and values are never repeated.

    Args:
        q: ``[B, S, heads, d]``.
        k, v: ``[B, K, groups, d]``.
        mask: ``[B, K]``, true where a key counts; all do without it.

    Returns:
        ``[B, S, heads, d]``.
    """
    groups, queries, dtype = k.shape[2], q.shape[1], q.dtype
    if not q.is_cuda:
        # Kernels for CPUs round the probabilities to the type of the inputs; float32 costs no time there.
        q, k, v = (part.to(wide(dtype)) for part in (q, k, v))
    folded = rearrange(q, "b s (g r) d -> b g (r s) d", g=groups)
    k, v = k.transpose(1, 2), v.transpose(1, 2)
    keep = None if mask is None else mask[:, None, None, :]
    out = F.scaled_dot_product_attention(folded, k, v, attn_mask=keep)
    return rearrange(out, "b g (r s) d -> b s (g r) d", s=queries).to(dtype)


def silu_and_mul(x: Tensor) -> Tensor:
    """silu(first half) · second half of the last axis, in float32 and rounded once."""
    gate, value = x.to(wide(x.dtype)).chunk(2, dim=-1)
    return (F.silu(gate) * value).to(x.dtype)


@dataclass(frozen=True)
class Kernels:
    """What the transformer computes with."""

    attention: Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor] = sdpa
    silu_and_mul: Callable[[Tensor], Tensor] = silu_and_mul


TORCH = Kernels()


def find_kernels(choice: KernelChoice) -> Kernels:
    """``torch``, or ``flash`` for flash-attn and flashinfer.

    Raises:
        MagiUsageError: the packages are not installed.
    """
    if choice == "torch":
        return TORCH
    flash_attn, flashinfer = _extra("flash_attn"), _extra("flashinfer")

    def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        if mask is not None:
            return sdpa(q, k, v, mask)
        out: Tensor = flash_attn.flash_attn_func(q, k, v)
        return out

    def fused_silu_and_mul(x: Tensor) -> Tensor:
        if torch.is_grad_enabled() and x.requires_grad:
            return silu_and_mul(x)  # flashinfer has no backward
        out: Tensor = flashinfer.silu_and_mul(x)
        return out

    return Kernels(attention, fused_silu_and_mul)


def _extra(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MagiUsageError(
            f"kernels 'flash' need {name} ({error}): pip install -e \".[cuda]\" in the clone, or use 'torch'"
        ) from None


# --- products of bfloat16 with a float32 result ---------------------------------------------------


WIDE_PRODUCT = "dtype" in torch.ops.aten.mm.overloads()
"""Whether torch.mm can leave a product of bfloat16 operands in float32 (from torch 2.8)."""


def wide_linear(x: Tensor, weight: Tensor) -> Tensor:
    """x Wᵀ ``[..., out]`` of operands ``[..., in]`` and ``[out, in]``, neither of them rounded, in float32.

    A product of two bfloat16 numbers is exact in float32, so a bfloat16 matrix product with a float32
    accumulator and result says the same as one of upcast operands, at tensor-core speed.
    """
    if x.dtype == weight.dtype == torch.bfloat16:
        rows: Tensor = _wide_product(x.flatten(0, -2), weight)
        return rows.unflatten(0, x.shape[:-1])
    dtype = wide(x.dtype)
    return F.linear(x.to(dtype), weight.to(dtype))


def _multiplied(rows: Tensor, weight: Tensor) -> Tensor:
    if rows.is_cuda and WIDE_PRODUCT:
        return torch.mm(rows, weight.t(), out_dtype=torch.float32)
    return F.linear(rows.float(), weight.float())


def _shape_of_product(rows: Tensor, weight: Tensor) -> Tensor:
    return rows.new_empty(rows.shape[0], weight.shape[0], dtype=torch.float32)


def _keep_operands(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _multiplied_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """Gradients are rounded to bfloat16 first, as they leave in it anyway."""
    rows, weight = ctx.saved_tensors
    grad = grad.to(rows.dtype)
    into_rows = grad @ weight if ctx.needs_input_grad[0] else None
    into_weight = grad.t() @ rows if ctx.needs_input_grad[1] else None
    return into_rows, into_weight


_wide_product = operator(
    "wide_product(Tensor rows, Tensor weight) -> Tensor",
    _multiplied,
    shape_of=_shape_of_product,
    backward=_multiplied_backward,
    keep=_keep_operands,
)
