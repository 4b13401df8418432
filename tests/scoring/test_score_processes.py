"""The command line as real processes: streams, signals, and two ranks under `torchrun`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from cli_fixtures import write_clip, write_weights
from processes import Started

from vjepa2 import get_config
from wmreward.scoring.cli import main

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "compute_wmreward.py"
SHORT_WINDOWS = ("--window_size", "4", "--context_frames", "2", "--stride", "4")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the real size of `tiny`, random."""
    return write_weights(tmp_path_factory.mktemp("w") / "tiny.safetensors", get_config("tiny"))


def test_two_runs_with_one_output(videos: list[Path], weights: Path, tmp_path: Path) -> None:
    """The second is refused while the first works, and no record is lost or written twice."""
    output = tmp_path / "s.jsonl"
    folders = [tmp_path / "one", tmp_path / "two"]
    runs = [started(folder, weights, videos, "--output", output) for folder in folders]
    ended = [run.end() for run in runs]
    for run in ended:
        assert run.code in (0, 2), run.err
        if run.code == 2:
            assert f"{output} is in use by process" in run.err and run.out == ""
    # One may have begun when the other had ended.
    assert 0 in [run.code for run in ended]
    records = [json.loads(line) for line in output.read_text().splitlines()]
    assert sorted(record["path"] for record in records) == [str(video) for video in videos]
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.fixture
def videos(tmp_path: Path) -> list[Path]:
    return [write_clip(tmp_path / f"{name}.mp4", 9, seed=i) for i, name in enumerate("abcde")]


def arguments(weights: Path, videos: list[Path], *flags: object) -> list[str]:
    model = ("--model", "tiny", "--weights", weights, *SHORT_WINDOWS)
    return [str(word) for word in ("--video_path", *videos, *model, *flags)]


def command(
    weights: Path, videos: list[Path], *flags: object, launcher: tuple[str, ...] = ()
) -> Any:
    """Arguments of `subprocess` for one run of the script."""
    environment = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE")}
    return {
        "args": [sys.executable, *launcher, str(SCRIPT), *arguments(weights, videos, *flags)],
        "text": True,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        "env": environment | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "error"},
        "cwd": videos[0].parent,
    }


def started(
    streams: Path, weights: Path, videos: list[Path], *flags: object, ranks: int = 1
) -> Started:
    """The same command, forked: without the seconds of an import of torch."""
    streams.mkdir()
    words = arguments(weights, videos, *flags)
    return Started("wmreward.scoring.cli", words, videos[0].parent, ranks=ranks, streams=streams)


def lines_of(path: Path) -> list[dict[str, Any]]:
    """The whole records in a file."""
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_stopped_run_goes_on_where_it_was(
    weights: Path,
    videos: list[Path],
    tmp_path: Path,
    how: signal.Signals,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = tmp_path / "scores.jsonl"
    endless = tmp_path / "endless.mp4"
    endless.touch()
    os.truncate(endless, 1 << 40)  # to read it takes an hour, as for a very long video
    flags = ("--output", output, "--workers", 1)
    run = started(tmp_path / "said", weights, [*videos[:2], endless, videos[2]], *flags)
    deadline = time.monotonic() + 60
    while len(lines_of(output)) < 2 and time.monotonic() < deadline and run.works:
        time.sleep(0.05)
    time.sleep(0.2)
    run.signal(how)
    ended = run.end(30)
    assert ended.out == ""
    if how is not signal.SIGKILL:
        assert ended.err == "interrupted; the same command goes on from here\n"
        assert ended.code == 128 + how
        assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]  # no lock
    before = output.read_text()
    assert len(lines_of(output)) == 2
    endless.unlink()
    write_clip(endless, 9, seed=8)
    assert main(arguments(weights, [*videos[:2], endless], *flags)) == 0
    assert "1 scored, 2 already scored" in capsys.readouterr().err
    assert output.read_text().startswith(before) and len(lines_of(output)) == 3


def test_results_alone_on_standard_output(
    weights: Path, videos: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"not a video")
    listed = [videos[0], tmp_path / "broken.mp4"]
    result = subprocess.run(**command(weights, listed, "--json", "--plot"), timeout=60)
    assert result.returncode == 1
    first, second = map(json.loads, result.stdout.splitlines())
    assert "surprise" in first and "error" in second
    assert "Traceback" not in result.stderr and "1 scored, 1 failed" in result.stderr


def test_reader_that_leaves_early_is_no_crash(weights: Path, videos: list[Path]) -> None:
    process = subprocess.Popen(**command(weights, videos, "--json"))
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=60) == 1
    assert err == ""


def test_two_ranks_share_the_videos(weights: Path, videos: list[Path], tmp_path: Path) -> None:
    output = tmp_path / "scores.jsonl"
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"not a video")
    listed = [videos[0], broken, *videos[1:]]
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")

    # Alone first: what the scores are, and a part that a killed run of eight ranks left behind.
    assert main(arguments(weights, videos, "--output", output)) == 0
    expected = lines_of(output)
    (tmp_path / "scores.jsonl.rank7").write_text(json.dumps(expected[2]) + '\n{"path": "tor')
    output.unlink()

    flags = ("--output", output)
    result = subprocess.run(**command(weights, listed, *flags, launcher=torchrun), timeout=120)
    assert result.returncode == 1
    table = result.stdout.splitlines()
    assert [line.split()[0] for line in table[1:7]] == [path.name for path in listed]
    assert len(table) == 9 and table[8].startswith("most plausible: ")
    assert "4 scored, 1 already scored, 1 failed" in result.stderr
    assert result.stderr.count("is not a video") == 1
    merged = lines_of(output)
    for one, other in zip(merged, expected, strict=True):
        assert one["path"] == other["path"] and one["settings_id"] == other["settings_id"]
        assert one["surprise"] == pytest.approx(other["surprise"], abs=1e-6)
    assert not list(tmp_path.glob("*.rank*"))

    broken.unlink()
    again = started(tmp_path / "again", weights, videos, *flags, "--json", ranks=2).end()
    assert again.code == 0 and "0 scored, 5 already scored" in again.err
    assert [json.loads(line) for line in again.out.splitlines()] == merged
    assert lines_of(output) == merged


def test_all_ranks_end_on_a_mistake(videos: list[Path], tmp_path: Path) -> None:
    missing = tmp_path / "none.safetensors"
    ended = started(tmp_path / "said", missing, videos, ranks=2).end()
    assert ended.code == 1 and ended.out == ""
    assert ended.err.count("none.safetensors does not exist") == 1
