"""World models by name, loaded once per process and kept."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch

from vjepa2 import VJEPA2, Branches, WeightsInfo, get_config, load_model
from vjepa2.predictor import PARITY_MASK_TOKEN
from wmreward.devices import find_device
from wmreward.errors import UsageError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float64": torch.float64}


@dataclass(frozen=True, kw_only=True)
class ModelChoice:
    """Which network scores, and how it runs.

    Attributes:
        name: ``vitg`` (the paper's), ``vitl``, ``vith``, ``vitg384``, ``vitgac`` or the embedded ``tiny``.
        weights: A file or folder to load instead of searching for the model's own.
        context_encoder, target_encoder: ``online`` or ``ema``; both online as in the reference.
        mask_token: Which mask token predicts.
        device: ``auto`` takes a GPU where there is one.
        dtype: ``auto`` is bfloat16 on a GPU (scores within 2e-4) and float32 on a CPU.
        compile: Compile the transformer blocks; pays off from some hundred windows on.
    """

    name: str = "vitg"
    weights: str | None = None
    context_encoder: str = "online"
    target_encoder: str = "online"
    mask_token: int = PARITY_MASK_TOKEN
    device: str = "auto"
    dtype: str = "auto"
    compile: bool = False

    def __post_init__(self) -> None:
        try:
            get_config(self.name)
            Branches(self.context_encoder, self.target_encoder)
        except ValueError as error:
            raise UsageError(str(error)) from None
        if self.dtype not in ("auto", *DTYPES):
            raise UsageError(f"dtype={self.dtype!r} must be one of auto, {', '.join(DTYPES)}")

    def torch_device(self) -> torch.device:
        """The device to run on; raises ``UsageError`` if it is not there."""
        return find_device(self.device)

    def torch_dtype(self) -> torch.dtype:
        if self.dtype != "auto":
            return DTYPES[self.dtype]
        return torch.bfloat16 if self.torch_device().type == "cuda" else torch.float32


@dataclass(frozen=True)
class LoadedModel:
    """A world model and the record of its weights."""

    model: VJEPA2
    info: WeightsInfo


@lru_cache(maxsize=2)
def load(choice: ModelChoice) -> LoadedModel:
    """The model, from memory if it was loaded before (the last two are kept)."""
    weights = None if choice.weights is None else Path(choice.weights)
    model, info = load_model(
        choice.name,
        weights=weights,
        branches=Branches(choice.context_encoder, choice.target_encoder),
        mask_token=choice.mask_token,
        device=choice.torch_device(),
        dtype=choice.torch_dtype(),
    )
    if choice.compile:
        model.compile_blocks()
    return LoadedModel(model, info)
