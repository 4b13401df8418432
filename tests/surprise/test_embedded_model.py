"""The embedded world model as it ships: its file, its fingerprint, and that it knows some physics."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from seen_once import seen_once
from torch import Tensor

import simworld
from benchmarks.intuitive_physics.benchmark import View, untrained
from vjepa2 import VJEPA2, get_config, load_model
from vjepa2.files.checkpoint import WeightsInfo
from vjepa2.files.sources import EMBEDDED
from wmreward import SurpriseResult, compute_vjepa_surprise
from wmreward.scoring.cli import main
from wmreward.surprise.config import ScoreRule, SurpriseConfig
from wmreward.surprise.tokens import window_surprise

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")
RULES: tuple[ScoreRule, ...] = ("plain", "excess", "relative")


@pytest.fixture(scope="module")
def tiny() -> tuple[VJEPA2, WeightsInfo]:
    return load_model("tiny")


def test_file_is_small_enough_to_ship() -> None:
    assert 2**20 < EMBEDDED["tiny"].stat().st_size <= 12 * 2**20


def test_loads_by_default(tiny: tuple[VJEPA2, WeightsInfo]) -> None:
    model, info = tiny
    assert info.files == (str(EMBEDDED["tiny"]),) and "embedded" in info.source
    assert model.config == get_config("tiny")
    assert model.target_encoder is model.encoder
    for name, parameter in model.named_parameters():
        assert parameter.dtype == torch.float32 and not parameter.requires_grad
        assert parameter.isfinite().all() and parameter.std() > 0, name
    assert info.mask_token_norms[0] > 0.1  # near zero it was never trained


def stated_fingerprint(text: str) -> str:
    found = re.search(r"sha256.*?([0-9a-f]{64})", text)
    assert found, "no fingerprint is stated"
    return found[1]


def test_fingerprint_is_the_stated_one(
    tiny: tuple[VJEPA2, WeightsInfo], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--model", "tiny", "--weights_info"]) == 0
    printed = stated_fingerprint(capsys.readouterr().out)
    assert printed == tiny[1].sha256
    assert printed == stated_fingerprint((ROOT / "vjepa2" / "weights" / "README.md").read_text())


def test_published_results_are_of_these_weights(tiny: tuple[VJEPA2, WeightsInfo]) -> None:
    results = (ROOT / "benchmarks" / "results").glob("intuitive_physics_*.md")
    assert any(tiny[1].sha256 in result.read_text() for result in results)


@pytest.fixture(scope="module")
def once() -> Iterator[None]:
    """The three rules are of the same latents."""
    with seen_once():
        yield


# Differences, not ratios: the excess of a well predicted video is below zero.
@pytest.mark.usefixtures("once")
@pytest.mark.parametrize(
    ("score", "margin"), [("plain", 0.003), ("excess", 0.01), ("relative", 0.045)]
)
def test_impossible_video_is_clearly_more_surprising(score: ScoreRule, margin: float) -> None:
    values = []
    for which in ("possible", "impossible"):
        path = ROOT / "example" / f"balls_{which}.mp4"
        result = compute_vjepa_surprise(path, "tiny", stride=8, score=score)
        assert isinstance(result, SurpriseResult)
        values.append(float(result.score))
    assert values[1] > values[0] + margin


@pytest.mark.parametrize("kind", ["kick", "gravity_flip"])
def test_trained_model_is_right_more_often_than_an_untrained_one(
    tiny: tuple[VJEPA2, WeightsInfo], kind: str
) -> None:
    """One window of each video of four pairs, with the violation at the first predicted frame."""
    pairs = simworld.make_pairs(kind, 4, seed=11)
    frames = (pairs.violation_frame - 8)[:, None] + torch.arange(16)
    rows = torch.arange(4)[:, None]
    windows = torch.cat(
        [video.transpose(1, 2)[rows, frames] for video in View(CPU).videos(pairs, seed=11)]
    ).transpose(1, 2)

    def right(model: VJEPA2) -> Tensor:
        """Of four pairs, by each rule."""
        with torch.no_grad():
            latents = model.future_latents(model.preprocess(windows), 8)
        values = [window_surprise(latents, SurpriseConfig(score=rule))[0] for rule in RULES]
        return torch.stack([(v[4:] > v[:4]).sum() for v in values])

    trained, not_trained = right(tiny[0]), right(untrained("tiny", CPU))
    assert (trained >= 3).all()
    assert trained.sum() >= 11
    assert trained.sum() >= not_trained.sum() + 3
