"""One run at a time writes a video, whatever else is started beside it; with a nano MAGI-1."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import generate_fixtures
import pytest
import torch
from generate_fixtures import T2V, CommandLine
from magi1_fakes import write_nano

from magi1.pipeline import Pipeline
from wmfiles import Process
from wmreward.generation import planned, run
from wmreward.records.lock import Lock, Lost

command = generate_fixtures.command

PLAIN = ("--guidance_scale", "0", "--num_steps", "4", "--num_frames", "24", "--device", "cpu")


@pytest.fixture(scope="module")
def nano(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nano")
    write_nano(folder)
    return folder


@pytest.mark.parametrize("flags", [(), ("--best_of", "2", "--model", "tiny")])
def test_one_writer_at_a_time(
    command: CommandLine, monkeypatch: pytest.MonkeyPatch, flags: tuple[str, ...]
) -> None:
    lock = Lock.of(Path("ball.mp4"))
    lock.acquire([Process.this()])
    with monkeypatch.context() as patch:
        patch.setattr(Pipeline, "prepare", None)  # nothing is computed
        code, out, err = command(*T2V, *PLAIN, *flags, "--output", "ball.mp4")
    assert code == 2 and not out
    last = err.splitlines()[-1]
    assert last.startswith(f"error: ball.mp4 is in use by process {os.getpid()} on ")
    lock.release()
    assert not Path("ball.mp4").exists() and not list(Path().glob(".*"))


def test_a_video_that_another_run_has_just_written_is_kept(
    command: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ended between the look at the place and the lock."""

    def finished(device: str) -> torch.device:
        Path("ball.mp4").write_bytes(b"of another run")
        return torch.device(device)

    monkeypatch.setattr(run, "find_device", finished)
    error = command.fails(*T2V, *PLAIN, "--output", "ball.mp4")
    assert "ball.mp4 was just written by another run" in error
    assert Path("ball.mp4").read_bytes() == b"of another run" and not list(Path().glob(".*"))


def test_a_run_that_lost_its_place_writes_nothing(
    command: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(self: Lock) -> None:
        raise Lost("ball.mp4 is in use by somebody")

    monkeypatch.setattr(Lock, "check", lost)
    code, _, err = command(*T2V, *PLAIN, "--output", "ball.mp4")
    assert code == 2 and "ball.mp4 is in use by somebody" in err
    assert not list(Path().iterdir())


def test_a_plan_that_is_stopped_promises_nothing(
    command: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: Any) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(planned, "plan_table", stopped)
    assert command(*T2V, "--plan") == (130, "", "interrupted\n")


@pytest.mark.parametrize("flags", [(), ("--best_of", "2", "--reward", "run_rewards:bright")])
def test_who_is_stopped_leaves_no_lock(
    command: CommandLine, monkeypatch: pytest.MonkeyPatch, flags: tuple[str, ...]
) -> None:
    """By Ctrl-C, or by SIGTERM, which ends a command in the same way."""
    locks: list[Path] = []

    def stopped(self: Pipeline, layout: Any, seed: int) -> torch.Tensor:
        locks.extend(Path().rglob(".*.lock"))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Pipeline, "noise", stopped)
        code, out, err = command(*T2V, *PLAIN, *flags, "--output", "ball.mp4")
    assert code == 130 and not out
    said = "interrupted; the same command goes on from the last finished chunk, if any"
    assert err.splitlines()[-1] == said
    assert len(locks) == (2 if flags else 1) and not list(Path().rglob(".*"))
    assert command(*T2V, *PLAIN, *flags, "--output", "ball.mp4")[0] == 0
