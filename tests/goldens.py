"""Where the golden vectors of V-JEPA 2 are, and how close ours have to be.

A part is in the repository; all tests run on it. The complete set is used too where it lies beside the
checkout. ``tests/golden/vjepa2/README.md`` says what they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from vjepa2 import VJEPA2, PredictorConfig, VJEPA2Config
from wmreward.surprise.config import Similarity, SurpriseConfig

COMMITTED = Path(__file__).parent / "golden" / "vjepa2"
COMPLETE = Path(__file__).parents[2] / "shared" / "vjepa2" / "golden"

# Measured distance of an independent implementation: about a third of each.
FEATURES = 3e-5  # absolute, float32
SCORES = 1e-6  # absolute, float32
GRADIENTS = 3e-5  # relative, in norm
PIXELS = 2e-6  # absolute
ACTIONS = 1e-5  # absolute: output of the action-conditioned predictor
EXACT = 1e-12  # surprise with everything in float64

_AC = PredictorConfig(width=64, depth=2, heads=2, mask_tokens=0, action_dim=7)
_A = {"width": 96, "depth": 3, "heads": 3, "mlp_width": 418}
_B = {"width": 128, "depth": 1, "heads": 2, "mlp_width": 558}


@dataclass(frozen=True)
class Golden:
    """One file of golden vectors."""

    folder: Path
    name: str

    def tensors(self) -> dict[str, Tensor]:
        return _read(self.folder / f"{self.name}.safetensors")

    def __getitem__(self, key: str) -> Tensor:
        return self.tensors()[key]

    def __contains__(self, key: str) -> bool:
        return key in self.tensors()

    def other(self, name: str) -> Golden:
        """Another file of the same set."""
        return Golden(self.folder, name)

    def config(self, mode: str = "mean", similarity: Similarity = "feature") -> SurpriseConfig:
        stride = 8 if "stride8" in self.name else 2
        return SurpriseConfig(stride=stride, mode=mode, similarity=similarity)

    def model(self, dtype: torch.dtype = torch.float32) -> VJEPA2:
        """The network of this case, built anew."""
        return _build(self.network(), self.weights()).to(dtype)

    def weights(self) -> dict[str, Tensor]:
        """Its weights by our names, in float32."""
        parts = {"ac_forward": ("ac",), "ac_surprise_a": ("a", "ac")}
        letters = parts.get(self.name, (self.name[-1],))
        state: dict[str, Tensor] = {}
        for letter in letters:
            read = _read(self.folder / f"weights_{letter}.safetensors")
            if letters == ("a", "ac"):  # the encoder of one, the predictor of the other
                side = "encoder." if letter == "a" else "predictor."
                read = {key: value for key, value in read.items() if key.startswith(side)}
            state |= read
        return {key: value.float() for key, value in state.items()}

    def network(self) -> VJEPA2Config:
        if self.name.startswith("ac_"):
            return VJEPA2Config(name="ac", crop=64, predictor=_AC, **_A)
        crop = 48 if self.name == "window16_a" else 32
        if self.name.endswith("_a"):
            small = PredictorConfig(width=48, depth=2, heads=2)
            return VJEPA2Config(name="a", crop=crop, predictor=small, **_A)
        small = PredictorConfig(width=64, depth=3, heads=2)
        return VJEPA2Config(name="b", crop=crop, predictor=small, **_B)


@lru_cache(maxsize=32)
def _read(path: Path) -> dict[str, Tensor]:
    return load_file(path)


def _build(config: VJEPA2Config, weights: dict[str, Tensor]) -> VJEPA2:
    model = VJEPA2(config).requires_grad_(False).eval()
    if any(key.startswith("encoder.") for key in weights):
        model.load_state_dict(weights, strict=False)
        stored = {key for key in model.state_dict() if not key.startswith("target_encoder.")}
        assert stored == weights.keys()
    else:
        model.predictor.load_state_dict(
            {key.removeprefix("predictor."): value for key, value in weights.items()}
        )
    return model


def goldens(*committed: str, further: Sequence[str] = ()) -> list[Any]:
    """Parameters for a test: cases of the committed part, then those and others of the complete set."""
    missing = pytest.mark.skipif(
        not COMPLETE.is_dir(), reason="the complete golden set is not beside the checkout"
    )
    return [
        *(pytest.param(Golden(COMMITTED, name), id=name) for name in committed),
        *(
            pytest.param(Golden(COMPLETE, name), id=f"complete-{name}", marks=missing)
            for name in (*committed, *further)
        ),
    ]


def close(ours: Tensor, golden: Tensor, atol: float) -> None:
    """Fails unless both have one shape and no value is further apart than ``atol``."""
    torch.testing.assert_close(ours.detach(), golden, rtol=0, atol=atol, check_dtype=False)


def close_in_norm(ours: Tensor, golden: Tensor, relative: float) -> None:
    """Fails unless the distance is at most ``relative`` of the golden norm."""
    assert ours.shape == golden.shape
    distance = ((ours.double() - golden.double()).norm() / golden.double().norm()).item()
    assert distance <= relative, f"relative distance {distance:.2g}"
