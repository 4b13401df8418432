"""World models that users bring along: as an object, by import path, and what records say of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cli_fixtures
import numpy as np
import pytest
import torch
from cli_fixtures import Cli, write_clip
from fakes import FakeGrid, LinearWorldModel
from torch import Tensor, nn

from example.my_world_model import StraightOn
from wmreward import (
    ModelChoice,
    SurpriseConfig,
    SurpriseScorer,
    UsageError,
    VideoScorer,
    compute_vjepa_surprise,
)
from wmreward.select.cli import main as select
from wmreward.surprise.models import load
from wmreward.surprise.models.own import made, on
from wmreward.video_io import read_uniform

ROOT = Path(__file__).parents[2]
PATH = "example.my_world_model:StraightOn"

cli = cli_fixtures.cli
videos = cli_fixtures.videos


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(ROOT))
    yield
    made.cache_clear()
    load.cache_clear()


def frames(count: int = 24) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 40, 56, 3), dtype=np.uint8)


class WithWeights(nn.Module):
    """Has something to be moved and to be hashed."""

    config = FakeGrid(crop=4)

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()), requires_grad=False)
        self.inner = LinearWorldModel(mixing=0.5)

    @property
    def device(self) -> torch.device:
        return self.scale.device

    def preprocess(self, video: Tensor) -> Tensor:
        return self.inner.preprocess(video[..., ::16, ::16] * self.scale)

    def future_latents(self, *args: Any, **settings: Any) -> Any:
        return self.inner.future_latents(*args, **settings)


def test_object_import_path_and_scorer_agree(tmp_path: Path) -> None:
    array = frames()
    video = torch.from_numpy(array).movedim(-1, 0)[None].float() / 127.5 - 1
    expected = SurpriseScorer(StraightOn(), SurpriseConfig(score="excess"))(video).item()
    for model in (StraightOn(), PATH, ModelChoice(name=PATH)):
        assert compute_vjepa_surprise(array, model, score="excess") == pytest.approx(expected)
    clip = write_clip(tmp_path / "a.mp4", 24)
    from_file = compute_vjepa_surprise(clip, StraightOn())
    with_frames = VideoScorer(StraightOn(), SurpriseConfig()).score_file(clip)
    decoded = read_uniform(clip, 49).frames
    assert from_file == with_frames == pytest.approx(compute_vjepa_surprise(decoded, StraightOn()))


def test_records_say_which_module_it_was_and_its_hash() -> None:
    source = hashlib.sha256((ROOT / "example" / "my_world_model.py").read_bytes()).hexdigest()
    for model, name in ((StraightOn(), "straight on"), (PATH, PATH)):
        settings = compute_vjepa_surprise(frames(), model).settings
        assert settings["model"] == name and settings["device"] == "cpu"
        assert settings["module"] == PATH and settings["module_sha256"] == source
        assert "weights_sha256" not in settings  # it is no module of PyTorch
        json.dumps(settings)


def test_weights_of_a_module_are_hashed() -> None:
    model = WithWeights()
    hashes = []
    for value in (1.0, 1.0, 0.5):
        model.scale.fill_(value)
        hashes.append(VideoScorer(model, SurpriseConfig()).settings["weights_sha256"])
    assert hashes[0] == hashes[1] != hashes[2]


def test_a_model_from_a_notebook_has_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LinearWorldModel, "__module__", "__notebook__")
    settings = VideoScorer(LinearWorldModel(), SurpriseConfig()).settings
    assert settings["module"] == "__notebook__:LinearWorldModel"
    assert "module_sha256" not in settings


def test_it_is_moved_where_it_is_to_run() -> None:
    meta = torch.device("meta")
    assert on(WithWeights(), meta).device == meta
    with pytest.raises(UsageError, match=r"stays on cpu instead of meta.*device='cpu'"):
        on(LinearWorldModel(), meta)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (object(), "is of type object, which lacks preprocess, future_latents, device, config"),
        (nn.Linear(2, 2), "is of type Linear, which lacks preprocess"),
        ("example.my_reward:Steady", "'example.my_reward:Steady' is of type Steady, which lacks"),
        ("example.nothing:Model", "world model 'example.nothing:Model' cannot be made: No module"),
        ("example.my_world_model:None", "has no attribute 'None'"),
        ("torch:randn", "cannot be made"),
    ],
)
def test_what_is_no_world_model(model: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        compute_vjepa_surprise(frames(), model)
    assert "wmreward.protocols" in str(caught.value) or "cannot be made" in str(caught.value)


def test_options_of_our_models_are_refused() -> None:
    for model, message in (
        (StraightOn(), "make your StraightOn so"),
        (ModelChoice(name="tiny"), "say it in the ModelChoice"),
        (PATH, "let its factory decide"),
    ):
        with pytest.raises(UsageError, match=f"weights='a.pt'.*{message}"):
            compute_vjepa_surprise(frames(), model, weights="a.pt")
    for model in (PATH, StraightOn()):
        with pytest.raises(UsageError, match=r"compat='released'.* your own"):
            compute_vjepa_surprise(frames(), model, compat="released")


def test_latents_of_the_wrong_shape_are_told() -> None:
    class Flat(StraightOn):
        def future_latents(self, *args: Any, **settings: Any) -> Any:
            latents = super().future_latents(*args, **settings)
            return latents._replace(predicted=latents.predicted.flatten(1, 2))

    with pytest.raises(UsageError, match=r"'straight on' must predict .* \[B, t, 64, D\] alike"):
        compute_vjepa_surprise(frames(), Flat())


@pytest.mark.parametrize("form", [tuple, dict, lambda latents: latents._replace(last_context=None)])
def test_latents_of_another_form_are_told(form: Any) -> None:
    class Loose(StraightOn):
        def future_latents(self, *args: Any, **settings: Any) -> Any:
            latents = super().future_latents(*args, **settings)
            return form(latents._asdict()) if form is dict else form(latents)

    message = r"'straight on': future_latents must return an object.* predicted, observed, last_context are"
    with pytest.raises(UsageError, match=message) as told:
        compute_vjepa_surprise(frames(), Loose())
    assert "wmreward.protocols.Latents" in str(told.value)


# --- a scorer


def test_a_scorer_by_name() -> None:
    video = torch.rand(1, 3, 16, 64, 64) * 2 - 1
    named = SurpriseScorer("tiny", SurpriseConfig(stride=8))
    exact = SurpriseScorer(load(ModelChoice(name="tiny")).model, SurpriseConfig(stride=8))
    assert torch.equal(named(video), exact(video))
    with pytest.raises(UsageError, match="unknown model 'smal'"):
        SurpriseScorer("smal")


@pytest.mark.parametrize(
    "video",
    [
        torch.zeros(3, 16, 8, 8),
        torch.zeros(1, 16, 3, 8, 8),
        torch.zeros(1, 3, 16, 8, 8, dtype=torch.uint8),
        np.zeros((1, 3, 16, 8, 8)),
        "clip.mp4",
    ],
)
def test_a_scorer_says_what_to_pass(video: Any) -> None:
    scorer = SurpriseScorer(StraightOn())
    for method in ("__call__", "score", "score_windows", "score_rules", "observed_latents"):
        with pytest.raises(UsageError, match=r"\[B, 3, T, H, W\] in \[-1, 1\].*video\[None\]"):
            getattr(scorer, method)(video)


# --- on the command line


def test_score_with_it(cli: Cli, videos: list[Path]) -> None:
    result = cli(videos[0], "--json", model=PATH, weights=None)
    assert result.code == 0, result.err
    (record,) = result.records
    assert record["surprise"] == pytest.approx(float(compute_vjepa_surprise(videos[0], PATH)))
    assert record["settings"]["model"] == record["settings"]["module"] == PATH
    told = cli("--weights_info", model=PATH, weights=None)
    assert told.code == 0 and record["settings"]["module_sha256"] in told.out


def test_flags_of_our_models_are_refused(cli: Cli, videos: list[Path]) -> None:
    for flags, message in (
        (("--dtype", "float32"), "--dtype float32 has no meaning for a model of your own"),
        (("--compat", "released"), f"model {PATH} is your own"),
    ):
        result = cli(videos[0], *flags, model=PATH, weights=None)
        assert result.code == 2 and message in result.err and result.err.count("\n") == 1
    result = cli(videos[0], "--window_size", 4, "--context_frames", 1, model=PATH, weights=None)
    assert result.code == 2 and "--context_frames 1 of --window_size 4" in result.err
    result = cli(videos[0], "--context_frames", 7, model=PATH, weights=None)
    assert result.code == 2 and "--context_frames 7 must be a multiple of 2" in result.err


def test_choose_with_it_and_records_change_with_its_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    source = (ROOT / "example" / "my_world_model.py").read_text()
    clips = [str(write_clip(tmp_path / f"{seed}.mp4", 24, seed=seed)) for seed in range(2)]
    found = []
    for version in ("mine_one", "mine_two"):
        Path(f"{version}.py").write_text(f"{source}\n# {version}\n")
        flags = ("--model", f"{version}:StraightOn", "--output", f"{version}.jsonl")
        assert select([*clips, *flags]) == 0, capsys.readouterr().err
        found.append(json.loads(Path(f"{version}.jsonl").read_text().splitlines()[0])["settings"])
    assert all(settings["module_sha256"] for settings in found)
    assert found[0]["module_sha256"] != found[1]["module_sha256"]
