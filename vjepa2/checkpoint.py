"""Weights files → a built model: strictly, quickly, and with errors that name the key, the shape
and the file.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from vjepa2.config import VJEPA2Config, get_config
from vjepa2.errors import WeightsError
from vjepa2.key_maps import from_official, from_transformers, is_transformers, is_vjepa21
from vjepa2.predictor import PARITY_MASK_TOKEN
from vjepa2.sources import OFFICIAL_SUFFIXES, WeightsSource, converted_path, find_weights
from vjepa2.world_model import VJEPA2, Branches
from wmweights import (
    assemble,
    dequantise,
    fingerprint,
    read_metadata,
    read_state,
    write_state,
)

log = logging.getLogger(__name__)

State = dict[str, Tensor]

OFFICIAL_SUBDICT = {"online": "encoder", "ema": "target_encoder"}


@dataclass(frozen=True)
class WeightsInfo:
    """What was loaded, for records and ``--weights-info``.

    Attributes:
        model: Name of the model.
        source: Where the files came from.
        files: The files read.
        sha256: Hash of names, shapes and float32 values: equal for equal weights, whatever file
            format held them.
        context_encoder, target_encoder: ``online`` or ``ema``.
        mask_token: Which mask token predicts.
        mask_token_norms: Norm of each stored mask token. One near zero was never trained.
    """

    model: str
    source: str
    files: tuple[str, ...]
    sha256: str
    context_encoder: str
    target_encoder: str
    mask_token: int
    mask_token_norms: tuple[float, ...]

    def __str__(self) -> str:
        norms = " ".join(f"{norm:.3g}" for norm in self.mask_token_norms) or "none"
        return "\n".join(
            (
                f"model            {self.model}",
                f"source           {self.source}",
                *(f"file             {file}" for file in self.files),
                f"sha256           {self.sha256}",
                f"context encoder  {self.context_encoder}",
                f"target encoder   {self.target_encoder}",
                f"mask token       {self.mask_token} (norms: {norms})",
            )
        )


def load_model(
    model: str,
    *,
    weights: str | Path | None = None,
    branches: Branches | None = None,
    mask_token: int = PARITY_MASK_TOKEN,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> tuple[VJEPA2, WeightsInfo]:
    """A frozen world model with its weights.

    Args:
        model: ``vitl``, ``vith``, ``vitg``, ``vitg384``, ``vitgac`` or ``tiny``.
        weights: A file or folder to use instead of the places searched by
            :func:`vjepa2.sources.find_weights`.
        branches: Which stored encoder serves the context and the target side.
        mask_token: Which mask token predicts (1 in every public loader).
        device: Where to put it.
        dtype: Precision of the weights.

    Raises:
        ValueError: unknown model.
        WeightsError: weights missing, damaged, or of another model.
    """
    config = get_config(model)
    branches = branches or Branches()
    source = find_weights(model, weights)
    files = tuple(str(file) for file in source.files)
    state = _read(source, branches)
    built = _assemble(config, state, branches, ", ".join(files))
    built.mask_token = mask_token
    norms = (
        tuple(value.float().norm().item() for name, value in state.items() if "mask_tokens" in name)
        if not config.action_conditioned
        else ()
    )
    info = WeightsInfo(
        model=model,
        source=source.description,
        files=files,
        sha256=fingerprint(state),
        context_encoder=branches.context,
        target_encoder=branches.target,
        mask_token=mask_token,
        mask_token_norms=norms,
    )
    return built.to(device=device, dtype=dtype).requires_grad_(False).eval(), info


def _assemble(config: VJEPA2Config, state: State, branches: Branches, where: str) -> VJEPA2:
    with torch.device("meta"):
        built = VJEPA2(config, branches=branches)
    assemble(built, state, where, config.name)
    return built


# --- reading


def _read(source: WeightsSource, branches: Branches) -> State:
    """State with our names: ``encoder.*``, ``predictor.*`` and, for two different branches,
    ``target_encoder.*``.
    """
    first = source.files[0]
    if first.suffix == ".safetensors":
        return _read_safetensors(source, branches)
    if first.suffix in OFFICIAL_SUFFIXES:
        return _read_official(first, branches)
    raise WeightsError(f"{first}: weights must be a .pt, .pth or .safetensors file, or a folder")


def _read_safetensors(source: WeightsSource, branches: Branches) -> State:
    state: State = {}
    for file in source.files:
        state |= read_state(file)
    where = ", ".join(str(file) for file in source.files)
    if is_vjepa21(set(state)):
        raise WeightsError(_vjepa21_message(where))
    if is_transformers(set(state)):
        state = from_transformers(state)
    if "ema" in (branches.context, branches.target):
        raise WeightsError(
            f"{where} holds one encoder (the online one): ema needs the official .pt file, "
            "which holds both"
        )
    return dequantise(state)


def _read_official(path: Path, branches: Branches) -> State:
    needed = {"encoder": OFFICIAL_SUBDICT[branches.context], "predictor": "predictor"}
    if branches.target != branches.context:
        needed["target_encoder"] = OFFICIAL_SUBDICT[branches.target]
    return {
        f"{ours}.{key}": value
        for ours, stored in needed.items()
        for key, value in _official_part(path, stored).items()
    }


def _official_part(path: Path, stored: str) -> State:
    """One sub-dict of an official file. The first time it is written to a file of its own, which
    opens at once.
    """
    converted = converted_path(path, stored)
    if _is_current(converted, path):
        return read_state(converted)
    state = from_official(_open_official(path, stored))
    state = {key: value.contiguous() for key, value in state.items()}
    try:
        write_state(state, converted, {"made_from": _stamp(path)})
    except OSError as error:  # a read-only or full disk must not keep anybody from scoring
        log.warning(
            "%s could not be written (%s): the next start will be slow too", converted, error
        )
    return state


def _open_official(path: Path, stored: str) -> State:
    if path.name.startswith("vjepa2_1_"):
        raise WeightsError(_vjepa21_message(path))
    try:
        checkpoint = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except FileNotFoundError:
        raise WeightsError(f"{path} does not exist, and it was never converted") from None
    except PermissionError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}") from None
    except (
        Exception
    ) as error:  # a damaged pickle fails in a dozen ways, and torch advises to trust it
        raise WeightsError(
            f"{path} is not an official V-JEPA 2 checkpoint: it is damaged or holds more than weights "
            f"({type(error).__name__}); download it again"
        ) from None
    if not isinstance(checkpoint, dict):
        raise WeightsError(f"{path} holds a {type(checkpoint).__name__}, not a V-JEPA 2 checkpoint")
    keys = {str(key) for part in checkpoint.values() if isinstance(part, dict) for key in part}
    if "ema_encoder" in checkpoint or is_vjepa21(keys):
        raise WeightsError(_vjepa21_message(path))
    part = checkpoint.get(stored)
    if not isinstance(part, dict):
        found = ", ".join(map(str, checkpoint)) or "nothing"
        raise WeightsError(f"{path} has no {stored!r}; it holds {found}")
    for key, value in part.items():
        if not (isinstance(key, str) and isinstance(value, Tensor)):
            raise WeightsError(f"{path}: {stored!r} holds {key!r}, which is no tensor")
    return part


def _vjepa21_message(where: str | Path) -> str:
    return (
        f"{where} is a V-JEPA 2.1 checkpoint: a different model that is not supported; "
        "use the V-JEPA 2 weights (vitl, vith, vitg, vitg384)"
    )


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
