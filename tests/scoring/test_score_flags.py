"""The flags: defaults, contradictions, and errors of one line before anything costly."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import cli_fixtures
import pytest
from cli_fixtures import Cli

import vjepa2.config
from wmreward.scoring.cli import main
from wmreward.scoring.flags import build_parser
from wmreward.surprise.config import SurpriseConfig
from wmreward.surprise.models import ModelChoice
from wmreward.surprise.sampling import Sampling
from wmreward.surprise.video_scorer import VideoScorer
from wmreward.video import ahead

cli = cli_fixtures.cli
videos = cli_fixtures.videos


def test_defaults_are_those_of_the_functions() -> None:
    defaults = build_parser().defaults
    for settings in (SurpriseConfig(), Sampling(), ModelChoice(name="vitg")):
        for name in settings.__dataclass_fields__:
            if name not in ("name", "context_grad"):  # the model's name is --model
                flag = {"mode": "aggregate"}.get(name, name)
                assert defaults[flag] == getattr(settings, name), name
    assert defaults["model"] == "vitg" and defaults["read_ahead"] == 2


def test_help_shows_every_flag_default_and_model(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--help-all"])
    text = " ".join(capsys.readouterr().out.split())
    assert stop.value.code == 0
    parser = build_parser()
    for name, default in parser.defaults.items():
        assert f"--{name}" in text
        if default not in (None, False):
            assert f"(default: {parser.flags[name].shown_default})" in text
    for model in vjepa2.config.MODELS:
        assert model in text


def test_dashes_serve_as_underscores(cli: Cli, videos: list[Path]) -> None:
    under = cli("--video_path", videos[0], "--window_size", 12, "--context_frames=4", "--json")
    dashed = cli("--video-path", videos[0], "--window-size", 12, "--context-frames=4", "--json")
    assert under.code == dashed.code == 0
    assert dashed.records[0]["surprise"] == under.records[0]["surprise"]
    assert dashed.records[0]["settings"]["context_frames"] == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "which videos?"),
        ("--video_path nowhere.mp4", "no such file or folder: nowhere.mp4"),
        ("--video_path {video} --frames 3", "--frames"),
        ("--video_path {video} --stride two", "--stride"),
        ("--video_path {video} --stride 0", "--stride must be a whole number from 1"),
        ("--video_path {video} --vid x", "--vid"),
        (
            "--video_path {video} --model vits",
            "package.module:factory, not 'vits'; did you mean vitl?",
        ),
        ("--video_path {video} --mode sum", "--aggregate must be mean, max"),
        ("--video_path {video} --similarity l2", "--similarity must be feature or token"),
        ("--video_path {video} --similarity token --score excess", "--similarity feature"),
        ("--video_path {video} --similarity token --map", "--map needs --similarity feature"),
        ("--video_path {video} --compat released --stride 2", "--stride 8, not 2"),
        ("--video_path {video} --compat released --similarity feature", "--similarity token"),
        ("--video_path {video} --compat released --target_encoder ema", "--target_encoder online"),
        ("--video_path {video} --compat released --fps 8", "--fps"),
        ("--video_path {video} --fps 8 --max_frames 30", "leave out one"),
        ("--video_path {video} --mask_token 100", "model tiny does not have it (it has 0"),
        ("--video_path {video} --mask_token 5 --model vitgac --actions a", "(it has none)"),
        ("--video_path tab.csv", "tab.csv is a table, not a video: wmreward select takes tables"),
        ("--video_path a.jsonl", "a .txt file with one on each line"),
        ("--video_path {video} --fps 0", "--fps must be a number above 0"),
        ("--video_path {video} --max_frames 10", "less than one window"),
        ("--video_path {video} --window_size 15", "--window_size 15 must be a multiple of 2"),
        ("--video_path {video} --context_frames 1", "--context_frames 1"),
        ("--video_path {video} --window_size 9 --context_frames 8", "--window_size 9"),
        ("--video_path {video} --decoder opencv", "opencv"),
        ("--video_path {video} --workers 0", "--read_ahead must be"),
        ("--video_path {video} --batch_size 0", "--batch_size must be"),
        ("--video_path {video} --device cuda:99", "cuda:99"),
        ("--video_path {video} --dtype int8", "int8"),
        ("--video_path {video} --output scores.txt", ".jsonl or .csv"),
        ("--video_path {video} --output in/c.mp4/x/s.jsonl", "c.mp4 is not a folder"),
        ("--video_path {video} --plot --out_dir in/c.mp4", "c.mp4 is not a folder"),
        ("--video_path {video} --actions robot.json", "takes no actions; use vitgac"),
        ("--video_path {video} --model vitgac", "--actions"),
        ("--video_path {video} --model vitgac --actions robot.json", "robot.json does not exist"),
        ("--video_path {video} --model vitgac --stride 2", "--stride"),
        ("--video_path {video} --model vitgac --fps 8", "--fps 4.0, not 8.0"),
        ("--video_path {video} --model vitgac --compat released", "--compat"),
    ],
)
def test_wrong_flags_end_at_once_with_one_line(
    cli: Cli, videos: list[Path], arguments: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wmreward.scoring.run.load", lambda choice: pytest.fail("weights loaded"))
    for name in ("tab.csv", "a.jsonl"):
        Path(name).touch()
    result = cli(*arguments.format(video=videos[0]).split())
    assert result.code == (1 if "not a folder" in message else 2)
    assert result.out == "" and result.err.count("\n") == 1
    assert message in result.err and "Traceback" not in result.err


def test_flags_without_effect_are_named(cli: Cli, videos: list[Path]) -> None:
    told = cli(videos[0], "--json", "--format", "csv", "--pictures", "pics").err
    assert "note: --format is without effect: --json prints no table" in told
    assert "note: --pictures is without effect: there is nothing to draw into it" in told
    assert "without effect" not in cli(videos[0], "--plot", "--pictures", "pics").err


def test_the_default_mask_token_may_be_named(cli: Cli, videos: list[Path]) -> None:
    assert cli(videos[0], "--mask_token", 1).code == 0


def test_plot_without_matplotlib_names_the_extra(
    cli: Cli, videos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = cli("--video_path", videos[0], "--plot")
    assert result.code == 2 and ".[plot]" in result.err


def test_debug_shows_the_traceback(cli: Cli, videos: list[Path]) -> None:
    assert "Traceback" in cli("--video_path", videos[0], "--model", "vits", "--debug").err


def test_unexpected_errors_are_one_line_too(
    cli: Cli, videos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise KeyError("a mistake\nof ours")

    monkeypatch.setattr(VideoScorer, "score_clips", broken)
    result = cli("--video_path", videos[0])
    assert result.code == 1 and result.err.count("\n") == 1 and "--debug" in result.err
    assert "in broken" in cli("--video_path", videos[0], "--debug").err


def test_weights_info(cli: Cli, tmp_path: Path) -> None:
    info = cli("--weights-info")
    assert info.code == 0 and "sha256" in info.out and "nano.safetensors" in info.out
    assert info.out == cli("--weights_info").out


def test_missing_weights_are_noticed_before_decoding(
    cli: Cli, videos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ahead, "Feed", lambda *_: pytest.fail("decoding began"))
    result = cli("--video_path", videos[0], weights=tmp_path / "none.safetensors")
    assert result.code == 1 and result.out == "" and result.err.count("\n") == 1
    assert "none.safetensors does not exist" in result.err
