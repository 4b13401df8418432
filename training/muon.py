"""Muon: momentum whose steps have singular values near one, for the matrices inside a network's blocks.

After Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024); the size of steps as
in Liu et al., "Muon is scalable for LLM training" (arXiv 2502.16982): with it the learning rate and
weight decay of AdamW fit. torch.optim.Muon (from torch 2.9) takes one matrix after the other, some twenty
launches each; here matrices of one shape are worked on together.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor, nn

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of an odd polynomial that takes singular values in (0, 1] to about 1 when it is applied `ROUNDS` times."""
ROUNDS = 5
RMS = 0.2
"""Root mean square of a step's entries before the learning rate, as AdamW has it."""


def hidden_matrices(model: nn.Module) -> list[nn.Parameter]:
    """Weights of the linear layers within lists of blocks: what Muon is for."""
    blocks = (part for part in model.modules() if isinstance(part, nn.ModuleList))
    inside = (module for part in blocks for module in part.modules())
    weights = {id(m.weight) for m in inside if isinstance(m, nn.Linear)}
    return [p for p in model.parameters() if id(p) in weights and p.requires_grad]


def orthogonalised(matrices: Tensor) -> Tensor:
    """``[B, R, C]`` → the same singular vectors with singular values between about 0.7 and 1.2."""
    a, b, c = COEFFICIENTS
    x = matrices.bfloat16() if matrices.is_cuda else matrices.float()
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(ROUNDS):
        square = x @ x.mT
        x = a * x + torch.baddbmm(square, square, square, beta=b, alpha=c) @ x
    return (x.mT if tall else x).to(matrices.dtype)


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised, with decoupled weight decay.

    Args:
        matrices: Parameters of two dimensions.
        lr: Learning rate; a step's entries have a root mean square of 0.2 times it.
        momentum: Part of the old direction that is kept.
        weight_decay: As in AdamW.
    """

    def __init__(
        self,
        matrices: Iterable[nn.Parameter],
        lr: float = 1e-3,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(matrices, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        for group in self.param_groups:
            if wrong := [list(p.shape) for p in group["params"] if p.ndim != 2]:
                raise ValueError(f"Muon is for matrices, got a parameter of shape {wrong[0]}")

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            same: dict[torch.Size, list[nn.Parameter]] = defaultdict(list)
            for p in group["params"]:
                if p.grad is not None:
                    same[p.shape].append(p)
            for shape, parameters in same.items():
                self._update(group, shape, parameters)

    def _update(
        self, group: dict[str, float], shape: torch.Size, parameters: list[nn.Parameter]
    ) -> None:
        gradients = [p.grad for p in parameters if p.grad is not None]
        for p, gradient in zip(parameters, gradients, strict=True):
            if "momentum" not in self.state[p]:
                self.state[p]["momentum"] = torch.zeros_like(gradient)
        kept = [self.state[p]["momentum"] for p in parameters]
        torch._foreach_lerp_(kept, gradients, 1 - group["momentum"])
        ahead = torch._foreach_lerp(gradients, kept, group["momentum"])
        size = -group["lr"] * RMS * max(shape) ** 0.5
        steps = orthogonalised(torch.stack(ahead)).mul_(size)
        values: list[Tensor] = [p.data for p in parameters]
        torch._foreach_mul_(values, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(values, list(steps.unbind()))
