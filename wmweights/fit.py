"""Tensors of files → the places of a module built on the meta device: strictly, and without copies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor, nn

from wmfiles import short
from wmweights.errors import WeightsError

_LONGEST = 80
"""Characters of a name that are shown."""


class _Described(Protocol):
    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> torch.dtype: ...


def places(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and stored buffers by name; one that serves twice is named once."""
    stored = module.state_dict(keep_vars=True).keys()
    buffers = {name: value for name, value in module.named_buffers() if name in stored}
    return dict(module.named_parameters()) | buffers


def check_fit(module: nn.Module, given: Mapping[str, _Described], where: str, model: str) -> None:
    """Refuse tensors whose names, shapes or kinds of numbers are not those of ``module``.

    Args:
        module: The model to fill.
        given: Tensors, or what a file's header says of them, by name.
        where: The files, for the message.
        model: The model's name, for the message.

    Raises:
        WeightsError: names the files, the first key that is missing or too much, or key and shapes.
    """
    own = places(module)
    missing, unexpected = sorted(own.keys() - given.keys()), sorted(given.keys() - own.keys())
    if missing or unexpected:
        parts = [
            f"{len(keys)} {what} (first: {keys[0][:_LONGEST]})"
            for keys, what in ((missing, "missing keys"), (unexpected, "unexpected keys"))
            if keys
        ]
        raise WeightsError(f"{where} does not fit model {model!r}: {', '.join(parts)}")
    for name, place in own.items():
        if tuple(given[name].shape) != tuple(place.shape):
            raise WeightsError(
                f"{where} does not fit model {model!r}: {name} has shape {short(list(given[name].shape))}, "
                f"expected {list(place.shape)}"
            )
        if place.dtype.is_floating_point and not given[name].dtype.is_floating_point:
            raise WeightsError(
                f"{where} does not fit model {model!r}: {name} holds {given[name].dtype}, not "
                "floating-point numbers"
            )


def put(module: nn.Module, name: str, value: Tensor) -> None:
    """Make ``value`` itself the parameter or buffer called ``name``; parameters come out frozen."""
    owner, _, leaf = name.rpartition(".")
    holder = module.get_submodule(owner)
    is_parameter = leaf in holder._parameters
    setattr(holder, leaf, nn.Parameter(value, requires_grad=False) if is_parameter else value)


def assemble(module: nn.Module, state: Mapping[str, Tensor], where: str, model: str) -> None:
    """Fill ``module`` with ``state``, which must fit exactly; see :func:`check_fit`."""
    check_fit(module, state, where, model)
    for name, value in state.items():
        put(module, name, value)
