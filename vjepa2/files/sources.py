"""Where the weights of a model are: given path, official files, embedded, or the Hugging Face Hub."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from vjepa2.config import EMBEDDED_MODELS, ModelConfig, VJEPA21Config, get_config
from wmfiles import NameProblem, check_regular, short, user_path
from wmweights import WeightsError, first_line, refused

CHECKPOINT_DIR_VARIABLE = "VJEPA_CHECKPOINT_DIR"
EMBEDDED = {
    name: Path(__file__).parents[1] / "weights" / f"{name}.safetensors" for name in EMBEDDED_MODELS
}

EMBEDDED_SOURCE = "embedded in the package"
"""What records say of where such weights lay."""

OFFICIAL_URL = "https://dl.fbaipublicfiles.com/vjepa2"
OFFICIAL_SUFFIXES = (".pt", ".pth")
OFFICIAL_FILES = {
    "vitl": "vitl.pt",
    "vith": "vith.pt",
    "vitg": "vitg.pt",
    "vitg384": "vitg-384.pt",
    "vitgac": "vjepa2-ac-vitg.pt",
    "vitb21": "vjepa2_1_vitb_dist_vitG_384.pt",
    "vitl21": "vjepa2_1_vitl_dist_vitG_384.pt",
    "vitg21": "vjepa2_1_vitg_384.pt",
    "vitG21": "vjepa2_1_vitG_384.pt",
}
ENCODERS = ("encoder", "target_encoder", "ema_encoder")
"""Parts of official files that hold an encoder, in one kind of file or another."""
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

    @property
    def names(self) -> str:
        """All files in one line."""
        return ", ".join(map(str, self.files))


def find_weights(model: str, weights: str | Path | None = None) -> WeightsSource:
    """Locate the weights of ``model``; nothing is read yet, but files of the Hub are downloaded.

    Order: ``weights`` if given (a ``.pt`` or ``.safetensors`` file, or a folder in Hugging Face
    layout); the embedded file; the official file in ``$VJEPA_CHECKPOINT_DIR`` or
    ``./checkpoints``; the Hub (cache, then download).

    Raises:
        WeightsError: nothing there; says how to get them.
    """
    config = get_config(model)
    if weights is not None:
        return _given(_path(weights), config)
    if model in EMBEDDED:
        return WeightsSource(EMBEDDED_SOURCE, (EMBEDDED[model],))
    return _in_folders(checkpoint_folders(), config) or _from_hub(model)


def is_here(model: str) -> bool:
    """Whether the weights of ``model`` lie where :func:`find_weights` looks; nothing is downloaded."""
    if model in EMBEDDED or _in_folders(checkpoint_folders(), get_config(model)):
        return True
    if model not in HUB_IDS:
        return False
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(HUB_IDS[model], "model.safetensors"), str)


def find_teacher(
    config: VJEPA21Config, student: WeightsSource, weights: str | Path | None = None
) -> WeightsSource:
    """Locate the weights of a distilled model's teacher: as its own are, and also beside the student's.

    Raises:
        WeightsError: nothing there; says how to get them and how to do without.
    """
    assert config.teacher is not None
    if weights is None:
        beside = [student.files[0].parent]
        if found := _in_folders([*checkpoint_folders(), *beside], config.teacher):
            return found
    try:
        return find_weights(config.teacher.name, weights)
    except WeightsError as error:
        raise WeightsError(
            f"model {config.name!r} predicts what its teacher {config.teacher.name} sees: {error}; or take "
            "observed=student, which needs no teacher and is another quantity, ours and unverified"
        ) from None


def _in_folders(folders: list[Path], config: ModelConfig) -> WeightsSource | None:
    for folder in folders:
        path = folder / OFFICIAL_FILES[config.name]
        if path.exists() or was_converted(path, config):
            return WeightsSource("official file", (path,))
    return None


def checkpoint_folders() -> list[Path]:
    """Where official files are looked for."""
    variable = os.environ.get(CHECKPOINT_DIR_VARIABLE)
    return ([_path(variable)] if variable else []) + [Path("checkpoints")]


def _path(text: str | Path) -> Path:
    try:
        return user_path(text)
    except NameProblem as error:
        raise WeightsError(f"weights {short(str(text))}: {error}") from None


def _given(path: Path, config: ModelConfig) -> WeightsSource:
    if path.is_dir():
        files = tuple(sorted(path.glob("*.safetensors")))
        if not files:
            raise WeightsError(f"no *.safetensors files in the weights folder {path}")
        return WeightsSource("local folder", files)
    if not was_converted(path, config) and not path.exists():
        raise WeightsError(f"weights file {path} does not exist")
    if path.exists():
        check_regular(path, refuse=refused)
    return WeightsSource("local file", (path,))


def converted_path(path: Path, stored: str, config: ModelConfig | None = None) -> Path:
    """``vitg.pt`` → ``vitg.encoder.safetensors`` beside it: where one part of an official file is kept.

    Two official files of V-JEPA 2.1 have names that differ only in case, and some file systems do
    not: theirs say the width too.
    """
    width = f".width{config.width}" if isinstance(config, VJEPA21Config) else ""
    return path.with_name(f"{path.stem}{width}.{stored}.safetensors")


def was_converted(path: Path, config: ModelConfig) -> bool:
    """Whether parts of the official file ``path`` are there: it may itself be gone, to save its 16 GB."""
    return path.suffix in OFFICIAL_SUFFIXES and any(
        converted_path(path, stored, config).exists() for stored in ENCODERS
    )


def standing_files(source: WeightsSource, config: ModelConfig) -> list[Path]:
    """The files of a source; for an official one that was removed after its conversion, one of its parts."""
    parts = [
        converted_path(file, part, config)
        for file in source.files
        for part in (*ENCODERS, "predictor")
    ]
    return [path for path in (*source.files, *parts) if path.exists()][: len(source.files)]


def _from_hub(model: str) -> WeightsSource:
    places = " or ".join(str(folder) for folder in checkpoint_folders())
    by_hand = (
        f"put {OFFICIAL_URL}/{OFFICIAL_FILES[model]} into {places} (or set {CHECKPOINT_DIR_VARIABLE}); "
        "the embedded model, tiny, works now without any download, but its numbers mean something for "
        "simulated clips only"
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
