"""How much memory a computation takes, found by running it on tensors that have a shape but no content."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter


class Counted(TorchDispatchMode):
    """Within the context, tensors that are made are counted for as long as they live.

    What an allocator rounds up and what kernels need for themselves is not seen.

    Attributes:
        bytes: Alive now, of all that was made within the context.
        peak: The most so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self.bytes = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        given = {_storage(x) for x in tree_iter((args, kwargs)) if isinstance(x, Tensor)}
        for found in tree_iter(made):
            if isinstance(found, Tensor) and _storage(found) not in given:
                self._count(found.untyped_storage())
        return made

    def _count(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self._known:
            return
        self._known.add(key)
        self.bytes += storage.nbytes()
        self.peak = max(self.peak, self.bytes)
        weakref.finalize(storage, self._gone, key, storage.nbytes())

    def _gone(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.bytes -= size


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata
