"""Weights that wait in host memory and are on the GPU only while they work.

They must be frozen: nothing is copied back. What is computed does not change by a bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from magi1.errors import MagiUsageError
from magi1.transformer.dit import DiT

ALIGNMENT = 256
"""Bytes between the beginnings of tensors: what a GPU's allocator keeps to and fast kernels rely on."""


@contextmanager
def resident(module: nn.Module, device: torch.device | str) -> Iterator[None]:
    """Have ``module`` on ``device`` for as long as the context lasts; for gradients, too, take them inside.

    The host's copy stays (pinned from the first time on, for a GPU) and is what the module has again
    afterwards. What is on the device already stays there.
    """
    device = torch.device(device)
    moved: list[tuple[Tensor, Tensor]] = []
    try:
        for tensor in (*module.parameters(), *module.buffers()):
            if tensor.device == device:
                continue
            if device.type == "cuda" and tensor.device.type == "cpu" and not tensor.is_pinned():
                tensor.data = tensor.data.pin_memory()
            moved.append((tensor, tensor.data))
            tensor.data = tensor.data.to(device, non_blocking=True)
        yield
    finally:
        for tensor, at_home in moved:
            tensor.data = at_home


def offload_layers(dit: DiT, device: torch.device | str, *, ahead: int = 1) -> LayerStream:
    """Keep a transformer's layers in host memory and stream them; move everything else to ``device``.

    Gradients with respect to inputs need ``dit.checkpointing``: a layer then runs once more right before
    its backward pass. Otherwise its weights would have left the device by then.

    Args:
        dit: The transformer, frozen, best on the CPU. Do not move it afterwards.
        device: Where it runs. On the CPU, too, weights go through the buffers.
        ahead: Layers on their way while one works; ``ahead + 1`` take memory on the device.

    Raises:
        MagiUsageError: weights that are not frozen; later, gradients without checkpointing.
    """
    if any(parameter.requires_grad for parameter in dit.parameters()):
        raise MagiUsageError("offload: freeze the weights first, with requires_grad_(False)")
    device, blocks = torch.device(device), dit.videodit_blocks
    for module in (*dit.children(), *blocks.children()):
        if module is not blocks and module is not blocks.layers:
            module.to(device)
    layers = [PackedLayer(layer, pinned=device.type == "cuda") for layer in blocks.layers]
    stream = LayerStream(layers, device, ahead)

    def before(index: int, layer: nn.Module, inputs: tuple[Tensor, Any]) -> None:
        if torch.is_grad_enabled() and inputs[0].requires_grad and not dit.checkpointing:
            raise MagiUsageError("offload: gradients need the transformer's checkpointing")
        stream.fetch(index)

    for index, layer in enumerate(blocks.layers):
        layer.register_forward_pre_hook(partial(before, index))
    return stream


class PackedLayer:
    """The weights of a layer, side by side in one piece of host memory, so that one copy moves them."""

    def __init__(self, layer: nn.Module, *, pinned: bool) -> None:
        self.parameters = list(layer.parameters())
        self.offsets, self.nbytes = [], 0
        for parameter in self.parameters:
            self.offsets.append(self.nbytes)
            self.nbytes += -(-parameter.nbytes // ALIGNMENT) * ALIGNMENT
        self.host = torch.empty(self.nbytes, dtype=torch.uint8, pin_memory=pinned)
        for parameter, place in zip(self.parameters, self._places(self.host), strict=True):
            place.copy_(parameter)
        self.lie_in(self.host)

    def lie_in(self, memory: Tensor) -> None:
        """Let the layer's weights be what is in ``memory``, bytes ``[≥ nbytes]``."""
        for parameter, place in zip(self.parameters, self._places(memory), strict=True):
            parameter.data = place

    def _places(self, memory: Tensor) -> list[Tensor]:
        return [
            memory[offset : offset + parameter.nbytes].view(parameter.dtype).view(parameter.shape)
            for offset, parameter in zip(self.offsets, self.parameters, strict=True)
        ]


@dataclass
class Slot:
    """Room for one layer on the device.

    Attributes:
        memory: Bytes.
        layer: Index of the layer that it holds or will hold.
        filled: When that layer has arrived; None on a CPU, where it has.
    """

    memory: Tensor
    layer: int | None = None
    filled: torch.cuda.Event | None = None


class LayerStream:
    """Brings layers to the device: in time in the usual orders, and correctly in any.

    Args:
        layers: In host memory.
        device: Where they work.
        ahead: How many to bring before they are asked for.
    """

    def __init__(self, layers: Sequence[PackedLayer], device: torch.device, ahead: int) -> None:
        self.layers, self.device = layers, device
        size = max(layer.nbytes for layer in layers)
        self.slots = [
            Slot(torch.empty(size, dtype=torch.uint8, device=device))
            for _ in range(min(ahead + 1, len(layers)))
        ]
        self._copies = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._last, self._step = -1, 1

    def fetch(self, index: int) -> None:
        """Have layer ``index`` on the device before anything that is computed from now on."""
        wanted = self._expected(index)
        for layer in wanted:
            if all(slot.layer != layer for slot in self.slots):
                self._fill(next(slot for slot in self.slots if slot.layer not in wanted), layer)
        here = next(slot for slot in self.slots if slot.layer == index)
        if here.filled is not None:
            torch.cuda.current_stream(self.device).wait_event(here.filled)

    def _expected(self, index: int) -> list[int]:
        """This layer and those that probably come next: onwards in the direction of the last ones."""
        count = len(self.layers)
        # A layer runs twice in a row where a forward pass ends and its backward pass begins, or vice versa.
        if index == self._last:
            self._step = -self._step
        elif (index - self._last) % count == 1:
            self._step = 1
        elif (self._last - index) % count == 1:
            self._step = -1
        self._last = index
        return [(index + i * self._step) % count for i in range(len(self.slots))]

    def _fill(self, slot: Slot, index: int) -> None:
        """Replace what is in the slot; whatever was computed with it is computed first."""
        if slot.layer is not None:
            evicted = self.layers[slot.layer]
            evicted.lie_in(evicted.host)
        layer = self.layers[index]
        memory = slot.memory[: layer.nbytes]
        if self._copies is None:
            memory.copy_(layer.host)
        else:
            self._copies.wait_stream(torch.cuda.current_stream(self.device))
            with torch.cuda.stream(self._copies):
                memory.copy_(layer.host, non_blocking=True)
                slot.filled = self._copies.record_event()
        slot.layer = index
        layer.lie_in(memory)
