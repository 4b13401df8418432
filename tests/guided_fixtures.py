"""A nano generator guided and judged by a nano world model, from the command line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_fixtures import write_weights
from fakes import NANO
from generate_fixtures import CommandLine
from magi1_fakes import write_nano
from safetensors.torch import load_file
from torch import Tensor

import vjepa2.config
import vjepa2.files.sources
from wmreward.generation import workshop
from wmreward.generation.search.candidate import make_candidates
from wmreward.surprise import models
from wmreward.video_io import write_png, write_video

SHORT = ("--num_frames", "24", "--num_steps", "4")
"""One chunk, four steps."""


@pytest.fixture(scope="module")
def nano(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with both nano models and the generator's configuration."""
    folder = tmp_path_factory.mktemp("nano")
    write_nano(folder)
    write_weights(folder / "world.safetensors", NANO)
    return folder


@pytest.fixture
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with an image and a video."""
    folder = tmp_path_factory.mktemp("inputs")
    frames = np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3), dtype=np.uint8)
    write_png(folder / "image.png", frames[0])
    write_video(folder / "video.mp4", frames, 24)
    return folder


@pytest.fixture
def small_world(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A small model in the place of `tiny`."""
    monkeypatch.setitem(vjepa2.config.MODELS, "tiny", replace(NANO, name="tiny"))
    yield
    models.load.cache_clear()


@pytest.fixture
def small_embedded(
    small_world: None, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """Small models in the places of both embedded ones, found without being given; their files."""
    folder = tmp_path_factory.mktemp("embedded")
    monkeypatch.setitem(vjepa2.config.MODELS, "referee", replace(NANO, name="referee"))
    files = {
        name: write_weights(folder / f"{name}.safetensors", NANO, seed)
        for seed, name in enumerate(("tiny", "referee"))
    }
    for name, file in files.items():
        monkeypatch.setitem(vjepa2.files.sources.EMBEDDED, name, file)
    return files


class Guided(CommandLine):
    """With the nano world model as the reward's."""

    def __call__(self, *flags: str) -> tuple[int, str, str]:
        weights = str(Path(self.config).parent / "world.safetensors")
        model = ("--model", "tiny", "--weights", weights, "--stride", "4")
        return super().__call__(*model, *flags)

    def plainly(self, *flags: str) -> tuple[int, str, str]:
        """Without it."""
        return super().__call__(*flags)


@pytest.fixture
def command(
    nano: Path,
    small_world: None,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Guided:
    monkeypatch.chdir(tmp_path)
    return Guided(nano, capsys)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """Seeds of every batch that is generated, as it happens."""
    batches: list[list[int]] = []

    def noted(*arguments: Any, **options: Any) -> Any:
        batches.append(list(options["seeds"]))
        return make_candidates(*arguments, **options)

    monkeypatch.setattr(workshop, "make_candidates", noted)
    return batches


def record_of(name: str) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(Path(f"{name}.json").read_text())
    return record


def latents_of(name: str) -> Tensor:
    return load_file(f"{name}.safetensors")["latents"]


def candidates_in(folder: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(folder, "candidates.jsonl").read_text().splitlines()]
