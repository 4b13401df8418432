"""Weights files of text encoders: whether they are whole and fit, by their headers; and reading T5's."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from magi1.errors import MagiError
from magi1.text.byte_t5 import MODEL_TYPE as BYTE_T5
from magi1.text.byte_t5 import ByteT5, ByteT5Config
from wmweights import (
    WeightsError,
    blank,
    check_fit,
    dequantised_specs,
    first_line,
    places,
    put,
    read_specs,
    read_tensors,
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
    with blank():
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
    for file in _weights_files(folder):
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


def load_t5(folder: Path, device: torch.device | str, dtype: torch.dtype) -> nn.Module:
    """The encoder of a T5 of transformers, frozen; its weights go to the device one by one.

    Raises:
        MagiError: see :func:`check_t5`.
    """
    model = _empty_t5(folder)
    waiting: dict[str, list[str]] = {}
    own = model.state_dict(keep_vars=True)  # names a weight twice that is in two places
    for name in own:
        waiting.setdefault(_stored_once(name), []).append(name)
    try:
        for name, value in _t5_tensors(folder, device):
            wanted = waiting.pop(_stored_once(name), [])
            if any(value.shape != own[place].shape for place in wanted):
                raise WeightsError(f"{name} has shape {list(value.shape)}")
            here = value.to(device, dtype) if wanted else value
            for place in wanted:
                put(model, place, here)
    except (WeightsError, SafetensorError) as error:
        raise MagiError(f"text encoder: cannot load {folder}: {first_line(error)}") from error
    if waiting:
        missing = [name for names in waiting.values() for name in names]
        raise MagiError(
            f"text encoder: {folder} lacks {len(missing)} weights (first: {missing[0]})"
        )
    return model.eval()


def t5_parameters(folder: Path) -> int:
    """Parameters of the encoder that a folder's configuration describes."""
    return sum(place.numel() for place in places(_empty_t5(folder)).values())


def _stored_once(name: str) -> str:
    return "shared.weight" if _TIED in name else name


def _t5_tensors(folder: Path, device: torch.device | str) -> Iterator[tuple[str, Tensor]]:
    """Those of the encoder; there may be a decoder beside it."""
    files = _weights_files(folder)
    if not files:
        raise WeightsError("there are no weights; download it again")
    for file in files:
        if file.suffix == ".safetensors":
            yield from read_tensors(file, device, lambda name: not name.startswith("decoder."))
        else:
            yield from _torch_state(file, "cpu").items()


def _weights_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors")) or sorted(folder.glob("pytorch_model*.bin"))


def _empty_t5(folder: Path) -> nn.Module:
    from transformers import T5Config, T5EncoderModel

    try:
        config: Any = T5Config.from_pretrained(folder, local_files_only=True)
        with blank():
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
    return None if _is_legacy(file) else _torch_state(file, "meta")


def _is_legacy(file: Path) -> bool:
    with file.open("rb") as opened:
        return opened.read(len(_LEGACY)) == _LEGACY


def _torch_state(file: Path, device: str) -> dict[str, Tensor]:
    """PyTorch's files are ZIP archives, whose list of contents comes last."""
    try:
        legacy = _is_legacy(file)
        if not (legacy or zipfile.is_zipfile(file)):
            raise ValueError("it is cut, or not PyTorch's")
        state = torch.load(file, map_location=device, weights_only=True, mmap=not legacy)
    except Exception as error:  # a damaged pickle raises anything
        raise WeightsError(
            f"{file} cannot be read: {first_line(error)}; download it again"
        ) from error
    return {name: value for name, value in state.items() if isinstance(value, Tensor)}
