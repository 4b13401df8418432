"""For tests that have the same clips judged in several ways: a model looks at the same windows once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from torch import Tensor

from vjepa2 import VJEPA2, FutureLatents


@contextmanager
def seen_once() -> Iterator[None]:
    """Within, what a V-JEPA 2 finds in windows is known by the model and by their content.

    Windows that require gradients are looked at anew.
    """
    known: dict[tuple[object, ...], FutureLatents] = {}
    looked = VJEPA2.future_latents

    def future_latents(
        model: VJEPA2, pixels: Tensor, context_frames: int, *, context_grad: bool = False
    ) -> FutureLatents:
        if pixels.requires_grad:
            return looked(model, pixels, context_frames, context_grad=context_grad)
        content = hashlib.sha256(pixels.numpy().tobytes()).digest()
        key = (model, context_frames, pixels.shape, content)
        if key not in known:
            known[key] = looked(model, pixels, context_frames)
        return known[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(VJEPA2, "future_latents", future_latents)
        yield
