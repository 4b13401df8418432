"""The files of one generated video: what is there already, what an interrupted run left, what is written."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from magi1.config import MagiConfig
from magi1.files.folders import find_dit, find_t5, find_vae
from magi1.sampling.sampler import LoopState
from magi1.sampling.velocity import CONTEXT_SHARE, context_share
from wmfiles import fitted, read_json
from wmreward.errors import FileError, UsageError, WMRewardError
from wmreward.files import atomic_path, check_folder, write_text
from wmreward.generation.early import output_place
from wmreward.video.write import WRITABLE_SUFFIXES
from wmreward.video_io import write_video
from wmweights import WeightsError, fingerprint_files, read_metadata, read_state, write_state

LEAST_ROOM = 64 * 2**20
"""Bytes that must be free where the video goes."""

_NOT_DECISIVE = ("load", "t5_pretrained", "vae_pretrained", "t5_device", "seed")
"""Where things lie and run, and what is recorded elsewhere: they do not decide the video."""


@dataclass(frozen=True)
class Interrupted:
    """Where an interrupted run stopped.

    Attributes:
        latents: Of one video, ``[1, C, T, H, W]``.
        next_call: Number of the call to go on with.
        guided: What guidance had recorded.
    """

    latents: Tensor
    next_call: int
    guided: list[dict[str, Any]]


@dataclass(frozen=True)
class Output:
    """Where a video goes.

    Attributes:
        path: The video.
        settings: Everything that decides what it shows, weights included.
        done: The record of an earlier run with the same settings whose video is there, or None.
        stood: What was there when it was looked at, or None.
        guard: Called before anything is written; raises if the place is somebody else's by now.
    """

    path: Path
    settings: dict[str, Any]
    done: dict[str, Any] | None = None
    stood: tuple[int, ...] | None = None
    guard: Callable[[], None] = lambda: None

    @classmethod
    def check(
        cls,
        path: str,
        *,
        overwrite: bool,
        settings: Mapping[str, Any],
        search: str | None = None,
    ) -> Output:
        """Look at the place and what is there.

        Args:
            path: The video.
            overwrite: Replace whatever is there.
            settings: All that decides what the video shows.
            search: Id of the candidates it is chosen from: an earlier choice among them may be replaced.

        Raises:
            UsageError: a name that is no video's, one whose record is another video's, or a video of other
                settings without ``overwrite``.
            WMRewardError: the folder cannot be written or the disk is full.
        """
        target = output_place(path)
        _check_room(target.parent)
        output = cls(target, dict(settings), stood=_standing(target))
        output._check_name()
        if overwrite or not target.exists():
            return output
        record = _read_record(output.record_path)
        if record is not None and search is not None and record.get("candidates_id") == search:
            return (
                output
                if record["settings_id"] != output.settings_id
                else replace(output, done=record)
            )
        if record is None or record.get("settings_id") != output.settings_id:
            raise UsageError(
                f"{target} is there already, {output._how_made(record)}; give another --output, or "
                "--overwrite"
            )
        return replace(output, done=record)

    def _check_name(self) -> None:
        """Raise ``UsageError`` if what stands beside the video belongs to one of another ending."""
        record = _read_record(self.record_path) or {}
        for suffix in WRITABLE_SUFFIXES:
            other = self.path.with_suffix(suffix)
            if suffix == self.path.suffix or not other.exists():
                continue
            if Path(str(record.get("output"))).name == other.name:
                raise UsageError(
                    f"{self.record_path} is the record of {other.name}, and {self.path.name} would need the "
                    "same; give --output another name"
                )

    def _how_made(self, record: Mapping[str, Any] | None) -> str:
        """How a video that is in the way came to be, as far as is known from what stands beside it."""
        if record is not None:
            return "made with other settings"
        if self.record_path.exists():
            return f"and {self.record_path.name} beside it is no record of how it was made"
        return (
            f"and there is no record of how it was made: if it was by this command, put "
            f"{self.record_path.name} back beside it"
        )

    def check_unchanged(self) -> None:
        """Raise ``UsageError`` if the video is not the one that was there, or absent, at `check`."""
        if _standing(self.path) != self.stood:
            raise UsageError(f"{self.path} was just written by another run; start again")

    @property
    def settings_id(self) -> str:
        """Short hash of the settings."""
        return settings_id(self.settings)

    @property
    def record_path(self) -> Path:
        return self.beside(".json")

    @property
    def latents_path(self) -> Path:
        return self.beside(".safetensors")

    def beside(self, suffix: str) -> Path:
        """A file that goes with the video: ``ball.mp4`` → ``ball.compare.mp4``."""
        return self.path.with_name(fitted(self.path.stem, suffix))

    @property
    def preview_path(self) -> Path:
        return self.beside(f".preview{self.path.suffix}")

    @property
    def resume_path(self) -> Path:
        """What an interrupted run leaves; runs with other settings have another."""
        name = fitted(f".{self.path.stem}", f".{self.settings_id}.resume.safetensors")
        return self.path.with_name(name)

    # --- resuming ---------------------------------------------------------------------------------------

    def save_state(self, state: LoopState, guided: Sequence[Mapping[str, Any]] = ()) -> None:
        """Keep the state after a finished chunk, and what guidance has recorded."""
        self.guard()
        facts = {"next_call": str(state.next_call), "guided": json.dumps(list(guided))}
        self._write(self.resume_path, {"latents": state.latents}, facts)

    def load_state(self) -> Interrupted | None:
        """Where an interrupted run of the same settings stopped, or None."""
        if not self.resume_path.exists():
            return None
        try:
            latents = read_state(self.resume_path)["latents"]
            facts = read_metadata(self.resume_path)
            return Interrupted(latents, int(facts["next_call"]), json.loads(facts["guided"]))
        except (WeightsError, KeyError, ValueError):
            return None  # damaged: begin anew

    # --- results ----------------------------------------------------------------------------------------

    def write_preview(self, frames: Sequence[Tensor], fps: int) -> None:
        """What is finished so far."""
        self.guard()
        write_video(self.preview_path, torch.cat(list(frames)).numpy(), fps)

    def write(
        self,
        frames: Tensor,
        fps: int,
        record: Mapping[str, Any],
        latents: Tensor | None = None,
    ) -> dict[str, Any]:
        """The video, then its record; from then on it counts as done. Returns the whole record."""
        self.guard()
        whole = self.whole(record)
        if latents is not None:
            self._write(self.latents_path, {"latents": latents}, {"settings_id": self.settings_id})
        self.record_path.unlink(missing_ok=True)  # a record never stands beside another video
        write_video(self.path, frames.numpy(), fps)
        write_text(self.record_path, json.dumps(whole, indent=2) + "\n")
        self.resume_path.unlink(missing_ok=True)
        with suppress(OSError):  # a name that would be too long
            self.preview_path.unlink()
        return whole

    def adopt(self, chosen: Output, record: Mapping[str, Any]) -> dict[str, Any]:
        """Take the video of another output, and latents if there are any. Returns the whole record."""
        self.guard()
        whole = self.whole(record)
        self.record_path.unlink(missing_ok=True)
        for source, target in (
            (chosen.latents_path, self.latents_path),
            (chosen.path, self.path),
        ):
            if source.exists():
                with atomic_path(target) as temporary:
                    shutil.copyfile(source, temporary)
        write_text(self.record_path, json.dumps(whole, indent=2) + "\n")
        return whole

    def record(self) -> dict[str, Any] | None:
        """What stands beside a video that is there, made with these settings."""
        found = _read_record(self.record_path) if self.path.exists() else None
        return found if found and found.get("settings_id") == self.settings_id else None

    def whole(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """A record with what it belongs to."""
        return {
            "output": str(self.path),
            "settings_id": self.settings_id,
            **record,
            "settings": self.settings,
        }

    def _write(self, path: Path, tensors: dict[str, Tensor], metadata: Mapping[str, str]) -> None:
        contiguous = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_state(contiguous, path, metadata)
        except OSError as error:
            raise WMRewardError(f"{path}: cannot write: {error.strerror or error}") from error


def settings_id(settings: Mapping[str, Any]) -> str:
    """Short hash of settings."""
    text = json.dumps(settings, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def settings_of(config: MagiConfig) -> dict[str, Any]:
    """What a configuration decides of a video, and hashes of the weights; reads a few MiB of these."""
    runtime = {
        name: value
        for name, value in asdict(config.runtime_config).items()
        if name not in _NOT_DECISIVE
    }
    engine = config.engine_config
    share = context_share() if runtime["cfg_number"] == 1 else CONTEXT_SHARE
    return {
        "model_config": asdict(config.model_config),
        "runtime_config": runtime,
        "engine_config": {
            name: getattr(engine, name)
            for name in (
                *("distill", "fp8_quant", "shortcut_mode"),
                "distill_nearly_clean_chunk_threshold",
            )
        },
        **({} if share == CONTEXT_SHARE else {"context_share": share}),
        "weights": {
            name: fingerprint_files(find(config).files)
            for name, find in (("transformer", find_dit), ("vae", find_vae), ("text", find_t5))
        },
    }


def _check_room(folder: Path) -> None:
    check_folder(folder)
    there = next(place for place in (folder, *folder.parents) if place.exists())
    disk = shutil.disk_usage(there)
    if disk.total and disk.free < LEAST_ROOM:  # some file systems do not say how large they are
        raise WMRewardError(
            f"{folder}: only {disk.free // 2**20} MiB left on the disk; free some space"
        )


def _standing(path: Path) -> tuple[int, ...] | None:
    """Which file is at a place; another one, or one that was written again, is told apart."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _read_record(path: Path) -> dict[str, Any] | None:
    try:
        record = read_json(path, refuse=FileError)
    except FileError:
        return None
    return record if isinstance(record, dict) else None
