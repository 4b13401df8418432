"""Official ``.pt`` files: opened safely, the one part that is needed taken out, and that converted once."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

import torch
from torch import Tensor

from vjepa2.config import ModelConfig, VJEPA21Config
from vjepa2.errors import WeightsError
from vjepa2.files.key_maps import from_official
from vjepa2.files.recognise import OtherModelError, refuse_others
from vjepa2.files.sources import ENCODERS, converted_path
from wmfiles import check_regular, short
from wmweights import read_metadata, read_state, refused, write_state

log = logging.getLogger(__name__)

State = dict[str, Tensor]

_LONGEST = 200
"""Characters of a list of names that is shown."""


def stored_part(config: ModelConfig, branch: str) -> str:
    """What official files call a part: ``predictor``, or the encoder of a branch, ``online`` or ``ema``."""
    if branch == "online":
        return "encoder"
    if branch == "ema":
        distilled = isinstance(config, VJEPA21Config) and config.teacher is not None
        return "ema_encoder" if distilled else "target_encoder"
    return branch


def part_file(path: Path, stored: str, config: ModelConfig) -> Path:
    """The file that a part of the official file ``path`` is read from: its conversion, where there is one."""
    converted = converted_path(path, stored, config)
    return converted if _is_current(converted, path) else path


def official_part(
    path: Path, stored: str, config: ModelConfig, device: torch.device | str = "cpu"
) -> State:
    """One part of an official file. The first time it is written to a file of its own, which
    opens at once, and is read straight to the device.
    """
    converted = converted_path(path, stored, config)
    if _is_current(converted, path):
        return read_state(converted, device)
    try:
        state = from_official(_open(path, stored, config))
    except OtherModelError as error:
        # A download may have overwritten a file whose name differs only in case.
        if not (isinstance(config, VJEPA21Config) and converted.exists()):
            raise
        log.warning("%s: %s is used, which was made before", error, converted)
        return read_state(converted)
    state = {key: value.contiguous() for key, value in state.items()}
    try:
        write_state(state, converted, {"made_from": _stamp(path)})
    except OSError as error:  # a read-only or full disk must not keep anybody from scoring
        log.warning(
            "%s could not be written (%s): the next start will be slow too", converted, error
        )
    return state


def _open(path: Path, stored: str, config: ModelConfig) -> State:
    if not path.exists():
        raise WeightsError(f"{path} does not exist, and it was never converted")
    check_regular(path, refuse=refused)
    try:
        mappable = is_zipfile(path)  # not as PyTorch wrote files before version 1.6
        checkpoint = torch.load(path, map_location="cpu", mmap=mappable, weights_only=True)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or error}") from None
    except Exception:  # a damaged pickle fails in a dozen ways, and torch advises to trust it
        raise WeightsError(
            f"{path} is not an official {config.generation} checkpoint: it is damaged or holds more than "
            "weights; download it again"
        ) from None
    if not isinstance(checkpoint, dict):
        raise WeightsError(
            f"{path} holds a {type(checkpoint).__name__}, not a {config.generation} checkpoint"
        )
    # Each encoder tells which model it is of; only the wanted one must be in order.
    for part in map(checkpoint.get, ENCODERS):
        if isinstance(part, dict):
            named = {str(key): value for key, value in part.items() if isinstance(value, Tensor)}
            refuse_others(from_official(named), config, path)
    if stored not in checkpoint:
        raise WeightsError(_without(checkpoint, stored, path, config))
    return _tensors(checkpoint, stored, path)


def _tensors(checkpoint: dict[Any, Any], name: str, path: Path) -> State:
    part = checkpoint[name]
    if not isinstance(part, dict):
        raise WeightsError(f"{path}: {name!r} holds a {type(part).__name__}, no tensors")
    for key, value in part.items():
        if not (isinstance(key, str) and isinstance(value, Tensor)):
            raise WeightsError(f"{path}: {name!r} holds {short(key)}, which is no tensor")
    return part


def _without(checkpoint: dict[Any, Any], stored: str, path: Path, config: ModelConfig) -> str:
    found = ", ".join(map(str, checkpoint))[:_LONGEST] or "nothing"
    other = next((b for b in ("online", "ema") if stored_part(config, b) in checkpoint), None)
    advice = f"; use its {other} encoder instead" if other and stored in ENCODERS else ""
    return f"{path} has no {stored!r}; it holds {found}{advice}"


def _stamp(path: Path) -> str:
    stat = path.stat()
    return json.dumps({"size": stat.st_size, "mtime_ns": stat.st_mtime_ns})


def _is_current(converted: Path, path: Path) -> bool:
    """Whether ``converted`` was made from ``path`` as it is now (or ``path`` is gone, to save its 16 GB)."""
    if not converted.exists():
        return False
    if not path.exists():
        return True
    try:
        return read_metadata(converted).get("made_from") == _stamp(path)
    except WeightsError:
        return False
