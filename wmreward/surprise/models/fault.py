"""What is at fault when a world model makes no numbers of a video."""

from __future__ import annotations

import torch
from torch import nn

from wmreward.errors import named
from wmweights import first_not_finite


def has_damaged_weights(model: object) -> bool:
    """Whether no video can be scored with it."""
    return isinstance(model, nn.Module) and first_not_finite(model) is not None


def fault_of(model: object) -> str:
    """Why a world model makes no numbers of a finite video, in words."""
    if not isinstance(model, nn.Module):
        return "the world model is at fault"
    if (weight := first_not_finite(model)) is not None:
        return (
            f"the world model's weights are damaged ({weight} holds infinity or no numbers at all); "
            "download them again"
        )
    dtype = next((parameter.dtype for parameter in model.parameters()), torch.float32)
    if dtype in (torch.float32, torch.float64):
        return (
            "the world model's weights are in order, but its numbers grow too large for this video"
        )
    return f"{dtype} is too narrow for this video; try {named('dtype', 'float32')}"
