"""Faults that `generate_magi1.py` finds before it computes, or blames on their cause; with a nano MAGI-1."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import generate_fixtures
import numpy as np
import pytest
import torch
from generate_fixtures import ROOT, T2V, CommandLine
from magi1_fakes import write_nano
from safetensors.torch import load_file, save_file
from video_fixtures import encode

from magi1.config import MagiConfig
from magi1.files.located import TINY_CONFIG, located
from magi1.pipeline import Pipeline
from wmreward.generation import flags
from wmreward.generation.batch.cli import main as batch
from wmreward.generation.configured import configuration
from wmreward.generation.flags import build_parser
from wmreward.video_io import probe

command = generate_fixtures.command

SHORT = (*T2V, "--num_steps", "4", "--num_frames", "24")
PARTS = {
    "dit": ("dit/model.safetensors", "transformer"),
    "vae": ("vae/diffusion_pytorch_model.safetensors", "VAE"),
    "t5": ("t5/model.safetensors", "text encoder"),
}


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nano")
    write_nano(folder)
    return folder


@pytest.fixture
def nano(original: Path, tmp_path: Path) -> Path:
    """A copy that may be damaged."""
    folder = tmp_path / "nano"
    shutil.copytree(original, folder)
    text = (folder / "nano.json").read_text().replace(str(original), str(folder))
    (folder / "nano.json").write_text(text)
    return folder


@pytest.fixture
def nothing_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("it began to compute")

    monkeypatch.setattr(Pipeline, "prepare", refuse)
    monkeypatch.setattr(Pipeline, "sample", refuse)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def lacking(file: Path) -> None:
    state = load_file(file)
    del state[max(state)]
    save_file(state, file)


def empty(file: Path) -> None:
    file.write_bytes(b"")


# --- headers of all parts -----------------------------------------------------------------------------


@pytest.mark.usefixtures("nothing_computed")
@pytest.mark.parametrize("damage", [cut, lacking, empty])
@pytest.mark.parametrize("part", PARTS)
def test_damaged_weights_are_found_before_anything_is_computed(
    part: str, damage: Callable[[Path], None], nano: Path, command: CommandLine
) -> None:
    file = nano / PARTS[part][0]
    damage(file)
    assert str(file) in command.fails(*SHORT, "--guidance_scale", "0", code=1)
    assert not list(Path().glob("*.mp4"))


@pytest.mark.usefixtures("nothing_computed")
@pytest.mark.parametrize("part", ["vae", "t5"])
@pytest.mark.parametrize("text", ["", "[]", "[" * 100_000, "\x00"])
def test_damaged_settings_of_parts(part: str, text: str, nano: Path, command: CommandLine) -> None:
    (nano / part / "config.json").write_text(text)
    got, out, err = command(*SHORT, "--guidance_scale", "0")
    assert got in (1, 2) and not out
    assert err.count("\n") == 1 and "config.json" in err and "unforeseen" not in err


def test_a_batch_finds_them_too(
    nano: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cut(nano / PARTS["vae"][0])
    (tmp_path / "list.jsonl").write_text('{"id": "a", "mode": "t2v", "prompt": "x"}\n')
    words = ["--jobs", str(tmp_path / "list.jsonl"), "--config_file", str(nano / "nano.json")]
    assert batch([*words, "--no_scores", "--run", str(tmp_path / "run")]) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and PARTS["vae"][0] in err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("text", ["[" * 100_000, '{"model_config": ' + "9" * 5000 + "}"])
def test_an_absurd_configuration(text: str, nano: Path, command: CommandLine) -> None:
    (nano / "nano.json").write_text(text)
    assert "absurd" in command.fails(*SHORT)


# --- numbers that are none ----------------------------------------------------------------------------


@pytest.mark.parametrize("part", PARTS)
def test_weights_that_are_no_numbers_are_named(part: str, nano: Path, command: CommandLine) -> None:
    """Else the video would be black."""
    file, name = PARTS[part]
    state = load_file(nano / file)
    key = next(key for key in sorted(state) if state[key].ndim > 1)
    state[key].view(-1)[1] = float("nan")
    if part == "t5":
        state["shared.weight"].fill_(float("inf"))
        key = "shared.weight"
    save_file(state, nano / file)
    code, _, err = command(*SHORT, "--guidance_scale", "0")
    last = err.strip().splitlines()[-1]
    assert code == 1 and last.startswith(f"error: {name}: the weights"), err
    assert f"damaged: {key} holds" in last and "1/4" not in err  # not even a first step
    assert not Path("output.mp4").exists()


def test_settings_that_are_too_strong_are_named(nano: Path, command: CommandLine) -> None:
    config = json.loads((nano / "nano.json").read_text())
    config["runtime_config"]["text_scales"] = [3e38] * 5
    (nano / "nano.json").write_text(json.dumps(config))
    got, _, err = command(*SHORT, "--guidance_scale", "0")
    assert got == 1, err
    last = err.strip().splitlines()[-1]
    assert "text_scales" in last and "the transformer's weights are in order" in last


# --- prompts ------------------------------------------------------------------------------------------

LONG = "a red ball on the left falls and bounces on the floor"


def test_a_prompt_that_is_cut_is_told_and_recorded(command: CommandLine) -> None:
    code, _, err = command(*SHORT[:3], LONG, *SHORT[4:], "--guidance_scale", "0")
    assert code == 0
    note = next(line for line in err.splitlines() if line.startswith("note: "))
    assert "reads 31 of its 53 bytes" in note and 'from "and bounces on the floor" on' in note
    (told,) = json.loads(Path("output.json").read_text())["prompt_cut"]
    assert told["unread"] == "and bounces on the floor" and told["prompt"] == LONG
    code, _, err = command(
        *SHORT[:3], LONG[:20], *SHORT[4:], "--overwrite", "--guidance_scale", "0"
    )
    assert code == 0 and "note" not in err
    assert "prompt_cut" not in json.loads(Path("output.json").read_text())


def test_prompts_of_a_list_that_are_cut(
    nano: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    jobs = [{"id": name, "mode": "t2v", "prompt": LONG} for name in ("a", "b")]
    (tmp_path / "list.jsonl").write_text("".join(json.dumps(job) + "\n" for job in jobs))
    words = ["--jobs", str(tmp_path / "list.jsonl"), "--config_file", str(nano / "nano.json")]
    words += [*SHORT[4:], "--no_scores", "--run", str(tmp_path / "run"), "--no_progress"]
    assert batch(words) == 0
    err = capsys.readouterr().err
    assert "job a: the prompt is cut" in err and "(2 such prompts in the list)" in err
    for line in (tmp_path / "run" / "manifest.jsonl").read_text().splitlines():
        assert json.loads(line)["prompt_cut"][0]["unread"] == "and bounces on the floor"


def test_a_prompt_that_is_no_text(command: CommandLine) -> None:
    assert "no UTF-8" in command.fails("--mode", "t2v", "--prompt", os.fsdecode(b"a \xff ball"))


# --- names --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("letter", ["y", "é"])
@pytest.mark.parametrize("length", [216, 240, 254])
def test_long_names(letter: str, length: int, command: CommandLine) -> None:
    stem = letter * ((length - 4) // len(letter.encode()))
    code, _, err = command(*SHORT, "--guidance_scale", "0", "--output_path", f"{stem}.mp4")
    assert code == 0, err
    assert probe(Path(f"{stem}.mp4")).width == 16
    assert sorted(Path().glob(".*")) == []


@pytest.mark.usefixtures("nothing_computed")
def test_names_that_do_not_fit_are_refused(command: CommandLine) -> None:
    message = command.fails(*SHORT, "--output_path", f"{'y' * 300}.mp4")
    assert "longer than" in message and len(message) < 300


# --- the small generator ------------------------------------------------------------------------------


def test_its_configuration_is_in_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that an installed command works in any folder; in a clone it lies beside the others, too."""
    monkeypatch.chdir(tmp_path)
    values = build_parser().defaults
    assert values["config_file"] == flags.TINY_CONFIG and not Path(flags.TINY_CONFIG).exists()
    assert configuration(values) == MagiConfig.load(located(TINY_CONFIG))
    assert located(TINY_CONFIG).is_relative_to(ROOT / "MAGI-1" / "magi1")
    assert (ROOT / flags.TINY_CONFIG).read_bytes() == located(TINY_CONFIG).read_bytes()
    assert '"configs/*.json"' in (ROOT / "pyproject.toml").read_text()


def test_half_precision_is_named_where_it_is_too_narrow() -> None:
    from magi1.files.blame import blamed

    model = torch.nn.Linear(2, 2).to(torch.bfloat16)
    assert "--dtype float32" in str(blamed("frames are no numbers", "VAE", model, ()))


# --- videos that are continued ------------------------------------------------------------------------


def test_doubts_about_a_given_video_are_told(
    nano: Path, command: CommandLine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (20, 48, 64, 3), dtype=np.uint8)
    times = [125 * index + 5000 * (index >= 10) for index in range(20)]
    encode(tmp_path / "gap.mkv", noise, pts=times, time_base=Fraction(1, 1000))
    flags = (
        "--init_video",
        "gap.mkv",
        "--prompt",
        "x",
        "--guidance_scale",
        "0",
        "--num_steps",
        "4",
    )
    code, _, err = command("--mode", "v2v", *flags, "--num_frames", "24", "--output", "o.mp4")
    told = "warning: gap.mkv: gaps between frames: 1 (up to 5.125 s); continued all the same"
    assert code == 0 and told in err.splitlines()
    assert json.loads(Path("o.json").read_text())["settings"]["given_faults"]["gaps"] == 1
    job = {"id": "a", "mode": "v2v", "prompt": "x", "init_video": "gap.mkv"}
    (tmp_path / "list.jsonl").write_text(json.dumps(job) + "\n")
    words = ["--jobs", "list.jsonl", "--config_file", str(nano / "nano.json"), "--num_steps", "4"]
    assert batch([*words, "--no_scores", "--run", "run"]) == 0
    assert "warning: a: " in capsys.readouterr().err
    assert json.loads(Path("run/manifest.jsonl").read_text())["given_faults"]["gaps"] == 1
