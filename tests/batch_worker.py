"""A process of a batch run that writes text instead of videos, for batch/test_batch.py.

Settings: ``seconds`` for each candidate, ``size`` of groups, ``share``, ``grace``, ``steps``, and names of
candidates that ``fail``, fail on their first try only (``fail_once``), ``kill`` their process always or on
the first try only (``kill_once``), find the disk full (``full``), or take for ever (``hang``).
"""

from __future__ import annotations

import errno
import hashlib
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from wmreward.batch.candidates import Candidate
from wmreward.batch.folder import RunFolder
from wmreward.batch.processes.share import Share
from wmreward.batch.processes.team import LostContact, Team
from wmreward.batch.runner import BatchOptions, run_batch
from wmreward.errors import WMRewardError
from wmreward.prompts.jobs import read_jobs


class Writer:
    """Makes candidates that can be told from one another."""

    def __init__(self, settings: dict[str, Any], log: Path, team: Team) -> None:
        self.settings, self.log, self.team = settings, log, team

    def __call__(self, candidate: Candidate, folder: Path) -> dict[str, Any]:
        name, settings = candidate.name, self.settings
        with self.log.open("a") as log:
            log.write(f"{name} {self.team.rank}\n")
        first = self.log.read_text().count(f"{name} ") <= self.team.size
        (folder / ".half").write_text("a state to go on from")
        if name in settings.get("hang", ()):
            time.sleep(1000)
        time.sleep(settings.get("seconds", 0.0))
        if name in settings.get("kill", ()) or (first and name in settings.get("kill_once", ())):
            (folder / "video.mp4").write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)
        if name in settings.get("full", ()):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder / "video.mp4"))
        if name in settings.get("fail", ()) or (first and name in settings.get("fail_once", ())):
            raise ValueError(f"cannot make {name}")
        if self.team.is_leader:
            (folder / "video.mp4").write_bytes(content_of(candidate))
        return {"score": 0.5}


def content_of(candidate: Candidate) -> bytes:
    return hashlib.sha256(f"{candidate.name} {candidate.job.prompt}".encode()).digest() * 1000


def cost(candidate: Candidate) -> float:
    return len(candidate.job.prompt)


def main(run: Path, jobs: Path, settings: dict[str, Any]) -> int:
    """Run as `wmreward.generation.batch.cli` does; returns the exit code."""
    team = Team.joined(settings.get("size", 1))
    share = Share.parse(settings.get("share", "1/1"))
    folder = RunFolder(run, {"steps": settings.get("steps", 8), "model": {"width": 4}}, share)
    log = run.with_name("attempts.log")
    log.touch()
    options = BatchOptions(cost=cost, grace_s=settings.get("grace", 5), progress=False)
    try:
        return run_batch(
            folder,
            read_jobs(jobs),
            ["plain"],
            lambda: Writer(settings, log, team),
            team=team,
            options=options,
        )
    except LostContact as error:
        print(f"process {team.rank}: {error}", file=sys.stderr)
        return error.exit_code
    except WMRewardError as error:
        if team.is_first:
            print(f"error: {error}", file=sys.stderr)
        return error.exit_code if team.is_first else 0


def process(environment: dict[str, str], run: Path, jobs: Path, settings: dict[str, Any]) -> None:
    """One process of several: as `torchrun` starts it, but for its standard error."""
    os.environ.update(environment)
    descriptor = os.open(run.with_name("errors.log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 2)
    raise SystemExit(main(run, jobs, settings))
