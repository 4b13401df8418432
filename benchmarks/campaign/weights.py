"""Weights files, configurations and arrays, read as the models read them."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.campaign.targets import Reading, Sample
from magi1.config import MagiConfig
from magi1.errors import MagiError
from magi1.files.checkpoint import read_vae_config
from magi1.files.zstd_shards import read_specs as read_packed_specs
from wmfiles.arrays import read_arrays
from wmreward.errors import WMRewardError
from wmreward.files import misused
from wmreward.surprise.actions.motion import read_motion
from wmweights import (
    WeightsError,
    assemble,
    dequantise,
    fingerprint,
    quantise,
    read_metadata,
    read_specs,
    read_state,
    write_state,
)

CONFIG = Path(__file__).parents[2] / "MAGI-1" / "example" / "tiny" / "tiny_config.json"
VAE = Path(__file__).parents[2] / "MAGI-1" / "magi1" / "weights" / "tiny" / "vae" / "config.json"


def _model() -> nn.Module:
    with torch.device("meta"):
        return nn.Sequential(nn.Linear(6, 4), nn.LayerNorm(4), nn.Linear(4, 2))


def _weights(path: Path) -> Any:
    """Header, tensors, and their fit into a model."""
    specs, state = read_specs(path), dequantise(read_state(path))
    model = _model()
    assemble(model, state, str(path), "small")
    return sorted(specs), read_metadata(path), fingerprint(state)


READERS: dict[str, Callable[[Path], Any]] = {
    "floats.safetensors": _weights,
    "int8.safetensors": _weights,
    "packed.safetensors.zst": lambda path: sorted(read_packed_specs(path).items()),
    "magi.json": lambda path: MagiConfig.load(path),
    "config.json": lambda path: read_vae_config(path.parent),
    "actions.npz": read_motion,
    "arrays.npz": lambda path: read_arrays(path, ["x", "y"], most=2**20, refuse=misused),
}


class _Weights:
    def samples(self) -> Sequence[Sample]:
        torch.manual_seed(0)
        state = nn.Sequential(nn.Linear(6, 4), nn.LayerNorm(4), nn.Linear(4, 2)).state_dict()
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write_state(state, folder / "floats.safetensors", {"made": "here"})
            write_state(quantise(state), folder / "int8.safetensors")
            np.savez(folder / "actions.npz", actions=np.zeros((3, 7)), states=np.ones((4, 7)))
            np.savez_compressed(folder / "arrays.npz", x=np.arange(40.0), y=np.eye(3))
            (folder / "magi.json").write_bytes(CONFIG.read_bytes())
            (folder / "config.json").write_bytes(VAE.read_bytes())
            self._pack(folder)
            return [
                Sample(name, (folder / name).read_bytes())
                for name in READERS
                if (folder / name).exists()
            ]

    @staticmethod
    def _pack(folder: Path) -> None:
        try:
            import zstandard
        except ImportError:
            return
        packed = zstandard.ZstdCompressor().compress((folder / "floats.safetensors").read_bytes())
        (folder / "packed.safetensors.zst").write_bytes(packed)

    def read(self, path: Path) -> Reading:
        try:
            found = READERS[path.name](path)
        except (WeightsError, MagiError) as error:
            raise WMRewardError(str(error)) from error
        return Reading(hashlib.sha256(repr(found).encode("utf-8", "surrogatepass")).hexdigest())

    def is_legal(self, path: Path, intact: Reading, found: Reading) -> bool:
        """Other numbers or names in the same places: but for .npz none of these has a checksum."""
        if path.suffix == ".json":
            return isinstance(json.loads(path.read_text(encoding="utf-8-sig")), dict)
        if path.suffix == ".zst":
            return not path.read_bytes()[4] & _HAS_CHECKSUM
        return path.suffix == ".safetensors"


_HAS_CHECKSUM = 4
"""In the fifth byte of a Zstandard file (RFC 8878, 3.1.1.1.1)."""


def target() -> _Weights:
    return _Weights()
