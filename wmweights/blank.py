"""Networks without numbers, to be filled from files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

_FILLS = {"add_", "clamp_", "div_", "erfinv_", "fill_", "mul_", "normal_", "uniform_", "zero_"}
"""What initialisers do to a tensor: not all of them tell this mode of themselves."""


class _NothingDrawn(TorchFunctionMode):
    """Initialisers of `torch.nn.init` leave what they are given as it is."""

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        if getattr(func, "__name__", None) in _FILLS and args[0].is_meta:
            return args[0]
        return func(*args, **kwargs)


@contextmanager
def blank() -> Iterator[None]:
    """Modules made in here have places for weights, on the meta device, and no numbers.

    Drawing numbers that do not exist takes seconds: the first time, PyTorch loads its compiler for it.
    """
    with torch.device("meta"), _NothingDrawn():
        yield
