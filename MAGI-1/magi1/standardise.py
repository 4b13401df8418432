"""How the VAE's attention standardises its queries, keys and values, channel by channel of a head.

On a GPU one kernel does it (:mod:`magi1.standardise_kernel`), where Triton can build it; as the dozen
operations that it is in PyTorch it takes more time there than all matrix products of the VAE.
"""

from __future__ import annotations

import logging
import math
from functools import cache
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

log = logging.getLogger(__name__)

EPS = 1e-5


def standardise(x: Tensor) -> Tensor:
    """``(x - mean) / (std + 1e-5)`` over the last axis; the biased std.

    Mean and std are computed in float32 at least and rounded to the precision of ``x``, which the
    arithmetic after them has.
    """
    if not x.is_cuda or x.dtype == torch.float64:
        return standardise_plainly(x)
    kernel = _kernel(x.device, x.dtype, x.shape[-1])
    if kernel is None:
        return standardise_plainly(x)
    fused: Tensor = _Fused.apply(x, kernel)
    return fused


@cache
def _kernel(device: torch.device, dtype: torch.dtype, width: int) -> ModuleType | None:
    """The kernel, if it works there and for such rows. On its first use Triton needs a C compiler and Python's
    headers, which small container images lack, and it does not know every GPU.
    """
    try:
        from magi1 import standardise_kernel

        standardise_kernel.forward(torch.ones(1, width, device=device, dtype=dtype), EPS)
    except ImportError:  # no Triton
        return None
    except Exception as error:  # each of the above fails in another way
        reason = str(error).partition("\n")[0]
        log.warning(
            "Triton cannot build a kernel of the VAE, which takes longer without: %s", reason
        )
        return None
    return standardise_kernel


def standardise_plainly(x: Tensor) -> Tensor:
    """The same by PyTorch's own operations, on any device. (torch.std_mean is ten times slower on CPUs.)"""
    wide = torch.promote_types(x.dtype, torch.float32)
    mean = x.mean(-1, keepdim=True, dtype=wide)
    std = torch.linalg.vector_norm(x - mean, dim=-1, keepdim=True) / math.sqrt(x.shape[-1])
    return (x - mean.to(x.dtype)) / (std.to(x.dtype) + EPS)


class _Fused(torch.autograd.Function):
    """Remembers its input alone. The gradient is computed in float32 and rounded once."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: ModuleType) -> Tensor:
        x = x.contiguous()
        ctx.kernel = kernel
        ctx.save_for_backward(x)
        out: Tensor = kernel.forward(x, EPS)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        return ctx.kernel.backward(x, grad.contiguous(), EPS), None
