"""Runs of many candidates: dealt out, retried, interrupted in every way, and gone on with."""

from __future__ import annotations

import errno
import io
import json
import os
import signal
import socket
import time
from collections import Counter
from collections.abc import Iterator
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any

import batch_worker
import pytest
import torch
from batch_worker import content_of
from processes import server
from safetensors import SafetensorError

from benchmarks import bench_batch
from wmfiles import Process
from wmreward.batch.candidates import candidates_of
from wmreward.batch.cli import main as batch_main
from wmreward.batch.folder import RunFolder, differences
from wmreward.batch.lock import RunLock
from wmreward.batch.processes import stopping
from wmreward.batch.processes.share import Share
from wmreward.batch.records import read_records
from wmreward.batch.trouble import disk_trouble
from wmreward.errors import UsageError, WMRewardError
from wmreward.prompts.jobs import read_jobs
from wmreward.records.lock import InUse
from wmweights import safetensors_file, write_state

ROOT = Path(__file__).parents[2]
ALL = [f"{job}.plain.{seed}" for job in "abcdef" for seed in (0, 1)]


def write_list(path: Path, jobs: str = "abcdef", seeds: tuple[int, ...] = (0, 1)) -> Path:
    """Jobs of growing cost: "f" is the longest."""
    lines = [
        {"id": job, "mode": "t2v", "prompt": "x" * (number + 1), "seeds": list(seeds)}
        for number, job in enumerate(jobs)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


class Run:
    """A run in a folder, by one process here or by several."""

    def __init__(self, folder: Path, context: ForkServerContext) -> None:
        self.path, self.list = folder / "run", write_list(folder / "list.jsonl")
        self.context = context
        self.processes: list[ForkServerProcess] = []

    # --- running ----------------------------------------------------------------------------------------

    def here(self, **settings: Any) -> int:
        """One process, this one."""
        return batch_worker.main(self.path, self.list, settings)

    def start(self, count: int, *, restarts: int = 0, **settings: Any) -> None:
        """Several processes, as torchrun starts them."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        for rank in range(count):
            environment = {
                "RANK": str(rank),
                "WORLD_SIZE": str(count),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
                "TORCHELASTIC_RESTART_COUNT": str(restarts),
            }
            process = self.context.Process(
                target=batch_worker.process, args=(environment, self.path, self.list, settings)
            )
            process.start()
            self.processes.append(process)

    def wait(self) -> list[int | None]:
        """Until all have ended; returns their exit codes."""
        deadline = time.monotonic() + 60
        for process in self.processes:
            process.join(max(0, deadline - time.monotonic()))
        codes = [process.exitcode for process in self.processes]
        self.kill()
        self.processes.clear()
        return codes

    def kill(self, how: signal.Signals = signal.SIGKILL) -> None:
        for process in self.processes:
            if process.is_alive() and process.pid is not None:
                os.kill(process.pid, how)

    def until(self, *, made: int = 0, attempts: int = 0) -> None:
        """Wait for progress."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            if len(self.made()) >= made and sum(self.attempts().values()) >= attempts:
                return
            time.sleep(0.01)
        raise AssertionError(f"no progress: {self.made()}, {self.attempts()}, {self.errors()}")

    # --- what there is ----------------------------------------------------------------------------------

    def made(self) -> list[str]:
        folder = self.path / "candidates"
        return sorted(path.name for path in folder.iterdir()) if folder.exists() else []

    def log(self) -> list[list[str]]:
        """Candidate and process of each attempt."""
        log = self.path.with_name("attempts.log")
        return [line.split() for line in log.read_text().splitlines()] if log.exists() else []

    def attempts(self) -> Counter[str]:
        return Counter(name for name, _ in self.log())

    def errors(self) -> str:
        log = self.path.with_name("errors.log")
        return log.read_text() if log.exists() else ""

    def assert_complete(self, names: list[str] = ALL) -> None:
        """Every candidate is there once, whole, and recorded; nothing else is left."""
        assert self.made() == sorted(names)
        for candidate in candidates_of(read_jobs(self.list), ["plain"]):
            folder = self.path / "candidates" / candidate.name
            if candidate.name in names:
                assert sorted(path.name for path in folder.iterdir()) == [
                    "record.json",
                    "video.mp4",
                ]
                assert (folder / "video.mp4").read_bytes() == content_of(candidate)
        text = (self.path / "manifest.jsonl").read_text()
        lines = [json.loads(line) for line in text.splitlines()]
        made = [line["path"] for line in lines if "error" not in line]
        assert sorted(made) == [f"candidates/{name}" for name in sorted(names)]
        assert all(line["score"] == 0.5 and line["host"] for line in lines if "error" not in line)
        assert not list(self.path.glob("*.rank*"))
        assert not (self.path / ".work").exists()
        assert not list((self.path / ".locks").iterdir())


@pytest.fixture(scope="module")
def context() -> ForkServerContext:
    """Processes that have imported torch already."""
    return server()


@pytest.fixture
def run(tmp_path: Path, context: ForkServerContext) -> Iterator[Run]:
    run = Run(tmp_path, context)
    yield run
    run.kill()


# --- one process --------------------------------------------------------------------------------------


def test_makes_all_once_and_the_longest_first(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run.here() == 0
    run.assert_complete()
    assert [name for name, _ in run.log()] == [
        f"{job}.plain.{seed}" for job in "fedcba" for seed in (0, 1)
    ]
    assert "12 made, 0 there before, 0 failed, 0 left" in capsys.readouterr().err
    assert run.here() == 0
    assert max(run.attempts().values()) == 1
    assert "0 made, 12 there before" in capsys.readouterr().err


def test_a_failure_is_retried_recorded_and_left_behind(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run.here(fail=["c.plain.1"], fail_once=["e.plain.0"]) == 1
    others = [name for name in ALL if name != "c.plain.1"]
    run.assert_complete(others)
    assert run.attempts()["c.plain.1"] == run.attempts()["e.plain.0"] == 2
    failures = read_records(run.path).failed["c.plain.1"]
    assert [failure["attempt"] for failure in failures] == [1, 2]
    assert failures[1]["error"].startswith("cannot make c.plain.1 (unforeseen, batch_worker.py")
    assert "batch_worker.py" in failures[1]["traceback"]
    assert "1 failed" in capsys.readouterr().err
    assert batch_main(["status", str(run.path)]) == 1
    assert "failed: c.plain.1: cannot make c.plain.1" in capsys.readouterr().out
    assert run.here() == 0  # a new launch tries again
    run.assert_complete()
    assert run.attempts()["c.plain.1"] == 3


def test_a_full_disk_stops_with_one_line(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run.here(full=["d.plain.0"]) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("error: ") and "the disk is full" in line and "start again" in line
    assert "d.plain.0" not in run.made() and len(run.made()) == 4
    assert not read_records(run.path).failed
    assert run.here() == 0
    run.assert_complete()


def test_a_disk_that_is_full_for_weights_files_stops_too(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The library that writes states tells the error of the disk in words only."""
    make = batch_worker.Writer.__call__

    def full(*_: Any, **__: Any) -> None:
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    def makes(self: batch_worker.Writer, candidate: Any, folder: Path) -> dict[str, Any]:
        facts = make(self, candidate, folder)
        if candidate.name == "d.plain.0":
            try:
                write_state({"latents": torch.zeros(1)}, folder / ".state.safetensors")
            except OSError as error:  # as generation does
                raise WMRewardError(f"cannot write: {error.strerror}") from error
        return facts

    with monkeypatch.context() as patch:
        patch.setattr(batch_worker.Writer, "__call__", makes)
        patch.setattr(safetensors_file, "save_file", full)
        assert run.here() == 1
    assert "the disk is full" in capsys.readouterr().err.splitlines()[-1]
    assert run.attempts()["d.plain.0"] == 1 and not read_records(run.path).failed
    assert run.here() == 0
    run.assert_complete()


@pytest.mark.parametrize("step", ["manifest", "rename"])
@pytest.mark.parametrize(
    "number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.ESTALE]
)
def test_a_disk_that_fails_while_a_candidate_is_finished(
    run: Run, step: str, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from wmreward.batch import folder

    def fails(*_: Any) -> None:
        if len(run.made()) >= 3:
            raise OSError(number, os.strerror(number), "somewhere")

    with monkeypatch.context() as patch:
        if step == "rename":
            patch.setattr(folder, "flush_to_disk", fails)
        else:
            append = folder.RecordFile.append
            patch.setattr(
                folder.RecordFile, "append", lambda file, record: (fails(), append(file, record))
            )
        assert run.here() == 1
    assert len(run.made()) in (3, 4)
    assert run.here() == 0
    run.assert_complete()
    assert sum(run.attempts().values()) <= len(ALL) + 1


def test_what_was_finished_but_not_recorded_is_kept(run: Run) -> None:
    assert run.here() == 0
    manifest = run.path / "manifest.jsonl"
    lines = manifest.read_text().splitlines(keepends=True)
    manifest.write_text("".join(lines[:5]) + lines[5][:40])  # torn, and the rest lost
    assert run.here() == 0
    run.assert_complete()
    assert max(run.attempts().values()) == 1


def test_what_was_deleted_is_made_again(run: Run) -> None:
    assert run.here() == 0
    for file in (run.path / "candidates" / "b.plain.0").iterdir():
        file.unlink()
    (run.path / "candidates" / "b.plain.0").rmdir()
    assert run.here() == 0
    run.assert_complete()
    assert run.attempts() == Counter([*ALL, "b.plain.0"])


def test_a_foreign_folder_among_candidates_is_made_anew(run: Run) -> None:
    stray = run.path / "candidates" / "a.plain.0"
    assert run.here() == 0
    (run.path / "manifest.jsonl").unlink()
    (stray / "record.json").write_text('{"path": "candidates/a.plain.0", "settings_id": "other"}')
    assert run.here() == 0
    run.assert_complete()


# --- what a run may become ----------------------------------------------------------------------------


def test_other_settings_are_explained(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run.here() == 0
    assert run.here(steps=16) == 2
    assert "was made with other settings: steps 8 → 16;" in capsys.readouterr().err
    one, other = {"a": {"b": 1, "c": (1, 2)}, "d": "x"}, {"a": {"b": 2, "c": [1, 2]}, "e": None}
    assert differences(one, other) == 'a.b 1 → 2, d "x" → null'
    assert (
        RunFolder.named(run.path, "l", {"a": 1}).path
        != RunFolder.named(run.path, "l", {"a": 2}).path
    )


def test_a_run_grows_by_seeds_and_jobs(run: Run) -> None:
    assert run.here() == 0
    write_list(run.list, "abcdefg", seeds=(0, 1, 2))
    assert run.here() == 0
    run.assert_complete([f"{job}.plain.{seed}" for job in "abcdefg" for seed in (0, 1, 2)])
    assert max(run.attempts().values()) == 1
    write_list(run.list, "ab", seeds=(1,))
    assert run.here() == 0
    assert len(RunFolder(run.path, {}).jobs()) == 7  # none is forgotten


def test_a_job_that_became_another_is_refused(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run.here() == 0
    run.list.write_text(run.list.read_text().replace('"xx"', '"a red ball"'))
    assert run.here() == 2
    assert 'job b was something else: prompt "xx" → "a red ball"' in capsys.readouterr().err


def test_a_folder_of_something_else_is_refused(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    run.path.mkdir()
    (run.path / "thesis.txt").write_text("important")
    assert run.here() == 2
    assert "holds no run" in capsys.readouterr().err
    (run.path / "candidates").mkdir()
    assert run.here() == 2
    assert "no run.json that says how they were made" in capsys.readouterr().err
    assert batch_main(["status", str(run.path)]) == 2


def test_shares_work_on_their_own_and_are_merged_in_the_end(run: Run) -> None:
    assert run.here(share="1/2") == 0
    assert run.made() == sorted(f"{job}.plain.0" for job in "abcdef")
    assert run.here(share="2/2") == 0
    assert len(list(run.path.glob("manifest.*-of-2.jsonl"))) == 2
    assert len(read_records(run.path).made) == len(ALL)
    assert run.here() == 0
    run.assert_complete()
    assert max(run.attempts().values()) == 1 and not list(run.path.glob("manifest.*-of-2.jsonl"))


def test_shares() -> None:
    assert [Share(k, 3).deal(range(7)) for k in (1, 2, 3)] == [[0, 3, 6], [1, 4], [2, 5]]
    assert Share(1, 2).overlaps(Share()) and Share(1, 2).overlaps(Share(1, 2))
    assert not Share(1, 2).overlaps(Share(2, 2))
    for text in ("0/2", "3/2", "x", "1/0"):
        with pytest.raises(UsageError, match="share"):
            Share.parse(text)


# --- several processes --------------------------------------------------------------------------------


def test_four_processes_draw_from_one_list(run: Run) -> None:
    run.start(4, seconds=0.02, fail_once=["b.plain.1"])
    assert run.wait() == [0] * 4
    run.assert_complete()
    assert run.attempts() == Counter([*ALL, "b.plain.1"])
    # The longest first; a process that starts late may find them drawn.
    assert not {name[0] for name, _ in run.log()[:4]} & {"a", "b"}
    tries = [rank for name, rank in run.log() if name == "b.plain.1"]
    assert tries[0] != tries[1]  # another process


def test_groups_make_each_candidate_together(run: Run) -> None:
    run.start(4, size=2, seconds=0.01, fail=["c.plain.0"])
    assert run.wait() == [1, 0, 0, 0]
    run.assert_complete([name for name in ALL if name != "c.plain.0"])
    assert set(run.attempts().values()) == {2, 4}
    for name in ALL:
        ranks = [int(rank) for found, rank in run.log() if found == name]
        pairs = {tuple(sorted(ranks[i : i + 2])) for i in range(0, len(ranks), 2)}
        assert pairs <= {(0, 1), (2, 3)}
    of_failed = [int(rank) // 2 for found, rank in run.log() if found == "c.plain.0"]
    assert Counter(of_failed) == {0: 2, 1: 2}  # each group once


def test_a_killed_process_loses_its_candidate_only(run: Run) -> None:
    """What torchrun does: it ends the others and starts all again."""
    run.start(3, seconds=0.02, grace=1, kill_once=["c.plain.0"])
    run.until(attempts=7)
    deadline = time.monotonic() + 20
    while all(process.is_alive() for process in run.processes) and time.monotonic() < deadline:
        time.sleep(0.01)
    run.kill(signal.SIGTERM)
    assert sorted(code or 0 for code in run.wait())[0] == -signal.SIGKILL
    run.start(3, restarts=1)
    assert run.wait() == [0] * 3
    run.assert_complete()
    assert run.attempts() == Counter([*ALL, "c.plain.0"])


def test_a_candidate_that_kills_its_process_every_time_is_given_up(run: Run) -> None:
    for restarts in range(3):
        run.start(1, restarts=restarts, kill=["e.plain.1"])
        code = run.wait()
    assert code == [1]
    assert [f["error"] for f in read_records(run.path).failed["e.plain.1"]] == [
        "its process died"
    ] * 2
    assert run.attempts()["e.plain.1"] == 2 and len(run.made()) == len(ALL) - 1


def test_all_processes_killed(run: Run) -> None:
    run.start(4, seconds=0.05)
    run.until(made=4)
    run.kill()
    assert run.wait() == [-signal.SIGKILL] * 4
    made = run.made()
    assert 4 <= len(made) < len(ALL)
    assert run.here() == 0
    run.assert_complete()
    assert all(run.attempts()[name] == 1 for name in made)


def test_after_sigterm_what_is_being_made_is_finished(run: Run) -> None:
    run.start(2, seconds=0.3)
    run.until(attempts=2)
    run.kill(signal.SIGTERM)
    assert run.wait() == [128 + signal.SIGTERM] * 2
    assert run.made() == ["f.plain.0", "f.plain.1"]
    assert "the same command goes on from here" in run.errors()
    assert not list((run.path / ".locks").iterdir())
    assert run.here() == 0
    run.assert_complete()
    assert max(run.attempts().values()) == 1


def test_a_process_leaves_in_time_though_nobody_can_be_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stopping, "_CLEANUP_S", 60.0)  # what is slow must not end the tests
    closed = io.StringIO()
    closed.close()
    started = time.monotonic()
    with (
        pytest.raises(stopping.Interrupted),
        stopping.Stopping(0.01, say=closed.write) as waiting,
        waiting.making(),
    ):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(2)
    assert time.monotonic() - started < 2


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_what_takes_too_long_after_a_signal_is_dropped(run: Run, how: signal.Signals) -> None:
    run.start(2, hang=["f.plain.0", "f.plain.1"], grace=0.2)
    run.until(attempts=2)
    run.kill(how)
    begun = time.monotonic()
    assert run.wait() == [128 + how] * 2
    assert time.monotonic() - begun < 4 and run.made() == []
    words = {signal.SIGINT: "Ctrl-C: leaving at once", signal.SIGTERM: "has 0.2 s to be finished"}
    assert words[how] in run.errors()
    left = run.path / ".work" / "candidates" / "f.plain.0"
    assert [path.name for path in left.iterdir()] == [".half"]  # to go on from
    assert run.here() == 0
    run.assert_complete()


def test_sigterm_is_answered_at_once_and_ctrl_c_after_it_does_not_wait(run: Run) -> None:
    """A second SIGTERM changes nothing: SLURM and torchrun each send one."""
    run.start(2, hang=["f.plain.0", "f.plain.1"], grace=60)
    run.until(attempts=2)
    begun = time.monotonic()
    run.kill(signal.SIGTERM)
    told = "SIGTERM: the video at work has 60 s to be finished (--grace_s); Ctrl-C leaves at once"
    while told not in run.errors() and time.monotonic() < begun + 4:
        time.sleep(0.01)
    assert run.errors().count("SIGTERM") == 1  # of both processes
    run.kill(signal.SIGTERM)
    time.sleep(0.05)
    assert all(process.is_alive() for process in run.processes)
    run.kill(signal.SIGINT)
    assert run.wait() == [128 + signal.SIGTERM] * 2
    assert time.monotonic() - begun < 8 and run.made() == []


def test_the_first_process_is_gone(run: Run) -> None:
    run.start(2, hang=["f.plain.1"])
    run.until(attempts=2)
    rank = next(int(rank) for name, rank in run.log() if name == "f.plain.0")
    run.kill()
    run.wait()
    assert run.here() == 0
    run.assert_complete()
    assert rank in (0, 1)


# --- two runs on one folder ---------------------------------------------------------------------------


def test_a_second_run_is_refused_and_harms_nothing(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    run.start(2, seconds=0.1)
    run.until(made=1)
    pid = run.processes[0].pid
    assert run.here() == 2
    line = capsys.readouterr().err
    assert f"is in use by process {pid} on {socket.gethostname()}" in line
    assert batch_main(["status", str(run.path)]) == 1
    out = capsys.readouterr().out
    assert f"at work: process {pid}" in out and ", 2 processes\n" in out
    assert run.wait() == [0, 0]
    run.assert_complete()
    assert max(run.attempts().values()) == 1


def test_only_one_of_two_that_begin_at_once(run: Run) -> None:
    for _ in range(2):
        run.start(1, seconds=0.05)
    codes = run.wait()
    assert sorted(code or 0 for code in codes) in ([0, 2], [2, 2])
    if 0 not in codes:
        assert run.here() == 0
    run.assert_complete()
    assert max(run.attempts().values()) == 1


def test_shares_lock_what_they_have_in_common(tmp_path: Path) -> None:
    this = Process.this()
    held = RunLock(tmp_path, Share(2, 3))
    held.acquire([this])
    for share in (Share(), Share(2, 3), Share(1, 2)):
        with pytest.raises(InUse, match=f"{tmp_path.parent} is in use by"):
            RunLock(tmp_path, share).acquire([this])
    RunLock(tmp_path, Share(1, 3)).acquire([this])


# --- small things -------------------------------------------------------------------------------------


def test_trouble_of_the_disk_is_found_among_causes() -> None:
    full = OSError(errno.ENOSPC, "full", "/runs/x")
    wrapped = WMRewardError("cannot write")
    wrapped.__cause__ = full
    assert disk_trouble(wrapped) == "/runs/x: the disk is full; free some space"
    assert disk_trouble(OSError(errno.ENOENT, "gone")) is None
    assert disk_trouble(ValueError()) is None and disk_trouble(None) is None


def test_status_as_json(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run.here(fail=["a.plain.0"]) == 1
    capsys.readouterr()
    assert batch_main(["status", str(run.path), "--json"]) == 1
    status = json.loads(capsys.readouterr().out)
    assert status["counts"] == {"plain": {"made": 11, "failed": 1, "all": 12}}
    assert (
        status["left"] == 0
        and status["workers"] == []
        and list(status["failures"]) == ["a.plain.0"]
    )
    assert batch_main(["what"]) == 2 and batch_main(["help"]) == 0


def test_benchmark(capsys: pytest.CaptureFixture[str]) -> None:
    words = "--parts overhead resume --count 16 --records 32"
    assert bench_batch.main(words.split()) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["records"] == 32 and result["overhead_ms"] > 0
    assert {"machine", "torch", "after_kill_s", "resume_s", "status_s"} <= result.keys()
    words = "--parts scaling --candidates 16 --seconds 0.02"
    assert bench_batch.main(words.split()) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    alone = (result["t1_before_s"] + result["t1_after_s"]) / 2
    assert alone > 0.1 and result["efficiency"] == alone / (2 * result["t2_s"])
    assert 0 < result["efficiency"] < 1.5
