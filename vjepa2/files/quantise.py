"""How the embedded world model is stored."""

from __future__ import annotations

from torch import Tensor

import wmweights
from wmweights import dequantise


def quantise(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """int8 rows with scales; vectors and mask tokens in float16."""
    return wmweights.quantise(state, keep=["mask_tokens"])


__all__ = ["dequantise", "quantise"]
