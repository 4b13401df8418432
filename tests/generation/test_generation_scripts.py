"""The launch scripts: their lines, and whole runs with a nano MAGI-1 that are killed and started again."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from magi1_fakes import write_nano

from wmreward.batch.status import Status
from wmreward.generation.batch.cli import main
from wmreward.generation.batch.setup import until_the_last
from wmreward.records.lock import read as read_lock

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "generation"
FLAGS = ("--no_scores", "--no_progress", "--device", "cpu")
SCRIPTS = [FOLDER / f"generate_{mode}_magi1_multinode.sh" for mode in ("i2v", "v2v")]


@pytest.fixture(scope="module")
def nano(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_nano(tmp_path_factory.mktemp("nano"), num_steps=32)


@pytest.fixture
def jobs(tmp_path: Path) -> Path:
    return write_jobs(tmp_path)


def write_jobs(folder: Path) -> Path:
    """Twelve candidates, and one of a broken image."""
    path = folder / "list.jsonl"
    entries: list[dict[str, Any]] = [
        {"id": name, "mode": "t2v", "prompt": f"a {name} ball", "seeds": [1, 2, 3, 4]}
        for name in ("red", "green", "blue")
    ]
    entries.append({"id": "broken", "mode": "i2v", "prompt": "", "init_image": "broken.png"})
    (folder / "broken.png").write_text("no image")
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return path


def environment(**variables: object) -> dict[str, str]:
    """Without what a batch system or an outer torchrun has set."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("SLURM_", "TORCHELASTIC_")) and name not in ("RANK", "WORLD_SIZE")
    }
    kept |= {"PYTHON": sys.executable, "OMP_NUM_THREADS": "1", "REPORT": "0"}
    return kept | {name: str(value) for name, value in variables.items()}


def dry_run(nano: Path, jobs: Path, script: Path = SCRIPTS[0], **variables: object) -> str:
    """What it prints; unless ``PYTHON`` is given, the plan is left out."""
    done = subprocess.run(
        ["bash", script, "--dry-run", "--no_scores"],
        env=environment(**{"PYTHON": "true", "CONFIG": nano, "JOBS": jobs, **variables}),
        cwd=jobs.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# --- lines --------------------------------------------------------------------------------------------


def test_shellcheck() -> None:
    beside = Path(sys.executable).with_name("shellcheck")
    checker = beside if beside.exists() else shutil.which("shellcheck")
    if checker is None:
        pytest.skip("shellcheck is not here")
    files = sorted(FOLDER.glob("*.sh"))
    assert len(files) == 3
    done = subprocess.run(
        [checker, "-x", *files], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_the_two_scripts_differ_in_their_list_only() -> None:
    one, other = (script.read_text() for script in SCRIPTS)
    assert one.replace("i2v", "v2v").replace("first images", "beginnings of videos") == other
    assert all(os.access(script, os.X_OK) for script in SCRIPTS)


def test_plan_on_one_machine(nano: Path, jobs: Path) -> None:
    line, *plan = dry_run(
        nano, jobs, NPROC=4, CP_SIZE=2, MAX_SEEDS=3, PYTHON=sys.executable
    ).splitlines()
    assert "-m generation.launch --standalone --nproc-per-node 4 --max-restarts 3" in line
    assert "--max_seeds 3" in line and "srun" not in line and line.rstrip().endswith("--no_scores")
    table = {row.split()[0]: " ".join(row.split()[1:]) for row in plan}
    assert table["jobs"] == "4 (i2v, t2v)" and table["candidates"] == "10 (plain)"
    assert table["GPUs"] == "4: 2 videos at a time, 2 GPUs each"
    assert "KiB per GPU" in table["memory"] and "s at 0.40 PFLOP/s" in table["time"]
    assert not table["memory"].startswith("0.0") and not table["time"].startswith("0.0 ")
    assert not (jobs.parent / "outputs").exists()


def test_a_plan_lasts_as_long_as_its_slowest_group() -> None:
    assert until_the_last([3.0], 16) == 3.0  # nobody shares it
    assert until_the_last([1.0] * 5, 2) == 3.0
    assert until_the_last([1.0, 1.0, 2.0, 4.0], 2) == 4.0
    assert until_the_last([1.0, 2.0], 1) == 3.0 and until_the_last([], 4) == 0.0


def test_launch_lines_of_clusters(nano: Path, jobs: Path) -> None:
    tools = jobs.parent / "tools"
    tools.mkdir()
    (tools / "scontrol").write_text("#!/bin/sh\necho node7\necho node8\n")
    (tools / "scontrol").chmod(0o755)
    path = f"{tools}{os.pathsep}{os.environ['PATH']}"
    slurm = {
        "SLURM_JOB_ID": 123,
        "SLURM_NNODES": 2,
        "SLURM_JOB_NODELIST": "node[7-8]",
        "PATH": path,
    }
    line = dry_run(nano, jobs, **slurm, SLURM_GPUS_ON_NODE=8).splitlines()[0]
    assert line.startswith("srun --nodes 2 --ntasks 2 --ntasks-per-node 1 ")
    assert "--nnodes 2 --rdzv-backend c10d --rdzv-endpoint node7:20123 --rdzv-id 123" in line
    assert "--nproc-per-node 8 " in line
    array = {
        "SLURM_JOB_ID": 124,
        "SLURM_NNODES": 1,
        "SLURM_ARRAY_TASK_ID": 5,
        "SLURM_ARRAY_TASK_MIN": 3,
        "SLURM_ARRAY_TASK_COUNT": 4,
        "NPROC": 1,
    }
    line = dry_run(nano, jobs, **array)
    assert "--share 3/4" in line and "--standalone" in line
    hosts = dry_run(nano, jobs, NODES=2, RDZV_ENDPOINT="host1:29500", NPROC=1)
    assert "--nnodes 2 --rdzv-backend c10d --rdzv-endpoint host1:29500 --rdzv-id batch" in hosts
    assert "srun" not in hosts and "--config_file" in hosts
    line = dry_run(nano, jobs, PIPELINE="a folder")
    assert r"--pipeline a\ folder" in line and "--config_file" not in line
    done = subprocess.run(
        ["bash", SCRIPTS[1], "--dry-run"],
        env=environment(NODES=2, CONFIG=nano, JOBS=jobs),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2 and "needs RDZV_ENDPOINT" in done.stderr


def test_a_copy_in_slurms_spool_finds_the_rest(nano: Path, jobs: Path, tmp_path: Path) -> None:
    copy = tmp_path / "slurm_script"
    shutil.copy(SCRIPTS[0], copy)
    assert "--standalone" in dry_run(nano, jobs, copy, SLURM_SUBMIT_DIR=ROOT)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--seed", "3"], "--seed has no meaning here"),
        (["--best_of", "3"], "--best_of has no meaning here"),
        (["--frobnicate"], "there is no flag --frobnicate"),
        (["--variants", "guided"], "needs a --guidance_scale"),
        (["--share", "5/4"], "parts are counted from 1 to 4"),
        (["--max_seeds", "0"], "--max_seeds must be"),
        (["--jobs", "none.jsonl"], "none.jsonl: no such file"),
        (
            ["--dry_run", "--processes", "3", "--cp_size", "2"],
            "3 processes are not a multiple of the 2",
        ),
    ],
)
def test_wrong_flags(
    flags: list[str], message: str, nano: Path, jobs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--jobs", str(jobs), "--config_file", str(nano), "--no_scores", *flags]
    assert main(words) == 2
    err = capsys.readouterr().err
    assert message in err and err.startswith("error: ") and err.count("\n") == 1


# --- runs ---------------------------------------------------------------------------------------------


def contents(runs: Path) -> dict[str, str]:
    """Hash of every candidate's video."""
    (run,) = runs.iterdir()
    videos = sorted((run / "candidates").glob("*/video.mp4"))
    return {v.parent.name: hashlib.sha256(v.read_bytes()).hexdigest() for v in videos}


class Launch:
    """A script at work."""

    def __init__(self, nano: Path, jobs: Path, nproc: int) -> None:
        self.runs = jobs.parent / "runs"
        self.process = subprocess.Popen(
            ["bash", SCRIPTS[0], *FLAGS, "--grace_s", "1"],
            env=environment(CONFIG=nano, JOBS=jobs, RUNS=self.runs, NPROC=nproc),
            cwd=jobs.parent,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def until(self, made: int) -> Path:
        """Wait for so many candidates; returns the run's folder."""
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline and self.process.poll() is None:
            if len(list(self.runs.glob("*/candidates/*"))) >= made:
                return next(self.runs.iterdir())
            time.sleep(0.02)
        self.process.kill()
        raise AssertionError(self.process.communicate()[1])

    def end(self) -> tuple[int, str]:
        """Exit code and standard error."""
        err = self.process.communicate(timeout=120)[1]
        return self.process.returncode, err


@pytest.fixture(scope="module")
def uninterrupted(nano: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Videos of a run that went through, by one process."""
    folder = tmp_path_factory.mktemp("whole")
    arguments = ("--jobs", str(write_jobs(folder)), "--config_file", str(nano))
    assert main([*arguments, "--runs", str(folder / "runs"), *FLAGS]) == 1  # the broken image
    return contents(folder / "runs")


def at_work_on_what_is_whole(run: Path) -> int:
    """Rank of a process that is not at the broken image: that candidate's last failure would be the kill."""
    at = {int(path.suffix[1:]): path.read_text() for path in (run / ".work" / "at").iterdir()}
    return max(rank for rank, name in at.items() if name and not name.startswith("broken"))


def test_a_killed_process_of_two(nano: Path, jobs: Path, uninterrupted: dict[str, str]) -> None:
    """torchrun starts all again, and the run ends in the same files as one that went through."""
    launch = Launch(nano, jobs, nproc=2)
    run = launch.until(made=2)
    lock = read_lock(run / ".locks" / "1-of-1.json")
    assert lock is not None and len(lock["processes"]) == 2
    os.kill(lock["processes"][at_work_on_what_is_whole(run)]["pid"], signal.SIGKILL)
    code, err = launch.end()
    assert code == 1, err  # the broken image
    status = Status.of(run)
    assert status.counts == {"plain": {"made": 12, "failed": 1, "all": 13}}, err
    assert "broken.png: is not an image" in status.failures["broken.plain.0"]
    assert contents(launch.runs) == uninterrupted
    assert sorted(path.name for path in run.glob(".*")) == [".locks"] and not status.workers
    assert not list(run.rglob("*.rank*")) and not list((run / ".locks").iterdir())


def test_sigterm_to_the_script(nano: Path, jobs: Path, uninterrupted: dict[str, str]) -> None:
    launch = Launch(nano, jobs, nproc=1)
    launch.until(made=2)
    launch.process.send_signal(signal.SIGTERM)
    code, err = launch.end()
    assert code == 143 and "the same command goes on from here" in err
    told, *rest = err.splitlines()
    assert told.startswith("SIGTERM: the video at work has")
    assert len(rest) == 2, err  # and nothing of torchrun's own
    before = contents(launch.runs)
    assert 2 <= len(before) < 12
    arguments = ("--jobs", str(jobs), "--config_file", str(nano), "--runs", str(launch.runs))
    assert main([*arguments, *FLAGS]) == 1
    assert contents(launch.runs) == uninterrupted and before.items() <= uninterrupted.items()


def run_script(
    jobs: Path, nano: Path, *words: str, nproc: int = 1
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", SCRIPTS[0], *FLAGS, *words],
        env=environment(CONFIG=nano, JOBS=jobs, RUNS=jobs.parent / "runs", NPROC=nproc),
        cwd=jobs.parent,
        capture_output=True,
        text=True,
        check=False,
    )


def test_words_of_the_module_reach_it_through_the_script(nano: Path, jobs: Path) -> None:
    """torchrun would take --run for its own --run-path."""
    jobs.write_text(jobs.read_text().splitlines()[0])
    done = run_script(jobs, nano, "--run", "own", "--max_seeds", "1", "--num_steps", "8")
    assert done.returncode == 0, done.stderr
    assert (jobs.parent / "own" / "candidates" / "red.plain.1" / "video.mp4").exists()
    assert not (jobs.parent / "runs").exists()


def test_an_error_that_would_come_again_starts_nothing_again(nano: Path, jobs: Path) -> None:
    (jobs.parent / "runs").write_text("a file, where folders were to be made")
    done = run_script(jobs, nano, nproc=2)
    assert done.returncode != 0 and done.stdout == ""
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr


def test_ctrl_c_to_the_script_before_anything_is_made(nano: Path, jobs: Path) -> None:
    temporary = jobs.parent / "temporary"
    temporary.mkdir()
    process = subprocess.Popen(
        ["bash", SCRIPTS[0], *FLAGS],
        env=environment(CONFIG=nano, JOBS=jobs, RUNS="runs", NPROC=1, TMPDIR=temporary),
        cwd=jobs.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # as a terminal has it: the signal goes to all
    )
    while not list(temporary.iterdir()):  # it has not come to its launch line
        assert process.poll() is None
        time.sleep(0.01)
    time.sleep(2)  # somewhere in the imports, perhaps
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130 and out == "" and err.count("\n") <= 2, err
    assert "Traceback" not in err and not any(path.is_file() for path in temporary.iterdir())


def test_guided_and_judged(nano: Path, jobs: Path, tmp_path: Path) -> None:
    jobs.write_text(jobs.read_text().splitlines()[0])
    arguments = [
        *("--jobs", str(jobs), "--config_file", str(nano), "--runs", str(tmp_path / "runs")),
        *("--max_seeds", "1", "--reward", "run_rewards:bright", "--guidance_scale", "0.1"),
        *("--variants", "plain", "guided", "--device", "cpu", "--no_progress", "--num_steps", "8"),
    ]
    assert main(arguments) == 0
    (run,) = (tmp_path / "runs").iterdir()
    lines = (run / "manifest.jsonl").read_text().splitlines()
    records = {record["variant"]: record for record in map(json.loads, lines)}
    assert records["guided"]["score"] > records["plain"]["score"]
    assert "guidance acted" in records["guided"]["guidance"]["summary"]
    assert records["guided"]["files"]["video.mp4"] != records["plain"]["files"]["video.mp4"]
    assert main(arguments) == 0
    assert (run / "manifest.jsonl").read_text().splitlines() == lines
