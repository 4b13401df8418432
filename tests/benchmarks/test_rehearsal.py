"""The rehearsal in small: its files are those of the released layouts, and it times the real commands."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
import torch
from fakes import NANO

import magi1.text.t5_files
from benchmarks.rehearsal import benchmark, machine, phases
from benchmarks.rehearsal.benchmark import Ran, Rehearsal
from benchmarks.rehearsal.machine import checks
from benchmarks.rehearsal.weights import Stage, fill_hollow_files, random_value
from magi1.files.checkpoint import load_dit, load_vae
from magi1.text.features import PromptFeatures
from vjepa2 import MODELS, load_model
from vjepa2.files import sources
from wmweights import TensorSpec, read_state, safetensors_file

CPU = torch.device("cpu")


@pytest.fixture
def filling(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (safetensors_file, magi1.text.t5_files):
        monkeypatch.setattr(module, "read_tensors", safetensors_file.read_tensors)
    fill_hollow_files()


@pytest.fixture
def nano_is_a_world_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MODELS, "nano", NANO)
    monkeypatch.setitem(sources.OFFICIAL_FILES, "nano", "nano.pt")


@pytest.mark.parametrize("model", ["nano", "nano-fp8"])
def test_what_is_written_and_what_is_made_up_are_the_same(
    tmp_path: Path, model: str, filling: None, nano_is_a_world_model: None
) -> None:
    """And every loader takes it as it would take the released files."""
    loaded: list[list[torch.Tensor]] = []
    stages = [
        Stage(tmp_path / name, model, "nano", device)
        for name, device in (("written", CPU), ("hollow", None))
    ]
    for stage in stages:
        stage.write()
        dit, _ = load_dit(stage.config)
        vae, _ = load_vae(stage.config)
        world, _ = load_model("nano", weights=stage.checkpoints / "nano.pt")
        text = PromptFeatures(stage.config).features(["a ball"])
        tensors = [*dit.parameters(), *vae.parameters(), *world.parameters(), *text]
        assert all(torch.isfinite(x.float()).all() for x in tensors)
        loaded.append(tensors)
    assert all(torch.equal(a, b) for a, b in zip(*loaded, strict=True))
    written, hollow = (
        sum(file.stat().st_blocks * 512 for file in stage.root.rglob("*.safetensors"))
        for stage in stages
    )
    assert written > 2**20 > 4 * hollow
    assert sum(stages[1].bytes().values()) == 0 < sum(stages[0].bytes().values())


def test_a_file_that_is_not_hollow_is_read(tmp_path: Path, filling: None) -> None:
    state = {"a.weight": torch.arange(4.0)}
    safetensors_file.write_state(state, tmp_path / "x.safetensors")
    assert torch.equal(read_state(tmp_path / "x.safetensors")["a.weight"], state["a.weight"])
    assert not torch.equal(random_value("a", TensorSpec((2, 2), torch.float32)), torch.zeros(2, 2))


def test_what_the_machine_lacks_is_found_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stage = Stage(tmp_path / "new", "nano", "tiny", CPU)

    def lacking() -> list[str]:
        return [check.what for check in checks(stage, "cpu", 1, {}) if not check.ok]

    assert lacking() == []
    monkeypatch.setattr(machine, "available_memory", lambda: 1000)
    assert lacking() == ["host memory"]
    monkeypatch.setattr(Stage, "bytes", lambda _: {"transformer": 2**60})
    assert lacking() == [f"disk at {tmp_path / 'new'}", "host memory"]
    flags = ["--model", "nano", "--world_model", "tiny", "--device", "cpu", "--write"]
    assert benchmark.main([*flags, "--folder", str(tmp_path / "new")]) == 1
    assert not (tmp_path / "new").exists()
    assert "LACK" in capsys.readouterr().out


def test_commands_that_are_watched(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From end to end; guidance is left out, as its world model takes longest here."""
    flags = ["--model", "nano", "--world_model", "tiny", "--device", "cpu", "--steps", "4"]
    code = benchmark.main([*flags, "--parts", "plain", "--folder", str(tmp_path)])
    shown = capsys.readouterr()
    assert code == 0, shown.err
    result = json.loads(shown.out.splitlines()[-1])
    (plain,) = result["commands"]
    (rank,) = plain["ranks"]
    assert set(rank["seconds"]) == {
        *("imports", "checks", "weights", "text", "given frames", "step", "decode", "writing")
    }
    assert len(rank["steps"]) == 5 and rank["guided"] == []  # 4 steps of each of two chunks
    assert 0 < rank["first_step_at"] < rank["last_step_at"] < rank["total"] < plain["seconds"]
    assert 0 < plain["busy"] < 1 and f"sampling {plain['busy']:.1%} of the time" in shown.out
    assert sum(rank["seconds"].values()) < rank["total"] and rank["peak_host"] > 2**26
    assert result["full_run"]["plain"] > 4 * plain["step"]
    assert (tmp_path / "outputs" / "plain.mp4").exists()
    assert "plain: " in shown.out and "rank 0: imports" in shown.out


def test_a_command_that_fails_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = CompletedProcess([], 3, stderr="first line\nerror: too little of everything\n")
    monkeypatch.setattr(benchmark.subprocess, "run", lambda *_, **__: failed)
    flags = ["--model", "nano", "--world_model", "tiny", "--device", "cpu"]
    assert benchmark.main([*flags, "--parts", "plain", "--folder", str(tmp_path)]) == 1
    assert "error: plain: exit code 3\nfirst line\nerror: too l" in capsys.readouterr().err


def test_only_outermost_calls_count(tmp_path: Path) -> None:
    found = phases.Watched(0)

    class Guide:
        def __init__(self) -> None:
            self.records: list[int] = []

        def act(self, deep: Any) -> int:
            self.records.append(deep())
            return 7

    deep = phases._timed(lambda: 3, "step", found, 0.0)
    act = phases._timed(Guide.act, "guidance", found, 0.0)
    assert act(Guide(), deep) == 7 and deep() == 3
    assert len(found.steps) == len(found.guided) == 1
    phases._timed(lambda guide: None, "guidance", found, 0.0)(Guide())  # it does not act
    assert len(found.guided) == 1
    with pytest.raises(ZeroDivisionError):
        phases._timed(lambda: 1 / 0, "text", found, 0.0)()
    assert deep() == 3 and len(found.steps) == 2 and "text" in found.seconds


def test_a_full_run_is_extrapolated(tmp_path: Path) -> None:
    stage = Stage(tmp_path, "nano", "tiny", None)
    runtime = stage.config.runtime_config
    rehearsal = Rehearsal(stage, "cpu", 1, runtime.num_steps, runtime.num_frames)

    def ran(name: str, guided: list[float]) -> Ran:
        steps = [9.0] + [1.0] * (runtime.num_steps - 1)
        return Ran(name, 100.0, [{"steps": steps, "guided": guided}])

    rehearsal.ran = [ran("plain", [])]
    assert rehearsal.full_run() == {"plain": pytest.approx(runtime.num_steps)}  # without warming up
    chunks = benchmark._guided_chunks(stage.config)
    seconds = [50.0, *(2.0 * count for count in chunks[1:])]  # the first warms up
    rehearsal.ran.append(ran("guided", seconds))
    same = rehearsal.full_run()
    assert same["guided"] == pytest.approx(runtime.num_steps + 2 * sum(chunks))
    assert 0 < sum(chunks) <= 2 * runtime.num_steps
    longer = replace(runtime, num_frames=2 * runtime.num_frames)
    stage.config = replace(stage.config, runtime_config=longer)
    assert rehearsal.full_run()["plain"] > 1.5 * runtime.num_steps
    assert rehearsal.full_run()["guided"] > same["guided"] + 2
    assert rehearsal.ran[0].guided_step() is None and rehearsal.ran[1].guided_step() == 3.0
