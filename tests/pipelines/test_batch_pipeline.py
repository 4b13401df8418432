"""`wmreward batch --pipeline`: a list of jobs with a tiny Wan, plain and guided, judged by a nano model."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import socket
from pathlib import Path
from typing import Any

import guided_fixtures
import pytest

pytest.importorskip("diffusers")

import pipeline_fixtures

from wmreward.batch.cli import main
from wmreward.pipelines.command.workshop import WorkingPipeline
from wmreward.report.cli import main as report

small_world = guided_fixtures.small_world
saved = pipeline_fixtures.saved

JOBS = (
    {"id": "ball", "mode": "t2v", "prompt": "a red ball rolls", "seeds": [1, 2]},
    {"id": "fall", "mode": "t2v", "prompt": "a ball falls", "negative_prompt": "red", "seeds": [1]},
)
PLAIN = ["ball.plain.1", "ball.plain.2", "fall.plain.1"]
ALL = sorted([*PLAIN, *(name.replace("plain", "guided") for name in PLAIN)])


class CommandLine:
    def __init__(self, saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.saved, self.capsys = saved, capsys
        self.write(*JOBS)

    def write(self, *jobs: Any) -> None:
        Path("list.jsonl").write_text("".join(json.dumps(job) + "\n" for job in jobs))

    def __call__(self, *flags: str) -> tuple[int, str, str]:
        """Exit code, standard output, standard error."""
        self.capsys.readouterr()
        code = main(
            [
                *("--jobs", "list.jsonl", "--run", "run", "--no_progress", "--device", "cpu"),
                *("--pipeline", str(self.saved / "wan"), "--num_frames", "9", "--num_steps", "3"),
                *("--video_size_h", "32", "--video_size_w", "32", "--model", "tiny"),
                *("--weights", str(self.saved / "world.safetensors")),
                *("--window_size", "8", "--context_frames", "4", *flags),
            ]
        )
        shown = self.capsys.readouterr()
        return code, shown.out, shown.err

    def fails(self, *flags: str, code: int = 2) -> str:
        """The one line of an error."""
        got, out, err = self(*flags)
        lines = [line for line in err.strip().splitlines() if line]
        assert got == code and out == "" and len(lines) == 1, err
        return lines[0].removeprefix("error: ")

    @property
    def records(self) -> dict[str, Any]:
        """The manifest, by candidate."""
        lines = Path("run/manifest.jsonl").read_text().splitlines()
        records = map(json.loads, lines)
        return {Path(record["path"]).name: record for record in records}


@pytest.fixture
def command(
    saved: Path,
    small_world: None,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> CommandLine:
    monkeypatch.chdir(tmp_path)
    return CommandLine(saved, capsys)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, bool]]:
    """Prompt and seed of the videos that are made, and whether they are guided."""
    found: list[tuple[str, int, bool]] = []
    plain = WorkingPipeline.make

    def noted(self: Any, request: Any, seed: int, *rest: Any) -> Any:
        found.append((request.prompt, seed, rest[1] is not None))
        return plain(self, request, seed, *rest)

    monkeypatch.setattr(WorkingPipeline, "make", noted)
    return found


BOTH = ("--variants", "plain", "guided", "--guidance_scale", "0.1")


def test_a_list_is_made_judged_told_of_and_gone_on_with(
    command: CommandLine, made: list[tuple[str, int, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped, as SLURM does it, at the second candidate, which is finished; the same command makes the rest,
    and then nothing any more.
    """
    video = WorkingPipeline._video

    def stopped(self: Any, request: Any, seed: int) -> Any:
        if len(made) == 2:
            signal.raise_signal(signal.SIGTERM)
        return video(self, request, seed)

    monkeypatch.setattr(WorkingPipeline, "_video", stopped)
    assert command(*BOTH)[0] == 143
    assert len(list(Path("run/candidates").iterdir())) == 2
    monkeypatch.setattr(WorkingPipeline, "_video", video)
    code, _, err = command(*BOTH)
    assert code == 0 and "4 made, 2 there before, 0 failed, 0 left" in err
    assert len(made) == len(set(made)) == 6
    records = command.records
    assert sorted(records) == ALL
    for name in PLAIN:
        plain, guided = records[name], records[name.replace("plain", "guided")]
        assert plain["frames"] == 9 and plain["size"] == [32, 32] and plain["fps"] == 16
        assert len(plain["per_window"]) > 0 and plain["score"] == plain["scores"]["surprise"]
        assert "guidance" not in plain and guided["guidance"]["effect"]["steps"] > 0
        assert plain["files"]["video.mp4"] != guided["files"]["video.mp4"]
    settings = json.loads(Path("run/run.json").read_text())["settings"]
    assert settings["pipeline"]["class"] == "WanPipeline" and "judged_by" in settings
    assert main(["status", "run"]) == 0 and report(["run", "--no_maps"]) == 0
    assert command(*BOTH)[0] == 0 and len(made) == 6
    assert "was made with other settings" in command.fails(*BOTH, "--num_steps", "4")


def _process(rank: int, port: int, flags: tuple[str, ...], command: CommandLine, met: Any) -> None:
    """One of two, as `torchrun` starts them, but with everything imported; both have drawn before one goes
    on.
    """
    make, waiting = WorkingPipeline.make, [met]

    def together(self: Any, *rest: Any) -> Any:
        if waiting:
            waiting.pop().wait(60)
        return make(self, *rest)

    WorkingPipeline.make = together  # type: ignore[method-assign, assignment]
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    raise SystemExit(command(*flags)[0])


def test_two_processes_share_a_list(command: CommandLine) -> None:
    """Each makes videos of its own, judged, and they are those that one process makes."""
    one_each = (*BOTH, "--max_seeds", "1")
    assert command(*one_each)[0] == 0
    alone = {name: record["files"]["video.mp4"] for name, record in command.records.items()}
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    several = multiprocessing.get_context("fork")
    flags, met = (*one_each, "--run", "shared"), several.Barrier(2)
    team = [
        several.Process(target=_process, args=(rank, port, flags, command, met)) for rank in (0, 1)
    ]
    for process in team:
        process.start()
    for process in team:
        process.join(60)
    assert [process.exitcode for process in team] == [0, 0]
    lines = Path("shared/manifest.jsonl").read_text().splitlines()
    records = {Path(record["path"]).name: record for record in map(json.loads, lines)}
    assert {name: record["files"]["video.mp4"] for name, record in records.items()} == alone
    assert {record["rank"] for record in records.values()} == {0, 1}
    assert all(record["scores"] for record in records.values())
    assert not list(Path("shared/.locks").iterdir())


def test_a_share_makes_its_part(command: CommandLine, made: list[tuple[str, int, bool]]) -> None:
    for share in ("1/2", "2/2"):
        assert command("--share", share, "--no_scores")[0] == 0
    assert (
        len(made) == 3 and sorted(path.name for path in Path("run/candidates").iterdir()) == PLAIN
    )
    assert not any(guided for *_, guided in made)


def test_a_video_is_the_one_that_generate_makes(command: CommandLine) -> None:
    """The same prompt and seed, guided alike."""
    from wmreward.generation.cli import main as generate

    flags = ("--max_seeds", "1", "--no_scores", "--guidance_scale", "0.1")
    assert command(*flags)[0] == 0
    own = [
        *("--pipeline", str(command.saved / "wan"), "--device", "cpu", "--num_frames", "9"),
        *("--num_steps", "3", "--video_size_h", "32", "--video_size_w", "32", "--model", "tiny"),
        *("--weights", str(command.saved / "world.safetensors"), "--window_size", "8"),
        *("--context_frames", "4", "--guidance_scale", "0.1", "--seed", "1"),
    ]
    prompts = ("--prompt", "a ball falls", "--negative_prompt", "red")
    assert generate([*own, *prompts]) == 0
    batch = Path("run/candidates/fall.guided.1/video.mp4").read_bytes()
    assert Path("output.mp4").read_bytes() == batch


def test_a_candidate_that_fails_is_told(
    command: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others are made."""
    video = WorkingPipeline._video

    def broken(self: Any, request: Any, seed: int) -> Any:
        if seed == 2:
            raise MemoryError("no room")
        return video(self, request, seed)

    monkeypatch.setattr(WorkingPipeline, "_video", broken)
    code, _, err = command("--no_scores")
    assert code == 1 and "2 made, 0 there before, 1 failed" in err
    assert main(["status", "run"]) == 1


def test_the_plan_of_a_list(command: CommandLine, made: list[tuple[str, int, bool]]) -> None:
    code, out, _ = command("--dry_run", "--processes", "3")
    assert code == 0 and not made and not Path("run").exists()
    assert "WanPipeline" in out and "3 (plain)" in out and "3 videos at a time" in out


def test_what_cannot_be_is_refused(command: CommandLine) -> None:
    assert "--cp_size has no meaning with --pipeline" in command.fails("--cp_size", "2")
    assert "--variants guided needs a --guidance_scale" in command.fails("--variants", "guided")
    assert "the reward needs 16" in command.fails("--window_size", "16")
    command.write({"id": "a", "mode": "v2v", "prompt": "a", "init_video": "a.mp4"})
    assert "job a has mode v2v, but WanPipeline makes videos from text alone" in command.fails()
