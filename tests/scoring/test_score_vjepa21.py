"""V-JEPA 2.1 through the command lines and from Python: found, scored, recorded, refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import cli_fixtures
import pytest
import torch
from cli_fixtures import Cli
from safetensors.torch import load_file
from vjepa21_goldens import COMMITTED21, FILE_B, FILE_G, SCORES

from vjepa2 import MODELS
from vjepa2.files import sources
from wmreward.errors import UsageError, WMRewardError
from wmreward.rewards.choice import RewardChoice
from wmreward.select.cli import build_parser
from wmreward.surprise.compute import compute_vjepa_surprise
from wmreward.surprise.models import ModelChoice

cli = cli_fixtures.cli
videos = cli_fixtures.videos

FILES = COMMITTED21 / "checkpoints"
B, G = sources.OFFICIAL_FILES["vitb21"], sources.OFFICIAL_FILES["vitG21"]
SHORT = ("--window_size", 6, "--context_frames", 2, "--stride", 8)


@pytest.fixture(autouse=True)
def checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli) -> Path:
    """The official files of small shape, in the places where they are looked for."""
    monkeypatch.setitem(MODELS, "vitb21", FILE_B)
    monkeypatch.setitem(MODELS, "vitG21", FILE_G)
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    for name in (B, G):
        shutil.copyfile(FILES / name, folder / name)
    return folder


def test_every_setting_is_recorded(cli: Cli, videos: list[Path]) -> None:
    flags = ("--video_path", videos[0], *SHORT, "--json")
    hashes, scores = set(), set()
    for model, changes, expected in (
        ("vitG21", (), {"levels": "last", "observed": "own", "positions": "rescaled"}),
        ("vitG21", ("--levels", "all"), {"levels": "all", "observed": "own"}),
        ("vitG21", ("--mask_token", 1), {"mask_token": 1}),
        ("vitG21", ("--crop", 64), {"crop": 64, "mask_token": 0}),
        ("vitG21", ("--positions", "hub"), {"positions": "hub"}),
        ("vitb21", (), {"observed": "teacher", "crop": 32, "context_encoder": "ema"}),
        ("vitb21", ("--observed", "student"), {"observed": "student"}),
        ("vitb21", ("--context_encoder", "online"), {"context_encoder": "online"}),
    ):
        result = cli(*flags, *changes, model=model, weights=None)
        assert result.code == 0, result.err
        (record,) = result.records
        settings = record["settings"]
        assert expected.items() <= settings.items()
        taught = settings["observed"] == "teacher"
        assert ("teacher_sha256" in settings) == taught
        assert ("note" in settings) == (settings["observed"] == "student")
        remarks = "mask token" in result.err and "norms of all" in result.err
        assert remarks and ("unverified" in result.err) == ("note" in settings)
        hashes.add(record["settings_id"])
        scores.add(record["surprise"])
    assert len(hashes) == len(scores) == 8


def test_table_has_the_settings(cli: Cli, videos: list[Path], tmp_path: Path) -> None:
    for _ in range(2):  # the second time nothing is scored again
        flags = ("--video_path", videos[0], *SHORT, "--output", "scores.csv")
        result = cli(*flags, model="vitb21", weights=None)
        assert result.code == 0, result.err
    header, row = (tmp_path / "scores.csv").read_text().splitlines()
    cells = dict(zip(header.split(","), row.split(","), strict=True))
    assert (cells["crop"], cells["positions"], cells["levels"]) == ("32", "rescaled", "last")
    assert cells["observed"] == "teacher" and len(cells["teacher_sha256"]) == 64


def test_weights_info_shows_norms_and_both_hashes(cli: Cli) -> None:
    result = cli("--weights_info", model="vitb21", weights=None)
    for shown in (B, G, "teacher sha256", "positions        rescaled", "observed         teacher"):
        assert shown in result.out
    assert result.out.count("sha256  ") >= 2 and "norms: " in result.out


def test_help_names_models_and_their_files() -> None:
    told = "".join(build_parser().format_help().split())  # as it wraps
    newer = {name: file for name, file in sources.OFFICIAL_FILES.items() if name.endswith("21")}
    assert len(newer) == 4
    for model, file in newer.items():
        assert model in told and file in told


@pytest.mark.parametrize(
    ("model", "flags", "message"),
    [
        ("vitG21", "--observed student", "only distilled models have a teacher"),
        ("vitb21", "--levels all", "predicts the last level only"),
        ("vitb21", "--observed own", "choose teacher or student"),
        ("vitb21", "--observed both", "must be own, teacher or student, not 'both'"),
        ("vitG21", "--positions cooked", "must be rescaled, hub or raw, not 'cooked'"),
        ("vitG21", "--levels all --similarity token", "--similarity feature"),
        ("vitG21", "--crop 40", "--crop 40 is not divisible by patch=16; 32 and 48 fit"),
        ("vitG21", "--crop 16", "--crop must be a whole number from 32"),
        ("vitG21", "--teacher_weights x.pt", "not compared with a teacher"),
        ("vitb21", "--observed student --teacher_weights x.pt", "not compared with a teacher"),
        ("vitG21", "--compat released", "V-JEPA 2; model vitG21 is 2.1"),
        ("tiny", "--crop 128", "--crop 128: model"),
        ("tiny", "--positions raw", "--positions is a choice of V-JEPA 2.1"),
    ],
)
def test_wrong_flags_end_at_once(
    cli: Cli,
    videos: list[Path],
    model: str,
    flags: str,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("wmreward.scoring.run.load", lambda choice: pytest.fail("weights loaded"))
    result = cli("--video_path", videos[0], *flags.split(), model=model, weights=None)
    assert result.code == 2 and result.out == "" and result.err.count("\n") == 1
    assert message in result.err


def test_missing_teacher_and_wrong_files_are_one_line(
    cli: Cli, videos: list[Path], checkpoints: Path
) -> None:
    def refused(*flags: object, model: str, weights: Path | None = None) -> str:
        result = cli("--video_path", videos[0], *SHORT, *flags, model=model, weights=weights)
        assert result.code == 1 and result.out == "" and result.err.count("\n") == 1
        return result.err

    assert "holds the weights of vitG21" in refused(model="vitb21", weights=checkpoints / G)
    assert "V-JEPA 2.1 weights" in refused(model="tiny", weights=checkpoints / B)
    whole = (checkpoints / G).read_bytes()
    (checkpoints / G).write_bytes(whole[: len(whole) // 2])
    for model in ("vitG21", "vitb21"):
        assert "download it again" in refused(model=model)
    (checkpoints / G).unlink()
    message = refused(model="vitb21")
    assert "teacher vitG21" in message and "observed=student" in message and G in message


def test_from_python() -> None:
    golden = load_file(FILES / "expected.safetensors")
    video = golden["video"].float()
    for how, key in (({}, "B.surprise"), ({"observed": "student"}, "B.surprise.student")):
        batch = compute_vjepa_surprise(
            video, "vitb21", 6, 2, value_range="-1,1", device="cpu", **how
        )
        torch.testing.assert_close(batch.scores, golden[key], rtol=0, atol=SCORES)
    video.requires_grad_()
    result = compute_vjepa_surprise(
        video[0], "vitb21", 6, 2, value_range="-1,1", observed="student", device="cpu"
    )
    result.score.backward()  # type: ignore[union-attr]
    assert video.grad is not None and video.grad.abs().max() > 0
    assert result.settings["note"].startswith("observed=student is ours")  # type: ignore[union-attr]
    for wrong in ({"observed": "student"}, {"crop": 40}, {"positions": "none"}):
        with pytest.raises(UsageError):
            compute_vjepa_surprise(video, "vitG21", value_range="-1,1", **wrong)


def reward_choice(*flags: str) -> RewardChoice:
    values = build_parser().read(("--device", "cpu", *flags))
    return RewardChoice.from_flags(values, default_model="tiny")


def test_rewards_take_the_same_flags(checkpoints: Path) -> None:
    window = ("--window_size", "6", "--context_frames", "2")
    video = load_file(FILES / "expected.safetensors")["video"].float()
    kinds = (
        ("--model", "vitb21"),
        ("--model", "vitb21", "--observed", "student"),
        ("--model", "vitG21", "--levels", "all"),
        ("--model", "vitG21", "--crop", "48", "--positions", "raw"),
    )
    choices = [reward_choice(*kind, *window) for kind in kinds]
    settings = [choice.settings() for choice in choices]
    assert ["teacher_weights" in s for s in settings] == [True, False, False, False]
    assert settings[3]["crop"] == 48 and settings[3]["positions"] == "raw"
    scores = [float(choice.load()(video).scores) for choice in choices]
    assert len(set(scores)) == 4
    expected = load_file(FILES / "expected.safetensors")
    assert -scores[0] == pytest.approx(float(expected["B.surprise"]), abs=SCORES)
    for path in checkpoints.glob("*.pt"):  # what was converted stands for them
        path.unlink()
    assert choices[0].settings().keys() == settings[0].keys()
    for path in checkpoints.glob(f"{G[:-3]}.*"):
        path.unlink()
    with pytest.raises(WMRewardError, match="teacher vitG21"):
        choices[0].check_weights()
    with pytest.raises(UsageError, match="similarity='feature'"):
        reward_choice(*kinds[2], "--similarity", "token")


def test_a_choice_is_the_models_own_unless_said_otherwise() -> None:
    for name, branch in (("tiny", "online"), ("vitG21", "ema")):
        branches = ModelChoice(name=name).branches
        assert (branches.context, branches.target) == (branch, branch)
    assert ModelChoice(name="tiny").read_as() == {}
