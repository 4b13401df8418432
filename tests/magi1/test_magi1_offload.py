"""Streamed layers and modules that come and go: the same bits, in any order, with gradients."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
import torch
from test_magi1_dit import NANO, nano, nano_inputs
from torch import Tensor, nn

from magi1.errors import MagiUsageError
from magi1.transformer.dit import DiT
from magi1.transformer.offload import LayerStream, offload_layers, resident


def two_of_a_kind(ahead: int = 1) -> tuple[DiT, DiT, LayerStream]:
    """The same network twice, the second one streamed."""
    torch.manual_seed(0)
    plain, streamed = nano(), nano()
    streamed.load_state_dict(plain.state_dict())
    return plain, streamed, offload_layers(streamed, "cpu", ahead=ahead)


def asked(dit: DiT) -> Callable[[Tensor], Tensor]:
    """A velocity from two passes that see different contexts, as guidance makes it."""
    torch.manual_seed(1)
    x, t, features, mask = nano_inputs(2)
    texts = dit.prepare_text(features, mask)

    def velocity(z: Tensor = x) -> Tensor:
        return dit(z, t, texts) - 0.5 * dit(z, t, texts, ranges=[(0, 1), (1, 2)], text_dropped=True)

    return velocity


@pytest.mark.parametrize("ahead", [0, 1, 2, 5])
def test_streamed_layers_are_the_layers(ahead: int) -> None:
    plain, streamed, stream = two_of_a_kind(ahead)
    assert len(stream.slots) == min(ahead + 1, NANO.num_layers)
    assert torch.equal(asked(plain)(), asked(streamed)())
    for name, value in streamed.state_dict().items():
        assert torch.equal(value, plain.state_dict()[name]), name


@pytest.mark.parametrize("ahead", [0, 1])
def test_gradients_pass_through_streamed_layers(ahead: int) -> None:
    """In backward passes layers run in reverse, one guidance branch after the other."""
    plain, streamed, _ = two_of_a_kind(ahead)
    plain.checkpointing = streamed.checkpointing = True
    grads = []
    for dit in (plain, streamed):
        velocity, x = asked(dit), nano_inputs(2)[0].requires_grad_()
        v = velocity(x)
        first = torch.autograd.grad(v.square().sum(), x, retain_graph=True)[0]
        velocity()  # other passes in between
        again = torch.autograd.grad(v.square().sum(), x)[0]
        assert torch.equal(first, again)
        grads.append((v, first))
    for ours, theirs in zip(*grads, strict=True):
        assert torch.equal(ours, theirs)


def test_any_order_is_served() -> None:
    plain, streamed, stream = two_of_a_kind()
    wanted = [[p.clone() for p in layer.parameters()] for layer in plain.videodit_blocks.layers]
    order = random.Random(0).choices(range(NANO.num_layers), k=40)
    for index in order:
        stream.fetch(index)
        slot = next(slot for slot in stream.slots if slot.layer == index)
        layer = streamed.videodit_blocks.layers[index]
        memory = slot.memory.untyped_storage()
        for ours, theirs in zip(layer.parameters(), wanted[index], strict=True):
            assert torch.equal(ours, theirs)
            assert ours.untyped_storage().data_ptr() == memory.data_ptr()


def test_layers_are_there_before_they_are_asked_for() -> None:
    """Forwards, backwards, and forwards again."""
    _, _, stream = two_of_a_kind()
    late = []
    forward = list(range(NANO.num_layers))
    for index in [*forward, *forward, *forward[::-1], *forward[::-1], *forward]:
        if all(slot.layer != index for slot in stream.slots):
            late.append(index)
        stream.fetch(index)
    assert late == [0]
    buffers = {slot.memory.data_ptr() for slot in stream.slots}
    assert len(buffers) == 2


def test_gradients_without_checkpointing_are_refused() -> None:
    _, streamed, _ = two_of_a_kind()
    x, t, features, mask = nano_inputs(1)
    texts = streamed.prepare_text(features, mask)
    with pytest.raises(MagiUsageError, match="checkpointing"):
        streamed(x.requires_grad_(), t, texts)


def test_weights_that_are_trained_are_refused() -> None:
    with pytest.raises(MagiUsageError, match="freeze"):
        offload_layers(nano().requires_grad_(), "cpu")


def test_resident_gives_back_what_it_took() -> None:
    elsewhere = torch.device("cpu", 0)  # the same device by another name: tensors are copied there
    module = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)).requires_grad_(False).eval()
    x = torch.randn(4, 3)
    before, y = places(module), module(x)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="stop"), resident(module, elsewhere):
            assert not set(before) & set(places(module))
            assert torch.equal(module(x), y)
            raise RuntimeError("stop")
        assert places(module) == before
    with resident(module, "cpu"):
        assert places(module) == before


def places(module: nn.Module) -> list[int]:
    return [tensor.data_ptr() for tensor in (*module.parameters(), *module.buffers())]
