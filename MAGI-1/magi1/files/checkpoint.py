"""Weights files → transformer and VAE: checked from the files' headers first, then moved to their
device one tensor at a time.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

import wmfiles
import wmweights
from magi1.config import VAE_STRIDE, MagiConfig
from magi1.errors import MagiUsageError
from magi1.files import zstd_shards
from magi1.files.folders import VAE_CONFIG, ZSTD, find_dit, find_vae, variant, weight_map
from magi1.transformer.dit import DiT
from magi1.transformer.rope import default_bands
from magi1.vae import VAE, VAEConfig
from wmweights import WeightsError, safetensors_file

BANDS = "rope.bands"
FP8 = torch.float8_e4m3fn

Network = TypeVar("Network", bound=nn.Module)

_PACKED = re.compile(r"videodit_blocks\.layers\.(?!\d)")
_KEEPS_FLOAT32 = "self_attention.linear_proj.weight"


@dataclass(frozen=True)
class LoadedWeights:
    """What was loaded, for records.

    Attributes:
        part: ``transformer`` or ``VAE``.
        folder: Where from.
        files: The weights files read.
        fingerprint: Tells files apart (:func:`wmweights.fingerprint_files`).
        parameters: Number of parameters, without scales of quantised ones.
        bytes: Memory they take.
    """

    part: str
    folder: str
    files: tuple[str, ...]
    fingerprint: str
    parameters: int
    bytes: int


def load_dit(
    config: MagiConfig,
    folder: str | Path | None = None,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
) -> tuple[DiT, LoadedWeights]:
    """The transformer with its weights, frozen.

    Embeddings, self-attention's q/k norms, post-norms, the final norm and the output are float32; the
    rest of the layers has the precision of the configuration, in which it must be stored. Only
    attention's output projection stays float32 if it is stored so: it is computed in float32.

    Args:
        config: Which model; ``runtime_config.load`` is its folder.
        folder: Used instead: a folder of files, or one that holds ``inference_weight…``.
        device: Where the weights go.
        dtype: Precision of the layers instead of the configuration's. Weights are rounded if need be.

    Raises:
        WeightsError: files missing, damaged or of another model; one line with key, shape and file.
        MagiUsageError: a ``dtype`` that the model cannot run in.
    """
    found = _checked_dit(config, folder, dtype)
    _fill(found.model, found.spare.items(), device)
    kept = _KEEPS_FLOAT32 if found.as_stored else None
    _fill(found.model, found.files.tensors(device), device, kept=kept)
    return found.model.eval(), _loaded("transformer", found.folder, found.files, found.model)


def load_vae(
    config: MagiConfig,
    folder: str | Path | None = None,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.bfloat16,
) -> tuple[VAE, LoadedWeights]:
    """The VAE with its weights, frozen.

    Args:
        config: ``runtime_config.vae_pretrained`` is its folder.
        folder: Used instead.
        device: Where the weights go.
        dtype: Their precision; MAGI-1 runs it in bfloat16.

    Raises:
        WeightsError: like :func:`load_dit`.
    """
    found = _checked_vae(config, folder, dtype)
    _fill(found.model, found.files.tensors(device), device)
    return found.model.eval(), _loaded("VAE", found.folder, found.files, found.model)


def check_weights(config: MagiConfig, *, dtype: torch.dtype | None = None) -> None:
    """Read the headers of transformer and VAE, whose weights are needed at different times of a run.

    Args:
        config: Names their folders.
        dtype: Like that of :func:`load_dit`.

    Raises:
        WeightsError: as loading them would; but nothing has been computed.
    """
    _checked_dit(config, None, dtype)
    _checked_vae(config, None, torch.bfloat16)


# --- checks that need only the headers


@dataclass(frozen=True)
class _Checked(Generic[Network]):
    """A network without weights, and files that fit it.

    Attributes:
        model: On the meta device.
        folder, files: Where its weights are.
        spare: Weights that no file needs to have.
        as_stored: Whether no precision was asked for.
    """

    model: Network
    folder: Path
    files: _WeightsFiles
    spare: Mapping[str, Tensor] = field(default_factory=dict)
    as_stored: bool = False


def _checked_dit(
    config: MagiConfig, folder: str | Path | None, dtype: torch.dtype | None
) -> _Checked[DiT]:
    if dtype is not None:
        config = replace(config, model_config=replace(config.model_config, params_dtype=str(dtype)))
    place = find_dit(config, folder)
    fp8 = config.engine_config.fp8_quant
    with wmweights.blank():
        model = DiT(config.model_config, fp8=fp8)
    files = _WeightsFiles(place.files, weight_map(place.folder))
    _check_kind(files, fp8=fp8)
    spare = {}
    if BANDS not in files.specs:  # some converters leave it out, as it starts from a formula
        spare[BANDS] = default_bands(config.model_config.kv_channels // 8)
    wmweights.check_fit(
        model, {**files.specs, **spare}, files.where, variant(config) or "of this configuration"
    )
    as_stored = dtype is None and not files.quantised
    if as_stored:
        _check_precision(model, files)
    return _Checked(model, place.folder, files, spare, as_stored)


def _checked_vae(
    config: MagiConfig, folder: str | Path | None, dtype: torch.dtype
) -> _Checked[VAE]:
    place = find_vae(config, folder)
    shape = read_vae_config(place.folder)
    _check_latents(config, shape, place.folder)
    with wmweights.blank():
        model = VAE(shape).to(dtype)
    files = _WeightsFiles(tuple(file for file in place.files if file.name != VAE_CONFIG))
    wmweights.check_fit(model, files.specs, files.where, "VAE")
    return _Checked(model, place.folder, files)


def _check_latents(config: MagiConfig, shape: VAEConfig, folder: Path) -> None:
    """Refuse a VAE whose latents are others than the transformer's."""
    wanted = {
        "z_chans": config.model_config.latent_channels,
        "patch_size": VAE_STRIDE,
        "patch_length": config.runtime_config.temporal_downsample_factor,
    }
    for name, value in wanted.items():
        if (found := getattr(shape, name)) != value:
            raise WeightsError(
                f"{folder / VAE_CONFIG}: {name}={found}, but the configuration needs {value}; use the VAE "
                "that belongs to the transformer"
            )


def read_vae_config(folder: Path) -> VAEConfig:
    """The VAE's sizes, from its folder.

    Raises:
        WeightsError: the file is not there, damaged, or of something else.
    """
    file = folder / VAE_CONFIG
    found = wmfiles.read_json(file, refuse=wmweights.refused)
    if not isinstance(found, dict):
        raise WeightsError(f"{file} is not a VAE's configuration; download it again")
    try:
        return VAEConfig.from_json(found)
    except MagiUsageError as error:
        raise WeightsError(f"{file}: {error}") from None


def _check_kind(files: _WeightsFiles, *, fp8: bool) -> None:
    """Say what files of another release or another kind of model are, where a list of keys would not."""
    if any(_PACKED.match(name) for name in files.specs):
        raise WeightsError(
            f"{files.where} is packed over layers, as in magi1.1: a different release that is not "
            "supported; use the weights of ckpt/magi"
        )
    holds_fp8 = any(spec.dtype == FP8 for spec in files.specs.values())
    if holds_fp8 != fp8:
        kind = ("float8", "unquantised")
        raise WeightsError(
            f"{files.where} holds {kind[not holds_fp8]} weights, but the configuration is of "
            f"{kind[not fp8]} ones; use the one that agrees in fp8_quant"
        )


def _check_precision(model: DiT, files: _WeightsFiles) -> None:
    """Refuse weights that would be rounded, or taken for another kind of number, without being asked to."""
    for name, place in wmweights.places(model).items():
        if name not in files.specs:
            continue
        stored = files.specs[name].dtype
        keeps = name.endswith(_KEEPS_FLOAT32) and stored == torch.float32
        if not (keeps or _holds(place.dtype, stored)):
            raise WeightsError(
                f"{files.where}: {name} is stored as {stored}, expected {place.dtype}; use the "
                "configuration that agrees in params_dtype, or ask for a dtype"
            )


def _holds(wide: torch.dtype, narrow: torch.dtype) -> bool:
    """Whether each number of one precision exists in the other."""
    if FP8 in (wide, narrow):
        return wide == narrow
    return narrow.is_floating_point and torch.promote_types(wide, narrow) == wide


# --- reading


class _WeightsFiles:
    """The tensors of a few files: what the headers say of them, and then one after the other.

    Args:
        paths: The files.
        index: The file name of each tensor's own file, in case that several hold one of its name.
    """

    def __init__(self, paths: tuple[Path, ...], index: Mapping[str, str] | None = None) -> None:
        self.paths, self.index = paths, index or {}
        self.where = str(paths[0] if len(paths) == 1 else paths[0].parent)
        raw = {
            name: spec
            for path in paths
            for name, spec in _reader(path).read_specs(path).items()
            if self._is_in(path, name)
        }
        self.quantised = wmweights.is_quantised(raw)
        self.specs = wmweights.dequantised_specs(raw)

    def tensors(self, device: torch.device | str) -> Iterator[tuple[str, Tensor]]:
        for path in self.paths:
            if self.quantised:
                yield from wmweights.dequantise(dict(_reader(path).read_tensors(path))).items()
                continue
            for name, value in _reader(path).read_tensors(path, device):
                if self._is_in(path, name):
                    yield name, value

    def _is_in(self, path: Path, name: str) -> bool:
        """Whether the index, where it knows the tensor, means the one in this file."""
        file = path.name.removesuffix(ZSTD)
        return self.index.get(name, file) == file


def _reader(path: Path) -> ModuleType:
    return zstd_shards if path.suffix == ZSTD else safetensors_file


def _fill(
    model: nn.Module,
    tensors: Iterable[tuple[str, Tensor]],
    device: torch.device | str,
    *,
    kept: str | None = None,
) -> None:
    """Put each tensor into its place with the precision of that place; those named ``kept`` as they are."""
    own = wmweights.places(model)
    for name, value in tensors:
        dtype = value.dtype if kept and name.endswith(kept) else own[name].dtype
        wmweights.put(model, name, value.to(device, dtype))


def _loaded(part: str, folder: Path, files: _WeightsFiles, model: nn.Module) -> LoadedWeights:
    own = wmweights.places(model)
    return LoadedWeights(
        part=part,
        folder=str(folder),
        files=tuple(map(str, files.paths)),
        fingerprint=wmweights.fingerprint_files(files.paths),
        parameters=sum(v.numel() for name, v in own.items() if not name.endswith("_scale")),
        bytes=sum(value.numel() * value.element_size() for value in own.values()),
    )
