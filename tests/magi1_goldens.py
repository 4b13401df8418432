"""Where the golden vectors of MAGI-1 are.

A part is in the repository, so that all tests run on it; the complete set is used too where it lies
beside the checkout. ``tests/golden/magi1/README.md`` says what they are.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open
from torch import Tensor

COMMITTED = Path(__file__).parent / "golden" / "magi1"
COMPLETE = Path(__file__).parents[2] / "shared" / "magi1" / "golden"


@dataclass(frozen=True)
class Golden:
    """One file of golden vectors: tensors by name and the case's settings."""

    name: str
    tensors: dict[str, Tensor]
    metadata: dict[str, Any]

    def __getitem__(self, key: str) -> Tensor:
        return self.tensors[key]

    def __contains__(self, key: str) -> bool:
        return key in self.tensors


def _path(name: str) -> Path | None:
    places = (folder / f"{name}.safetensors" for folder in (COMPLETE, COMMITTED))
    return next((place for place in places if place.exists()), None)


@lru_cache(maxsize=16)
def golden(name: str) -> Golden:
    """Read a file; skips the test where it is not at hand. Tensors are shared: do not write to them."""
    path = _path(name)
    if path is None:
        pytest.skip(f"golden {name} is not beside this checkout")
    with safe_open(path, "pt") as handle:
        tensors = {key: handle.get_tensor(key) for key in handle.keys()}  # noqa: SIM118
        metadata = {key: _parsed(value) for key, value in (handle.metadata() or {}).items()}
    return Golden(name, tensors, metadata)


def _parsed(value: str) -> Any:
    try:
        return json.loads(value)
    except json.JSONDecodeError:
        return value


def goldens(*committed: str, further: Sequence[str] = ()) -> list[Any]:
    """Parameters for a test: names that must be there, and those that only the complete set has."""
    for name in committed:
        assert (COMMITTED / f"{name}.safetensors").exists(), f"{name} is not in {COMMITTED}"
    return [*committed, *further]


def close(actual: Tensor, expected: Tensor, tolerance: float) -> None:
    """Largest absolute difference at most ``tolerance`` standard deviations of what is expected."""
    assert actual.shape == expected.shape, (tuple(actual.shape), tuple(expected.shape))
    assert actual.isfinite().all()
    wide = expected.double()
    scale = wide.std().item() if wide.numel() > 1 else 1.0
    difference = (actual.double() - wide).abs().max().item() / (scale or 1.0)
    assert difference <= tolerance, f"{difference:.3g} > {tolerance:.3g} standard deviations"


def close_in_rms(actual: Tensor, expected: Tensor, tolerance: float) -> None:
    """Root mean square of the difference at most ``tolerance`` standard deviations of what is expected."""
    wide = expected.double()
    difference = ((actual.double() - wide).square().mean().sqrt() / wide.std()).item()
    assert difference <= tolerance, f"{difference:.3g} > {tolerance:.3g} standard deviations"


__all__ = ["COMMITTED", "COMPLETE", "Golden", "close", "close_in_rms", "golden", "goldens"]
