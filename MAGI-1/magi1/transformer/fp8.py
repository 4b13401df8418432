"""The two kinds of float8 linear layers in the quantised checkpoints.

Weights are e4m3 with one scale; inputs are divided by a scale, clamped and rounded to e4m3 on the fly.
``torch._scaled_mm`` multiplies them where the GPU can; elsewhere the same numbers are multiplied in
float32.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from magi1.transformer.operators import operator

E4M3 = torch.float8_e4m3fn
E4M3_MAX = 448.0


class FP8Linear(nn.Module):
    """y = (xq Wᵀ) · a · weight_scale in bfloat16, with xq = e4m3(bf16(clamp(x / s, ±448))).

    Subclasses say what divides the input (s); a is the first ``input_scale`` in both kinds.
    """

    weight: Tensor
    weight_scale: Tensor
    input_scale: Tensor

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.inputs, self.outputs = inputs, outputs
        # The leading 1 is how the checkpoints store them.
        self._add("weight", torch.zeros(1, outputs, inputs, dtype=E4M3))
        self._add("weight_scale", torch.ones(1))

    def _add(self, name: str, value: Tensor) -> None:
        self.register_parameter(name, nn.Parameter(value, requires_grad=False))

    def divisor(self) -> Tensor:
        """What the input is divided by; broadcasts over ``[..., in]``."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """``[..., in]`` → ``[..., out]`` in bfloat16."""
        scales = (self.input_scale[0].float(), self.weight_scale[0].float())
        scaled = (x.float() / self.divisor().float()).clamp(-E4M3_MAX, E4M3_MAX)
        rows = scaled.to(torch.bfloat16).flatten(0, -2)  # rounded twice, as the reference does
        product: Tensor = _product(rows, self.weight[0], *scales)
        return product.unflatten(0, x.shape[:-1])


class PerTensorFP8Linear(FP8Linear):
    """One input scale, stored once per input channel."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self._add("input_scale", torch.ones(inputs))

    def divisor(self) -> Tensor:
        return self.input_scale


class SmoothFP8Linear(FP8Linear):
    """A scale for each input channel ("smoothing") beside the scale of the product."""

    smooth_scale: Tensor

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self._add("input_scale", torch.ones(1))
        self._add("smooth_scale", torch.ones(1, inputs))

    def divisor(self) -> Tensor:
        return self.smooth_scale[0]


def _has_fp8_product(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 9)


def _multiplied(rows: Tensor, weight: Tensor, scale_a: Tensor, scale_b: Tensor) -> Tensor:
    """e4m3(rows) Wᵀ · both scales."""
    quantised = rows.to(E4M3)
    if _has_fp8_product(rows.device):
        product: Tensor = torch._scaled_mm(
            quantised, weight.t(), scale_a=scale_a, scale_b=scale_b, out_dtype=torch.bfloat16
        )
        return product
    return (F.linear(quantised.float(), weight.float()) * scale_a * scale_b).to(torch.bfloat16)


def _shape_of_product(rows: Tensor, weight: Tensor, scale_a: Tensor, scale_b: Tensor) -> Tensor:
    return rows.new_empty(rows.shape[0], weight.shape[0], dtype=torch.bfloat16)


def _keep_weight(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[1:])


def _multiplied_backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
    """The gradient passes the rounding straight through."""
    weight, scale_a, scale_b = ctx.saved_tensors
    scaled = (grad.float() * scale_a * scale_b).to(torch.bfloat16)
    return scaled @ weight.to(torch.bfloat16), None, None, None


_product = operator(
    "fp8_product(Tensor rows, Tensor weight, Tensor scale_a, Tensor scale_b) -> Tensor",
    _multiplied,
    shape_of=_shape_of_product,
    backward=_multiplied_backward,
    keep=_keep_weight,
)
