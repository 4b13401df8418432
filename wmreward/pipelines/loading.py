"""A pipeline of diffusers by name: found and known before a weight is read."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

import torch

from wmfiles import read_json
from wmreward.errors import FileError, UsageError, WMRewardError
from wmreward.files import user_path
from wmreward.pipelines.families.base import Family
from wmreward.pipelines.families.known import family_named
from wmweights import fingerprint_files

_INDEX = "model_index.json"


@dataclass(frozen=True)
class FoundPipeline:
    """A pipeline on this machine.

    Attributes:
        name: As it was asked for.
        folder: Where its files are.
        index: Its parts and options, by name.
        kind: Its class in diffusers.
        family: What is known of it.
    """

    name: str
    folder: Path
    index: Mapping[str, Any]
    kind: Any
    family: type[Family]

    @property
    def parameters(self) -> Mapping[str, inspect.Parameter]:
        """Of its call."""
        return inspect.signature(self.kind.__call__).parameters

    def classes(self) -> dict[str, Any]:
        """Of its parts that are there, by name."""
        entries = {name: entry for name, entry in self.index.items() if isinstance(entry, list)}
        return {
            name: getattr(import_module(library), kind)
            for name, (library, kind) in entries.items()
            if library in ("diffusers", "transformers")
        }

    def check_parts(self) -> None:
        """Raise ``WMRewardError`` unless every part has a folder that describes it."""
        for part in self.classes():
            if not any((self.folder / part).glob("*.json")):
                raise WMRewardError(
                    self._lacks(part, f"no description of it in {self.folder / part}")
                )

    def check_weights(self) -> None:
        """Raise ``WMRewardError`` unless every network has weights, and all parts are named that it needs."""
        optional = getattr(self.kind, "_optional_components", ())
        for part in inspect.signature(self.kind.__init__).parameters:
            if self.index.get(part) == [None, None] and part not in optional:
                raise WMRewardError(self._lacks(part, f"none named in its {_INDEX}"))
        for part, kind in self.classes().items():
            network = isinstance(kind, type) and issubclass(kind, torch.nn.Module)
            if network and not any((self.folder / part).glob("*.safetensors")):
                where = self.folder / part
                raise WMRewardError(
                    self._lacks(part, f"no weights (.safetensors) of it in {where}")
                )

    def _lacks(self, part: str, what: str) -> str:
        return (
            f"--pipeline {self.name} lacks its part {part}: there is {what}; copy or download the whole "
            "pipeline again"
        )

    def configuration(self, part: str) -> Mapping[str, Any]:
        """Of one of its parts, as its file says; empty where there is none."""
        file = self.folder / part / "config.json"
        found = read_json(file, refuse=FileError) if file.is_file() else {}
        return found if isinstance(found, dict) else {}

    @property
    def fingerprint(self) -> str:
        """Of configurations and weights; reads the ends of the files."""
        files = [*self.folder.rglob("*.json"), *self.folder.rglob("*.safetensors")]
        return fingerprint_files(sorted(files))

    def load(
        self, device: torch.device, dtype: torch.dtype, *, offload: bool, shown: bool = True
    ) -> Any:
        """The pipeline, on the device, or waiting on the host until each part is used.

        Args:
            device, dtype: Where and how it runs.
            offload: Whether its parts wait on the host.
            shown: Whether bars tell of the loading.
        """
        try:
            with nullcontext() if shown else _without_bars(), warnings.catch_warnings():
                # Later versions call it dtype, and drop this name with 1.0; the oldest know no other.
                warnings.filterwarnings("ignore", ".*torch_dtype", FutureWarning)
                pipe = self.kind.from_pretrained(
                    str(self.folder), torch_dtype=dtype, use_safetensors=True, local_files_only=True
                )
        except (OSError, ValueError, ImportError) as error:
            raise WMRewardError(f"{self.name} cannot be loaded: {_line(error)}") from error
        for part in pipe.components.values():
            if isinstance(part, torch.nn.Module):
                part.requires_grad_(False)
        if offload:
            pipe.enable_model_cpu_offload(device=device)
        else:
            pipe.to(device)
        return pipe


@contextmanager
def _without_bars() -> Iterator[None]:
    """Of diffusers and transformers; every process of a batch would show its own."""
    from diffusers.utils import logging as diffusers
    from transformers.utils import logging as transformers

    shown = [library for library in (diffusers, transformers) if library.is_progress_bar_enabled()]
    for library in shown:
        library.disable_progress_bar()
    try:
        yield
    finally:
        for library in shown:
            library.enable_progress_bar()


def find_pipeline(
    name: str, *, revision: str | None = None, download: bool = False
) -> FoundPipeline:
    """A local folder, or what the Hugging Face Hub knows by this name.

    Args:
        name: Folder or id.
        revision: Of the Hub's repository.
        download: Fetch what is missing.

    Raises:
        UsageError: it is no pipeline that can be guided.
        WMRewardError: diffusers is not installed, or the pipeline is not there.
    """
    try:
        import diffusers
    except ImportError as error:
        raise WMRewardError(
            "--pipeline needs diffusers: pip install 'wmreward[diffusers]'"
        ) from error
    folder = user_path(name)
    if not folder.is_dir():
        folder = _from_hub(diffusers.DiffusionPipeline, name, revision, download)
    index = _index(folder / _INDEX, name)
    kind = str(index.get("_class_name"))
    family = family_named(kind)
    made = getattr(diffusers, kind, None)
    if made is None:
        raise WMRewardError(
            f"{name} is a {kind}, which diffusers {metadata.version('diffusers')} does not have: "
            "pip install --upgrade diffusers"
        )
    found = FoundPipeline(name, folder, index, made, family)
    found.check_parts()
    return found


def _index(file: Path, name: str) -> Mapping[str, Any]:
    if not file.exists():
        raise UsageError(f"--pipeline {name}: there is no {_INDEX} in this folder")
    index = read_json(file, refuse=FileError)
    if not isinstance(index, dict):
        raise WMRewardError(f"{file}: this is no description of a pipeline")
    return index


def _from_hub(hub: Any, name: str, revision: str | None, download: bool) -> Path:
    """The folder of the Hub's files on this machine; its class is looked at before its weights."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HFValidationError

    options: dict[str, Any] = {"revision": revision, "local_files_only": not download}
    try:
        index = _index(Path(hf_hub_download(name, _INDEX, **options)), name)
        family_named(str(index.get("_class_name")))
        return Path(hub.download(name, use_safetensors=True, **options))
    except HFValidationError as error:
        raise UsageError(f"--pipeline {name} is neither a folder nor a name on the Hub") from error
    except WMRewardError:
        raise
    except (OSError, ValueError) as error:
        if not download:
            raise WMRewardError(
                f"--pipeline {name} is no folder and not on this machine: `wmreward generate --download`, or "
                f"`hf download {name}`, fetches it from the Hugging Face Hub (--plan needs no weights: `hf "
                f"download {name} --include '*.json' --local-dir FOLDER`, then --pipeline FOLDER)"
            ) from error
        raise WMRewardError(f"{name} cannot be fetched: {_line(error)}") from error


def _line(error: Exception) -> str:
    """The first line of what another library says."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
