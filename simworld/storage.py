"""A compact file for evaluation pairs: trajectories and looks, about 5 kB a pair, no pixels.

Positions are rounded to 1/4096 of the picture width (1/64 of a pixel at 64 x 64) and angles to
1e-4 radians, so a loaded pair looks like the saved one but is not equal to it bit for bit. Both
videos of a pair are rounded alike and stay equal up to the violation frame.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from simworld.batch import TensorBatch
from simworld.looks import Looks
from simworld.pairs import Pairs
from simworld.trajectories import Trajectories

FORMAT = "simworld-pairs-1"
_LENGTHS = ("position", "occluder_center")
_UNIT = 4096.0  # int16 covers [-8, 8) at this resolution
_TURN = 32767.0 / math.pi

Batch = TypeVar("Batch", bound=TensorBatch)


def _encode(name: str, value: Tensor) -> Tensor:
    if name in _LENGTHS:
        value = (value * _UNIT).round().clamp(-32768, 32767).to(torch.int16)
    elif name == "angle":
        value = (torch.atan2(value.sin(), value.cos()) * _TURN).round().to(torch.int16)
    elif name == "clock" or value.dtype == torch.int64:
        value = value.to(torch.int16)
    return value.cpu().contiguous()


def _decode(name: str, value: Tensor) -> Tensor:
    if name in _LENGTHS:
        return value.to(torch.float32) / _UNIT
    if name == "angle":
        return value.to(torch.float32) / _TURN
    if name == "clock":
        return value.to(torch.float32)
    return value.to(torch.int64) if value.dtype == torch.int16 else value


def save_pairs(path: str | Path, groups: Sequence[Pairs]) -> None:
    """Write pairs of one or several kinds to one safetensors file."""
    tensors: dict[str, Tensor] = {}
    for number, pairs in enumerate(groups):
        for part in ("possible", "impossible", "looks"):
            batch = getattr(pairs, part)
            for field in dataclasses.fields(batch):
                key = f"{number}.{part}.{field.name}"
                tensors[key] = _encode(field.name, getattr(batch, field.name))
        tensors[f"{number}.violation_frame"] = _encode("violation_frame", pairs.violation_frame)
    names = [{"kind": pairs.kind, "split": pairs.split} for pairs in groups]
    metadata = {"format": FORMAT, "groups": json.dumps(names)}
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, str(path), metadata=metadata)


def load_pairs(path: str | Path) -> list[Pairs]:
    """Read what `save_pairs` wrote, on the CPU, in the same order."""
    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path} is no safetensors file: {error}") from error
    if metadata.get("format") != FORMAT:
        raise ValueError(f"{path} holds {metadata.get('format')!r}, not {FORMAT!r}")

    def read(kind: type[Batch], prefix: str) -> Batch:
        names = [field.name for field in dataclasses.fields(kind)]
        return kind(**{name: _decode(name, tensors[f"{prefix}.{name}"]) for name in names})

    return [
        Pairs(
            kind=names["kind"],
            split=names["split"],
            possible=read(Trajectories, f"{number}.possible"),
            impossible=read(Trajectories, f"{number}.impossible"),
            looks=read(Looks, f"{number}.looks"),
            violation_frame=_decode("violation_frame", tensors[f"{number}.violation_frame"]),
        )
        for number, names in enumerate(json.loads(metadata["groups"]))
    ]
