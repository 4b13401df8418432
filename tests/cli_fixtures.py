"""The command line in this process, with a very small model in the place of `tiny`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fakes import NANO, NANO_AC, random_model
from safetensors.torch import save_file

import vjepa2.config
from vjepa2 import VJEPA2Config
from wmreward.scoring.cli import main
from wmreward.surprise import models
from wmreward.surprise.video_scorer import VideoScorer
from wmreward.video_io import write_video


def write_clip(path: Path, frames: int = 20, seed: int = 0, fps: float = 8) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 255, (frames, 48, 64, 3), dtype=np.uint8)
    write_video(path, noise, fps)
    return path


def write_weights(path: Path, config: VJEPA2Config, seed: int = 0) -> Path:
    state = random_model(config, dtype=torch.float32, seed=seed).state_dict()
    save_file({k: v for k, v in state.items() if not k.startswith("target_encoder.")}, path)
    return path


@dataclass
class Result:
    code: int
    out: str
    err: str

    @property
    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line, parse_constant=pytest.fail) for line in self.out.splitlines()]


Cli = Callable[..., Result]


@pytest.fixture
def videos(tmp_path: Path) -> list[Path]:
    names = ("c.mp4", "a.mp4", "sub/b.mp4")
    return [write_clip(tmp_path / "in" / name, seed=i) for i, name in enumerate(names)]


@pytest.fixture
def cli(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Cli]:
    """Runs the command line with the nano model; models are not kept from one test to the next."""
    tiny = replace(NANO, name="tiny", predictor=replace(NANO.predictor, mask_tokens=1))
    monkeypatch.setitem(vjepa2.config.MODELS, "tiny", tiny)
    monkeypatch.setitem(vjepa2.config.MODELS, "vitgac", replace(NANO_AC, name="vitgac"))
    monkeypatch.chdir(tmp_path)
    weights = write_weights(tmp_path / "nano.safetensors", tiny)

    def run(*arguments: object, model: str = "tiny", weights: Path | None = weights) -> Result:
        given = ["--weights", str(weights)] if weights else []
        capsys.readouterr()
        code = main(["--model", model, *given, *map(str, arguments)])
        return Result(code, *capsys.readouterr())

    yield run
    models.load.cache_clear()


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the videos that the model looks at, as it happens."""
    names: list[str] = []
    score_clips = VideoScorer.score_clips

    def noted(self: Any, clips: Any, name: Path, motion: Any = None) -> Any:
        names.append(name.name)
        return score_clips(self, clips, name, motion)

    monkeypatch.setattr(VideoScorer, "score_clips", noted)
    return names
