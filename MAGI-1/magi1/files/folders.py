"""Where the released weights lie: which folders and files a configuration needs, found or missing.

Each part is looked for where the configuration says, and beside that in the layout of the Hugging Face
Hub (``ckpt/magi/24B_base/inference_weight``, ``ckpt/t5``, ``ckpt/vae``), so that a downloaded copy
of the repository serves as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from magi1.config import MagiConfig
from magi1.files.located import located
from wmfiles import read_json
from wmweights import WeightsError, refused

HUB_REPO = "sand-ai/MAGI-1"
HOW_TO_GET = f"wmreward generate --download fetches them from {HUB_REPO}"

INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"
VAE_CONFIG, VAE_WEIGHTS = "config.json", "diffusion_pytorch_model.safetensors"
T5_FOLDER = "t5-v1_1-xxl"
BYTE_T5 = "byte_t5"
ZSTD = ".zst"
"""A file may be there compressed, with this added to its name."""


@dataclass(frozen=True)
class Place:
    """A folder with the files that a part is made of."""

    folder: Path
    files: tuple[Path, ...]


def variant(config: MagiConfig) -> str | None:
    """The released model of this shape and kind, such as ``24B_distill_quant``; None if it is another."""
    model, engine = config.model_config, config.engine_config
    shape = (model.num_layers, model.hidden_size, model.ffn_hidden_size)
    size = {(48, 6144, 16384): "24B", (34, 3072, 12288): "4.5B"}.get(shape)
    kind = {
        (False, False): "base",
        (True, False): "distill",
        (True, True): "distill_quant",
    }.get((engine.distill, engine.fp8_quant))
    return f"{size}_{kind}" if size and kind else None


def weights_subfolder(config: MagiConfig) -> str:
    """``inference_weight``, with ``.fp8`` and ``.distill`` as the configuration says."""
    engine = config.engine_config
    return (
        "inference_weight"
        + (".fp8" if engine.fp8_quant else "")
        + (".distill" if engine.distill else "")
    )


def find_dit(config: MagiConfig, folder: str | Path | None = None) -> Place:
    """The transformer's weights files.

    Args:
        config: Says which model, and its folder (``runtime_config.load``).
        folder: Used instead of the configuration's.

    Raises:
        WeightsError: nothing found, files missing, or another kind of model there.
    """
    return _find(_dit(config, folder or config.runtime_config.load))


def find_vae(config: MagiConfig, folder: str | Path | None = None) -> Place:
    """The VAE's ``config.json`` and weights file; see :func:`find_dit`."""
    return _find(_vae(folder or config.runtime_config.vae_pretrained))


def find_t5(config: MagiConfig, folder: str | Path | None = None) -> Place:
    """The text encoder's ``config.json`` and what is beside it; see :func:`find_dit`."""
    return _find(_t5(folder or config.runtime_config.t5_pretrained))


def missing_files(config: MagiConfig) -> list[str]:
    """One line for each thing that a run needs and that is not there; empty if all is. Reads no weights."""
    return [line for part in parts(config) for line in part.missing()]


def parts(config: MagiConfig) -> tuple[Part, Part, Part]:
    """Transformer, text encoder and VAE."""
    runtime = config.runtime_config
    return _dit(config, runtime.load), _t5(runtime.t5_pretrained), _vae(runtime.vae_pretrained)


@dataclass(frozen=True)
class Part:
    """One network: where it may be, what marks a folder as its own, and what must be in there.

    Attributes:
        name: For messages.
        setting: The field of ``runtime_config`` that names its folder.
        folders: Where it is looked for, in this order.
        markers: A folder that holds one of these files is taken.
        needed: All files of a folder that was taken, there or not.
        hub: Its folder in the Hub's repository, or None if it was not released.
        mistake: Explains a folder that was probably meant.
    """

    name: str
    setting: str
    folders: tuple[Path, ...]
    markers: tuple[str, ...]
    needed: Callable[[Path], list[Path]]
    hub: str | None
    mistake: Callable[[], str | None] = lambda: None

    def folder(self) -> Path | None:
        """The first folder that is this part's."""
        for folder in self.folders:
            if any(present(folder / marker) for marker in self.markers):
                return folder
        return None

    def missing(self) -> list[str]:
        """One line for each file that is not there, or for all of them."""
        folder = self.folder()
        if folder is None:
            wanted = " or ".join(self.markers)
            looked = ", ".join(map(str, self.folders))
            return [self.mistake() or f"{self.name}: there is no {wanted} in {looked}"]
        lost = (path for path in self.needed(folder) if not present(path))
        return [f"{self.name}: {path} is not there" for path in lost]


def _find(part: Part) -> Place:
    missing = part.missing()
    if missing:
        more = f"; and {len(missing) - 3} files more" if missing[3:] else ""
        raise WeightsError(f"{'; '.join(missing[:3])}{more}; {HOW_TO_GET}")
    folder = part.folder()
    assert folder is not None
    files = (present(path) for path in part.needed(folder))
    return Place(folder, tuple(file for file in files if file))


def present(path: Path) -> Path | None:
    """``path``, or its compressed form, if it is there."""
    compressed = path.with_name(path.name + ZSTD)
    return next((form for form in (path, compressed) if form.is_file()), None)


# --- the three parts


def _dit(config: MagiConfig, folder: str | Path) -> Part:
    given = located(folder)
    released, sub = variant(config), weights_subfolder(config)
    bases = [given] + ([given.parent / "ckpt" / "magi" / released] if released else [])
    return Part(
        name="transformer",
        setting="load",
        folders=tuple(place for base in bases for place in (base / sub, base)),
        markers=(INDEX, SINGLE),
        needed=_shards,
        hub=f"ckpt/magi/{released}/{sub}" if released else None,
        mistake=lambda: _other_kind(bases, sub),
    )


def _t5(folder: str | Path) -> Part:
    given = located(folder)
    bases = (given, given.parent / "ckpt" / "t5")
    return Part(
        name="text encoder",
        setting="t5_pretrained",
        folders=tuple(place for base in bases for place in (base / T5_FOLDER, base)),
        markers=("config.json",),
        needed=_t5_files,
        hub=f"ckpt/t5/{T5_FOLDER}",
    )


def _vae(folder: str | Path) -> Part:
    given = located(folder)
    return Part(
        name="VAE",
        setting="vae_pretrained",
        folders=(given, given.parent / "ckpt" / "vae"),
        markers=(VAE_WEIGHTS,),
        needed=lambda place: [place / VAE_CONFIG, place / VAE_WEIGHTS],
        hub="ckpt/vae",
    )


def _shards(folder: Path) -> list[Path]:
    if not (folder / INDEX).exists():
        return [folder / SINGLE]
    return [folder / shard for shard in sorted(set(weight_map(folder).values()))]


def weight_map(folder: Path) -> dict[str, str]:
    """The shard that each tensor of a transformer is in, by the folder's index; empty if it has none.

    Raises:
        WeightsError: the index is damaged.
    """
    index = folder / INDEX
    if not index.exists():
        return {}
    found = read_json(index, refuse=refused)
    try:
        return {name: Path(shard).name for name, shard in found["weight_map"].items()}
    except (KeyError, TypeError, AttributeError):
        raise WeightsError(f"{index} is not an index of weights; download it again") from None


def _other_kind(bases: list[Path], wanted: str) -> str | None:
    for base in bases:
        own = [base] if base.name.startswith("inference_weight") else []
        for found in own + sorted(base.glob("inference_weight*")):
            if found.name != wanted and found.is_dir():
                return (
                    f"transformer: {found} is of another kind of model than the configuration, which "
                    f"needs {wanted}; use the configuration that agrees in distill and fp8_quant"
                )
    return None


def _t5_files(folder: Path) -> list[Path]:
    """The encoder in whatever form it is stored; one that reads bytes needs no vocabulary."""
    config = folder / "config.json"
    found = read_json(config, refuse=refused)
    if not isinstance(found, dict):
        raise WeightsError(f"{config} is not a model's configuration; download it again")
    reads_bytes = found.get("model_type") == BYTE_T5
    weights = sorted(folder.glob("*.safetensors")) or sorted(folder.glob("pytorch_model*.bin"))
    vocabulary = [] if reads_bytes else [folder / "spiece.model"]
    return [config, *vocabulary, *(weights or [folder / SINGLE])]
