"""Whether the weights files of a text encoder are whole and its own, from their headers alone."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn

from magi1.byte_t5 import MODEL_TYPE as BYTE_T5
from magi1.byte_t5 import ByteT5, ByteT5Config
from magi1.errors import MagiError
from wmweights import (
    WeightsError,
    check_fit,
    dequantised_specs,
    first_line,
    places,
    read_specs,
)

WEIGHTS = "model.safetensors"
_LEGACY = b"\x80\x02"
"""How PyTorch's files began before 2020: they have no list of contents."""
_TIED = "embed_tokens"
"""Stored once, as ``shared``, or twice."""


def check_byte_t5(folder: Path, config: ByteT5Config) -> None:
    """The file of a byte encoder.

    Raises:
        MagiError: it is missing, damaged, or of another model.
    """
    file = folder / WEIGHTS
    with torch.device("meta"):
        model = ByteT5(config)
    try:
        check_fit(model, dequantised_specs(read_specs(file)), str(file), BYTE_T5)
    except WeightsError as error:
        raise MagiError(f"text encoder: {error}") from error


def check_t5(folder: Path) -> None:
    """The files of a T5 of transformers; a decoder beside the encoder does not matter.

    Raises:
        MagiError: one is damaged, weights are missing or have other shapes, the configuration is of no T5.
    """
    stored: dict[str, Any] = {}
    files = sorted(folder.glob("*.safetensors")) or sorted(folder.glob("pytorch_model*.bin"))
    for file in files:
        if (found := _specs(file)) is None:
            return  # the loading will tell
        stored |= found
    own = places(_empty_t5(folder))
    missing = [name for name in own if name not in stored and _TIED not in name]
    if missing:  # transformers would make them up
        raise MagiError(
            f"text encoder: {folder} lacks {len(missing)} weights (first: {missing[0]}); download it again"
        )
    for name, place in own.items():
        if name in stored and tuple(stored[name].shape) != tuple(place.shape):
            raise MagiError(
                f"text encoder: {name} in {folder} has shape {list(stored[name].shape)}, but config.json "
                f"says {list(place.shape)}; download both again"
            )


def _empty_t5(folder: Path) -> nn.Module:
    from transformers import T5Config, T5EncoderModel

    try:
        config: Any = T5Config.from_pretrained(folder, local_files_only=True)
        with torch.device("meta"):
            model: nn.Module = T5EncoderModel(config)
    except Exception as error:  # transformers checks with whatever it uses
        raise MagiError(
            f"text encoder: {folder / 'config.json'} is not a T5's configuration: {first_line(error)}"
        ) from error
    return model


def _specs(file: Path) -> Mapping[str, Any] | None:
    """Whatever has a shape, by name; None if only reading it all would tell."""
    try:
        return read_specs(file) if file.suffix == ".safetensors" else _torch_specs(file)
    except (WeightsError, SafetensorError) as error:
        raise MagiError(f"text encoder: {error}") from error


def _torch_specs(file: Path) -> dict[str, Any] | None:
    """PyTorch's files are ZIP archives, whose list of contents comes last."""
    try:
        with file.open("rb") as opened:
            if opened.read(len(_LEGACY)) == _LEGACY:
                return None
        if not zipfile.is_zipfile(file):
            raise ValueError("it is cut, or not PyTorch's")
        state = torch.load(file, map_location="meta", weights_only=True, mmap=True)
    except Exception as error:  # a damaged pickle raises anything
        raise WeightsError(
            f"{file} cannot be read: {first_line(error)}; download it again"
        ) from error
    return {name: value for name, value in state.items() if isinstance(value, torch.Tensor)}
