"""Where the weights of a model are: given path, official files, embedded, or the Hugging Face Hub."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from wmweights import WeightsError, first_line

CHECKPOINT_DIR_VARIABLE = "VJEPA_CHECKPOINT_DIR"
EMBEDDED = {"tiny": Path(__file__).parent / "weights" / "tiny.safetensors"}

OFFICIAL_URL = "https://dl.fbaipublicfiles.com/vjepa2"
OFFICIAL_SUFFIXES = (".pt", ".pth")
OFFICIAL_FILES = {
    "vitl": "vitl.pt",
    "vith": "vith.pt",
    "vitg": "vitg.pt",
    "vitg384": "vitg-384.pt",
    "vitgac": "vjepa2-ac-vitg.pt",
}
HUB_IDS = {
    "vitl": "facebook/vjepa2-vitl-fpc64-256",
    "vith": "facebook/vjepa2-vith-fpc64-256",
    "vitg": "facebook/vjepa2-vitg-fpc64-256",
    "vitg384": "facebook/vjepa2-vitg-fpc64-384",
}


@dataclass(frozen=True)
class WeightsSource:
    """Files to read and where they came from, for messages and records."""

    description: str
    files: tuple[Path, ...]


def find_weights(model: str, weights: str | Path | None = None) -> WeightsSource:
    """Locate the weights of ``model``; nothing is read yet, but files of the Hub are downloaded.

    Order: ``weights`` if given (a ``.pt`` or ``.safetensors`` file, or a folder in Hugging Face
    layout); the embedded file; the official file in ``$VJEPA_CHECKPOINT_DIR`` or
    ``./checkpoints``; the Hub (cache, then download).

    Raises:
        WeightsError: nothing there; says how to get them.
    """
    if weights is not None:
        return _given(Path(weights).expanduser())
    if model in EMBEDDED:
        return WeightsSource("embedded in the package", (EMBEDDED[model],))
    for folder in checkpoint_folders():
        path = folder / OFFICIAL_FILES[model]
        if path.exists() or was_converted(path):
            return WeightsSource("official file", (path,))
    return _from_hub(model)


def checkpoint_folders() -> list[Path]:
    """Where official files are looked for."""
    variable = os.environ.get(CHECKPOINT_DIR_VARIABLE)
    return ([Path(variable).expanduser()] if variable else []) + [Path("checkpoints")]


def _given(path: Path) -> WeightsSource:
    if path.is_dir():
        files = tuple(sorted(path.glob("*.safetensors")))
        if not files:
            raise WeightsError(f"no *.safetensors files in the weights folder {path}")
        return WeightsSource("local folder", files)
    if not path.exists() and not was_converted(path):
        raise WeightsError(f"weights file {path} does not exist")
    return WeightsSource("local file", (path,))


def converted_path(path: Path, stored: str) -> Path:
    """``vitg.pt`` → ``vitg.encoder.safetensors`` beside it: where one part of an official file is kept."""
    return path.with_name(f"{path.stem}.{stored}.safetensors")


def was_converted(path: Path) -> bool:
    """Whether parts of the official file ``path`` are there: it may itself be gone, to save its 16 GB."""
    return path.suffix in OFFICIAL_SUFFIXES and any(
        converted_path(path, stored).exists() for stored in ("encoder", "target_encoder")
    )


def _from_hub(model: str) -> WeightsSource:
    places = " or ".join(str(folder) for folder in checkpoint_folders())
    by_hand = (
        f"put {OFFICIAL_URL}/{OFFICIAL_FILES[model]} into {places} (or set {CHECKPOINT_DIR_VARIABLE}); "
        "--model tiny works now, without any download"
    )
    if model not in HUB_IDS:
        raise WeightsError(f"no weights for {model}: {by_hand}")
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled
    from huggingface_hub.utils import logging as hub_logging

    repo = HUB_IDS[model]
    hub_logging.set_verbosity_error()  # a line for every failed attempt would bury ours
    try:
        # Resumes, shows progress and obeys HF_HUB_OFFLINE.
        file = hf_hub_download(repo, "model.safetensors")
    except (OfflineModeIsEnabled, LocalEntryNotFoundError):
        why = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else "the Hub cannot be reached"
        reason = f"is not in the local cache and {why}"
    except Exception as error:  # of the Hub's client, its transport or the disk
        reason = f"could not be downloaded ({first_line(error)})"
    else:
        return WeightsSource(f"Hugging Face Hub, {repo}", (Path(file),))
    raise WeightsError(f"no weights for {model}: {repo} {reason}; {by_hand}") from None
