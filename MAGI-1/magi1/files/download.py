"""Fetch from the Hugging Face Hub just what a configuration needs and what is not there yet."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from magi1.config import MagiConfig
from magi1.errors import MagiError, MagiUsageError
from magi1.files.folders import HUB_REPO, Part, parts, variant
from magi1.files.located import located
from wmweights import first_line

if TYPE_CHECKING:
    from huggingface_hub import HfApi

GIB = 2**30
MARGIN = GIB
"""Room left on the disk for everything else."""


@dataclass(frozen=True)
class Job:
    """Files of one part and the folder under which they get the paths that they have on the Hub.

    Attributes:
        part: What is fetched.
        root: Where to.
        sizes: Bytes of each file by its path in the repository.
    """

    part: Part
    root: Path
    sizes: dict[str, int]

    @property
    def to_come(self) -> int:
        """Bytes that are not on the disk yet."""
        files = ((self.root / name, size) for name, size in self.sizes.items())
        return sum(
            size for path, size in files if not path.is_file() or path.stat().st_size != size
        )


def download(config: MagiConfig, into: str | Path | None = None) -> MagiConfig:
    """Fetch transformer, text encoder and VAE, each only if it is missing; resumes after an interruption.

    Args:
        config: Which model, and where its parts belong.
        into: Folder for the Hub's ``ckpt/…``. Default: beside the folders that the configuration names,
            where loading looks too.

    Returns:
        The configuration with the folders of what was fetched.

    Raises:
        MagiUsageError: a configuration of no released model.
        MagiError: too little room on the disk, or the Hub cannot be reached; nothing was fetched or,
            if the connection broke, the rest comes the next time.
    """
    wanted = [part for part in parts(config) if part.missing()]
    if not wanted:
        return config
    if variant(config) is None:
        raise MagiUsageError(
            f"{HUB_REPO} has no model of this shape and kind; download works for the released "
            "configurations"
        )
    from huggingface_hub import HfApi
    from huggingface_hub.utils import logging as hub_logging

    hub_logging.set_verbosity_error()  # a line for every failed attempt would bury ours
    api = HfApi()
    try:
        revision, sizes = _listing(api)
        jobs = [_job(part, config, into, sizes) for part in wanted]
        _check_room(jobs)
        for job in jobs:
            api.snapshot_download(
                HUB_REPO, revision=revision, local_dir=job.root, allow_patterns=list(job.sizes)
            )
    except MagiError:
        raise
    except Exception as error:  # of the Hub's client, its transport or the disk
        raise MagiError(
            f"{HUB_REPO} could not be downloaded: {_why(error)}; run the same again, or copy its ckpt "
            f"folder to {into or Path(config.runtime_config.load).parent}"
        ) from None
    folders: dict[str, Any] = {job.part.setting: str(job.root / f"{job.part.hub}") for job in jobs}
    return replace(config, runtime_config=replace(config.runtime_config, **folders))


def _listing(api: HfApi) -> tuple[str | None, dict[str, int]]:
    """The repository's newest revision and the size of each of its files."""
    info = api.model_info(HUB_REPO, files_metadata=True)
    return info.sha, {file.rfilename: file.size or 0 for file in info.siblings or []}


def _job(part: Part, config: MagiConfig, into: str | Path | None, sizes: dict[str, int]) -> Job:
    configured = Path(getattr(config.runtime_config, part.setting))
    root = located(into or configured.parent)
    own = {name: size for name, size in sizes.items() if name.startswith(f"{part.hub}/")}
    if not own:
        raise MagiError(f"{HUB_REPO} has no folder {part.hub}: it may have been rearranged")
    return Job(part, root, {name: own[name] for name in _of_one_format(own)})


def _of_one_format(names: dict[str, int]) -> Iterator[str]:
    """Leave out what repeats the same weights for other frameworks."""
    repeated = [".h5", ".msgpack", ".ot"]
    if any(name.endswith(".safetensors") for name in names):
        repeated += [".bin", ".bin.index.json"]
    return (name for name in names if not name.endswith(tuple(repeated)))


def _check_room(jobs: list[Job]) -> None:
    """Refuse to begin what will not fit."""
    for root in {job.root.resolve() for job in jobs}:
        need = sum(job.to_come for job in jobs if job.root.resolve() == root)
        disk = next(folder for folder in (root, *root.parents) if folder.exists())
        free = shutil.disk_usage(disk).free
        if need + MARGIN > free:
            raise MagiError(
                f"{root} needs {need / GIB:.1f} GiB, but only {free / GIB:.1f} GiB are free there; make "
                "room or choose another folder"
            )


def _why(error: Exception) -> str:
    from huggingface_hub import constants

    return "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else first_line(error)
