"""Where the golden vectors of V-JEPA 2.1 are, and how close ours have to be.

A part is in the repository. The complete set is used too where it lies beside the checkout.
``tests/golden/vjepa21/README.md`` says what they are.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch
from goldens import COMMITTED, COMPLETE
from safetensors.torch import load_file
from torch import Tensor

from vjepa2 import VJEPA21, PredictorConfig, Reading, VJEPA21Config
from wmreward.surprise.config import SurpriseConfig

COMMITTED21 = COMMITTED.parent / "vjepa21"
COMPLETE21 = COMPLETE.parents[1] / "vjepa21" / "golden"

# Measured distance of an independent implementation: about a third of each.
FEATURES = 3e-5  # absolute, float32
SCORES = 3e-6  # absolute, float32
GRADIENTS = 3e-5  # relative, in norm
EXACT = 1e-12  # surprise with everything in float64

OWN = VJEPA21Config(
    name="G",
    width=16,
    depth=48,
    heads=1,
    mlp_width=78,
    levels=(11, 23, 37, 47),
    predictor=PredictorConfig(width=8, depth=24, heads=1, mask_tokens=8),
)
DISTILLED = VJEPA21Config(
    name="B",
    width=36,
    depth=12,
    heads=2,
    mlp_width=144,
    levels=(2, 5, 8, 11),
    predictor=PredictorConfig(width=24, depth=12, heads=2, mask_tokens=8),
    teacher=OWN,
)
FILE_G = replace(
    OWN,
    name="vitG21",
    width=8,
    depth=12,
    mlp_width=39,
    levels=(2, 5, 8, 11),
    crop=32,
    predictor=PredictorConfig(width=8, depth=4, heads=1, mask_tokens=8),
)
"""``checkpoints/vjepa2_1_vitG_384.pt``."""
FILE_B = replace(FILE_G, name="vitb21", width=12, mlp_width=48, teacher=FILE_G)
"""``checkpoints/vjepa2_1_vitb_dist_vitG_384.pt``."""


@dataclass(frozen=True)
class Golden21:
    """One file of golden vectors, named by case and model: ``window16_G``."""

    folder: Path
    name: str

    def __getitem__(self, key: str) -> Tensor:
        return _read(self.folder / f"{self.name}.safetensors")[key]

    def __contains__(self, key: str) -> bool:
        return key in _read(self.folder / f"{self.name}.safetensors")

    @property
    def distilled(self) -> bool:
        return self.name.endswith("_B")

    @property
    def inputs(self) -> Golden21:
        """The file that has the inputs of this one."""
        return Golden21(self.folder, self.name[:-1] + "G")

    @property
    def video(self) -> Tensor:
        return self.inputs["video"].float()

    def config(self, mode: str = "mean", **changes: Any) -> SurpriseConfig:
        size, context = (16, 8) if "16" in self.name else (6, 2)
        return SurpriseConfig(
            window_size=size, context_frames=context, stride=2, mode=mode, **changes
        )

    def model(
        self, dtype: torch.dtype = torch.float32, *, mask_token: int = 0, **reading: Any
    ) -> VJEPA21:
        """The network of this case, built anew."""
        network = replace(
            DISTILLED if self.distilled else OWN, crop=48 if "16" in self.name else 32
        )
        model = VJEPA21(network, mask_token=mask_token, reading=Reading(**reading))
        state = self._weights(self.name[-1])
        encoder = self._weights("G") if model.reading.observed == "teacher" else state
        state |= {f"target_{k}": v for k, v in encoder.items() if k.startswith("encoder.")}
        model.load_state_dict(state)
        return model.to(dtype).requires_grad_(False).eval()

    def _weights(self, letter: str) -> dict[str, Tensor]:
        stored = _read(self.folder / f"weights_{letter}.safetensors")
        return {key: value.float() for key, value in stored.items()}


@lru_cache(maxsize=16)
def _read(path: Path) -> dict[str, Tensor]:
    return load_file(path)


def goldens21(*names: str) -> list[Any]:
    """Parameters for a test: those cases that are committed, then all of the complete set."""
    missing = pytest.mark.skipif(
        not COMPLETE21.is_dir(), reason="the complete golden set is not beside the checkout"
    )
    committed = [name for name in names if name == "window16_G"]
    return [
        *(pytest.param(Golden21(COMMITTED21, name), id=name) for name in committed),
        *(
            pytest.param(Golden21(COMPLETE21, name), id=f"complete-{name}", marks=missing)
            for name in names
        ),
    ]
