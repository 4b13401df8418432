"""The exact gradient of a decoder that keeps only what it needs to compute the rest again."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from torch import Tensor, nn
from torch.autograd.graph import save_on_cpu
from torch.utils.checkpoint import checkpoint


@contextmanager
def frugal(vae: Any, *, on_host: bool = False) -> Iterator[None]:
    """Within the context, graphs through ``vae.decode`` are checkpointed where that is possible.

    Args:
        vae: Any VAE of diffusers.
        on_host: What is kept waits in host memory.
    """
    context: AbstractContextManager[object] = nullcontext()
    if getattr(vae, "_supports_gradient_checkpointing", False):
        context = _library_checkpoints(vae)
    elif _keeps_frames(vae.decoder):
        context = _frame_checkpoints(vae.decoder)
    host = save_on_cpu(pin_memory=vae.device.type == "cuda") if on_host else nullcontext()
    with context, host:
        yield


@contextmanager
def _library_checkpoints(vae: Any) -> Iterator[None]:
    before = vae.is_gradient_checkpointing
    vae.enable_gradient_checkpointing()
    try:
        yield
    finally:
        if not before:
            vae.disable_gradient_checkpointing()


def _keeps_frames(decoder: nn.Module) -> bool:
    """Whether this is a decoder as Wan's: called for every latent frame, with a list of earlier features that
    it changes, which is why plain checkpointing goes wrong.
    """
    return {"feat_cache", "feat_idx"} <= inspect.signature(decoder.forward).parameters.keys()


@contextmanager
def _frame_checkpoints(decoder: Any) -> Iterator[None]:
    """Every call of the decoder is computed again in the backward pass, from the features that it was given:
    they are made arguments and results, instead of something that it changes.
    """
    plain, own = decoder.forward, decoder.__dict__.get("forward")

    def forward(x: Tensor, feat_cache: list[Any], feat_idx: list[int], **options: Any) -> Tensor:
        first, places = feat_idx[0], list[int]()

        def call(x: Tensor, *features: Any) -> tuple[Any, ...]:
            kept, place = list(features), [first]
            decoded = plain(x, feat_cache=kept, feat_idx=place, **options)
            places.append(place[0])
            return (decoded, *kept)

        decoded, *feat_cache[:] = checkpoint(call, x, *feat_cache, use_reentrant=False)
        feat_idx[0] = places[0]
        return decoded

    decoder.forward = forward
    try:
        yield
    finally:
        if own is None:
            del decoder.forward
        else:
            decoder.forward = own
