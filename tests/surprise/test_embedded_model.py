"""The embedded world models as they ship: file, fingerprint, and that they know some physics."""

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
from vjepa2 import VJEPA2, WorldModel, get_config, load_model
from vjepa2.files.checkpoint import WeightsInfo
from vjepa2.files.sources import EMBEDDED
from wmreward import SurpriseResult, compute_vjepa_surprise
from wmreward.scoring.cli import main
from wmreward.surprise.config import ScoreRule, SurpriseConfig
from wmreward.surprise.tokens import window_surprise

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")
RULES: tuple[ScoreRule, ...] = ("plain", "excess", "relative")


Loaded = tuple[VJEPA2, WeightsInfo]


@pytest.fixture(scope="module", params=EMBEDDED)
def embedded(request: pytest.FixtureRequest) -> Loaded:
    return load_model(request.param)


@pytest.mark.parametrize(("name", "largest"), [("tiny", 12), ("referee", 2)])
def test_file_is_small_enough_to_ship(name: str, largest: int) -> None:
    assert 2**20 < EMBEDDED[name].stat().st_size <= largest * 2**20


def test_loads_by_default(embedded: Loaded) -> None:
    model, info = embedded
    name = model.config.name
    assert info.files == (str(EMBEDDED[name]),) and "embedded" in info.source
    assert model.config == get_config(name)
    assert model.target_encoder is model.encoder
    for parameter_name, parameter in model.named_parameters():
        assert parameter.dtype == torch.float32 and not parameter.requires_grad
        assert parameter.isfinite().all() and parameter.std() > 0, parameter_name
    assert info.mask_token_norms[0] > 0.1  # near zero it was never trained


def stated_fingerprint(text: str) -> str:
    found = re.search(r"sha256.*?([0-9a-f]{64})", text)
    assert found, "no fingerprint is stated"
    return found[1]


def test_fingerprint_is_the_stated_one(
    embedded: Loaded, capsys: pytest.CaptureFixture[str]
) -> None:
    model, info = embedded
    name = model.config.name
    assert main(["--model", name, "--weights_info"]) == 0
    printed = stated_fingerprint(capsys.readouterr().out)
    assert printed == info.sha256
    card = (ROOT / "vjepa2" / "weights" / "README.md").read_text()
    assert printed == stated_fingerprint(card.partition(f"# `{name}`: ")[2])


def test_published_results_are_of_these_weights(embedded: Loaded) -> None:
    results = (ROOT / "benchmarks" / "results").glob("intuitive_physics_*.md")
    assert any(embedded[1].sha256 in result.read_text() for result in results)


@pytest.fixture(scope="module")
def once() -> Iterator[None]:
    """The three rules are of the same latents."""
    with seen_once():
        yield


# Differences, not ratios: the excess of a well predicted video is below zero.
@pytest.mark.usefixtures("once")
@pytest.mark.parametrize(
    ("name", "score", "margin"),
    [
        ("tiny", "plain", 0.003),
        ("tiny", "excess", 0.01),
        ("tiny", "relative", 0.045),
        ("referee", "plain", 0.006),
        ("referee", "excess", 0.025),
        ("referee", "relative", 0.015),
    ],
)
def test_impossible_video_is_clearly_more_surprising(
    name: str, score: ScoreRule, margin: float
) -> None:
    values = []
    for which in ("possible", "impossible"):
        path = ROOT / "example" / f"balls_{which}.mp4"
        result = compute_vjepa_surprise(path, name, stride=8, score=score)
        assert isinstance(result, SurpriseResult)
        values.append(float(result.score))
    assert values[1] > values[0] + margin


def test_trained_models_are_right_more_often_than_untrained_ones() -> None:
    """One window of each video of four pairs, with the violation at the first predicted frame."""
    pairs = simworld.make_pairs("gravity_flip", 4, seed=11)
    frames = (pairs.violation_frame - 8)[:, None] + torch.arange(16)
    rows = torch.arange(4)[:, None]
    windows = torch.cat(
        [video.transpose(1, 2)[rows, frames] for video in View(CPU).videos(pairs, seed=11)]
    ).transpose(1, 2)

    def right(model: WorldModel) -> Tensor:
        """Of four pairs, by each rule."""
        assert isinstance(model, VJEPA2)
        with torch.no_grad():
            latents = model.future_latents(model.preprocess(windows), 8)
        values = [window_surprise(latents, SurpriseConfig(score=rule))[0] for rule in RULES]
        return torch.stack([(v[4:] > v[:4]).sum() for v in values])

    for name in EMBEDDED:
        trained, not_trained = right(load_model(name)[0]), right(untrained(name, CPU))
        assert (trained >= 3).all(), name
        assert trained.sum() >= 11, name
        assert trained.sum() >= not_trained.sum() + 3, name
