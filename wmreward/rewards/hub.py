"""Networks of `transformers` that judge: a local folder or a name on the Hugging Face Hub."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn

from wmfiles import short
from wmreward.errors import UsageError, WMRewardError
from wmreward.files import user_path
from wmweights import WeightsError, fingerprint_files, first_line

OLDEST = (4, 57)
"""The first version of transformers that this is meant for."""

_WANTED = ("*.json", "*.safetensors", "*.txt", "*.model", "*.jinja")
"""Files of a repository that are downloaded: settings, tokenizers, weights that hold no code."""


def model_folder(name: str, flag: str) -> Path:
    """Where a network lies; one on the Hub is downloaded first, or taken from the cache.

    Args:
        name: A folder, or ``owner/name`` on the Hub.
        flag: Named in errors.

    Raises:
        WMRewardError: it is nowhere, or without weights that can be read safely.
    """
    path = user_path(name)
    folder = path if path.is_dir() else _from_hub(name, flag)
    if not (folder / "config.json").is_file():
        raise UsageError(f"--{flag} {short(name)}: there is no config.json in {folder}")
    if not weights_files(folder):
        raise WMRewardError(
            f"--{flag} {short(name)}: there are no *.safetensors weights in {folder}; other formats may "
            "hold code and are not read"
        )
    return folder


def check_transformers(flag: str) -> ModuleType:
    """The package, which is an extra.

    Raises:
        UsageError: it is not installed, or too old; says how to get it.
    """
    try:
        import transformers
    except ImportError:
        raise UsageError(
            f"--{flag} needs transformers, which is not installed: pip install -e '.[judges]' in the clone"
        ) from None
    if tuple(int(part) for part in transformers.__version__.split(".")[:2]) < OLDEST:
        raise UsageError(
            f"--{flag} needs transformers {'.'.join(map(str, OLDEST))} or newer, not "
            f"{transformers.__version__}: pip install --upgrade transformers"
        )
    return transformers


def frozen(auto_class: str, folder: Path, device: torch.device, flag: str) -> nn.Module:
    """The network in a folder, frozen: bfloat16 on a GPU, float32 on a CPU. No code of the folder is run.

    Args:
        auto_class: Of transformers, such as ``AutoModel``.
        folder: From `model_folder`.
        device: Where it goes.
        flag: Named in errors.

    Raises:
        WMRewardError: files that are damaged, incomplete or of another kind of network.
    """
    transformers = check_transformers(flag)
    try:
        with _quiet(transformers):
            loaded: Any = getattr(transformers, auto_class).from_pretrained(
                folder,
                dtype=torch.bfloat16 if device.type == "cuda" else torch.float32,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                output_loading_info=True,
            )
    except (OSError, ValueError, RuntimeError, ImportError, SafetensorError) as error:
        reason = first_line(error)
        if "Unrecognized configuration class" in reason:
            reason = f"it is no network that {auto_class} of transformers knows"
        raise WMRewardError(f"--{flag}: cannot load {folder}: {reason}") from error
    model, found = loaded
    if missing := sorted(found["missing_keys"]):  # transformers would make them up
        raise WMRewardError(
            f"--{flag}: {folder} lacks {len(missing)} weights (first: {missing[0]})"
        )
    network: nn.Module = model.to(device).requires_grad_(False).eval()
    return network


@contextmanager
def _quiet(transformers: ModuleType) -> Iterator[None]:
    """Its reports and progress bars would bury our results."""
    log = transformers.utils.logging
    level, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(level)
        if bars:
            log.enable_progress_bar()


def weights_files(folder: Path) -> list[Path]:
    """The weights of a network."""
    return sorted(folder.glob("*.safetensors"))


def model_fingerprint(folder: Path) -> str:
    """Of weights and settings; reads the ends of the weights' files.

    Raises:
        WMRewardError: a file that is none.
    """
    try:
        return fingerprint_files([*weights_files(folder), *sorted(folder.glob("*.json"))])
    except WeightsError as error:
        raise WMRewardError(str(error)) from error


def _from_hub(name: str, flag: str) -> Path:
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise UsageError(
            f"--{flag} {short(name)}: there is no such folder, and on the Hugging Face Hub a name is "
            "owner/name"
        )
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import (
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
    )
    from huggingface_hub.utils import logging as hub_logging

    hub_logging.set_verbosity_error()  # a line for every failed attempt would bury ours
    try:
        return Path(snapshot_download(name, allow_patterns=list(_WANTED)))
    except (OfflineModeIsEnabled, LocalEntryNotFoundError):
        why = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else "the Hub cannot be reached"
        reason = f"is not in the local cache and {why}"
    except HFValidationError:
        raise UsageError(
            f"--{flag} {short(name)}: no such folder, and no name of the Hub"
        ) from None
    except Exception as error:  # of the Hub's client, its transport or the disk
        reason = f"could not be downloaded ({first_line(error)})"
    raise WMRewardError(f"--{flag} {short(name)} {reason}; download it and name its folder")
