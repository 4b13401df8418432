"""Operators of our own, which torch.compile takes as they are.

``torch.library.custom_op`` registers them, too, but its first call loads PyTorch's compiler, which takes
seconds, also where nothing is compiled.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

_LIBRARY = torch.library.Library("magi1", "FRAGMENT")


def operator(
    schema: str,
    function: Callable[..., Tensor],
    *,
    shape_of: Callable[..., Tensor],
    backward: Callable[..., Any],
    keep: Callable[..., None],
) -> Callable[..., Tensor]:
    """Register an operator of this package for every device.

    Args:
        schema: Its name and types, such as ``name(Tensor x) -> Tensor``.
        function: What it does; it returns no view of an argument.
        shape_of: An empty tensor like its result, for compilation.
        backward: ``(ctx, gradient)`` → the gradients of the arguments.
        keep: ``(ctx, inputs, output)``: what ``backward`` needs.
    """
    name = schema.partition("(")[0]
    _LIBRARY.define(schema)
    _LIBRARY.impl(name, function, "CompositeExplicitAutograd")
    place = f"magi1::{name}"
    torch.library.register_fake(place, shape_of, lib=_LIBRARY)
    torch.library.register_autograd(place, backward, setup_context=keep, lib=_LIBRARY)
    registered: Callable[..., Tensor] = getattr(torch.ops.magi1, name).default
    return registered
