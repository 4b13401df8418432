"""One writer at a time: who holds a lock, who takes a dead one's, and what happens in between."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from wmfiles import Process
from wmreward.errors import WMRewardError
from wmreward.ranks import Ranks
from wmreward.records import lock as locks
from wmreward.records.lock import InUse, Lock, Lost, reserved

THIS = Process.this()
ELSEWHERE = Process("another-host", 1, 2, "another start")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "PATIENCE_S", 0.2)
    monkeypatch.setattr(locks, "_LOOK_AGAIN_S", 0.05)


def lock_in(folder: Path) -> Lock:
    return Lock.of(folder / "scores.jsonl")


def held_by(process: Process, folder: Path) -> Lock:
    lock = lock_in(folder)
    lock.acquire([process])
    return lock


@pytest.mark.parametrize(
    ("holder", "is_known_gone"),
    [
        (replace(THIS, pid=2**22 + 1), True),
        (replace(THIS, pid=2**70), True),
        (replace(THIS, started=(THIS.started or 0) + 1), True),  # the number was used again
        (ELSEWHERE, False),
        (replace(THIS, space="another container", pid=2**22 + 1), False),
    ],
)
def test_locks_of_the_dead_are_taken(tmp_path: Path, holder: Process, is_known_gone: bool) -> None:
    old = held_by(holder, tmp_path)
    assert locks.is_gone(locks.read(old.path) or {}) == is_known_gone
    told: list[str] = []
    new = lock_in(tmp_path)
    new.acquire([THIS], say=told.append)
    assert bool(told) != is_known_gone  # a wait is told of
    with pytest.raises(InUse, match="is in use by"):
        old.beat()
    old.release()  # not its own any more
    new.beat()
    new.release()
    assert not list(tmp_path.iterdir())


def test_a_second_writer_is_told_who_the_first_is(tmp_path: Path) -> None:
    held_by(THIS, tmp_path)
    (tmp_path / "link.jsonl").symlink_to("scores.jsonl")
    for name in ("scores.jsonl", "link.jsonl"):
        with pytest.raises(InUse) as caught:
            Lock.of(tmp_path / name).acquire([THIS])
        said = f"{tmp_path / name} is in use by process {os.getpid()} on {THIS.host} (since"
        assert str(caught.value).startswith(said) and caught.value.exit_code == 2
    Lock.of(tmp_path / "other.jsonl").acquire([THIS])


def test_a_holder_elsewhere_that_beats_is_respected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = held_by(ELSEWHERE, tmp_path)
    monkeypatch.setattr(locks.time, "sleep", lambda _: held.beat())
    with pytest.raises(InUse, match="process 1 on another-host"):
        lock_in(tmp_path).acquire([THIS])


def test_whoever_finds_a_dead_lock_takes_no_living_one(tmp_path: Path) -> None:
    """Of two that find it at once the slower one must not remove what the faster one put there."""
    dead = held_by(replace(THIS, pid=2**22 + 1), tmp_path)
    found = locks.read(dead.path)
    assert found is not None
    faster, slower = lock_in(tmp_path), lock_in(tmp_path)
    faster.acquire([THIS])
    with pytest.raises(InUse):
        slower._remove(dead.path, found)
    faster.beat()


def test_nobody_takes_a_lock_while_another_takes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of three that find a dead lock one is the holder, wherever the second stood when the third came."""
    dead = held_by(replace(THIS, pid=2**22 + 1), tmp_path)
    found = locks.read(dead.path)
    assert found is not None
    first, second, third = (lock_in(tmp_path) for _ in range(3))
    first.acquire([THIS])
    read, refused = locks.read, []

    def third_comes(path: Path) -> dict[str, Any] | None:
        content = read(path)
        monkeypatch.setattr(locks, "read", read)
        with pytest.raises(InUse) as caught:
            third.acquire([THIS])
        refused.append(caught.value)
        return content

    for act in (lambda: second._remove(dead.path, found), lambda: second.acquire([THIS])):
        monkeypatch.setattr(locks, "read", third_comes)
        with pytest.raises(InUse):
            act()
    assert len(refused) == 2
    first.beat()
    first.release()
    assert not list(tmp_path.iterdir())


def test_one_who_died_while_taking_a_lock_is_no_hindrance(tmp_path: Path) -> None:
    gone = replace(THIS, pid=2**22 + 1)
    dead = held_by(gone, tmp_path)
    Lock(dead.path.with_name(f".{dead.path.name}.taking"), dead.what).acquire([gone])
    lock = lock_in(tmp_path)
    lock.acquire([THIS])
    lock.release()
    assert not list(tmp_path.iterdir())


def test_many_at_once(tmp_path: Path) -> None:
    held_by(replace(THIS, pid=2**22 + 1), tmp_path)
    begin, winners = threading.Barrier(8), []

    def attempt() -> None:
        lock = lock_in(tmp_path)
        begin.wait()
        try:
            lock.acquire([THIS])
        except InUse:
            return
        winners.append(lock)

    threads = [threading.Thread(target=attempt) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(winners) <= 1
    for lock in winners:
        lock.beat()


def test_without_links_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: Path, target: Path) -> None:
        raise OSError(errno.EPERM, "no links on this file system")

    monkeypatch.setattr(os, "link", refuse)
    held = held_by(THIS, tmp_path)
    with pytest.raises(InUse):
        lock_in(tmp_path).acquire([THIS])
    held.beat()
    held.release()
    assert not list(tmp_path.iterdir())


def test_a_lock_that_is_none_says_so(tmp_path: Path) -> None:
    path = lock_in(tmp_path).path
    for content in ("", "[" * 100_000, "{}"):
        path.write_text(content)
        with pytest.raises(WMRewardError, match="is not a lock"):
            lock_in(tmp_path).acquire([THIS])


def test_it_beats_while_it_is_kept_and_tells_when_it_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "BEAT_S", 0.01)
    with reserved(tmp_path / "scores.jsonl", Ranks()) as lock:
        deadline = time.monotonic() + 10
        while json.loads(lock.path.read_text())["beat"] < 2:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        lock.check()
        lock.path.unlink()
        with pytest.raises(Lost, match="is in use by") as caught:
            while time.monotonic() < deadline:
                time.sleep(0.01)
                lock.check()
        assert caught.value.exit_code == 2
    with reserved(None, Ranks()) as lock:
        lock.check()
    assert not list(tmp_path.iterdir())


class Side(Ranks):
    """A process in a thread, which meets the other one at a barrier."""

    meeting = threading.Barrier(2, timeout=10)
    told: dict[int, object] = {}  # noqa: RUF012

    def gather(self, value: Any) -> list[Any]:
        self.told[self.rank] = value
        self.meeting.wait()
        values = [self.told[rank] for rank in range(2)]
        self.meeting.wait()
        return values


def test_every_process_of_a_run_notices_a_lost_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "BEAT_S", 0.01)
    noticed: list[int] = []
    held = threading.Barrier(2, timeout=10)

    def work(rank: int) -> None:
        with reserved(tmp_path / "scores.jsonl", Side(rank, 2)) as lock:
            time.sleep(0.1)
            lock.check()
            held.wait()
            deadline = time.monotonic() + 10
            try:
                while time.monotonic() < deadline:
                    lock.path.unlink(missing_ok=True)  # a beat may just have been under way
                    time.sleep(0.01)
                    lock.check()
            except Lost:
                noticed.append(rank)

    sides = [threading.Thread(target=work, args=(rank,)) for rank in range(2)]
    for side in sides:
        side.start()
    for side in sides:
        side.join()
    assert sorted(noticed) == [0, 1] and not list(tmp_path.iterdir())


_HOLD = """
import os, signal, sys
from pathlib import Path
from wmfiles import Process
from wmreward.records.lock import Lock
Lock.of(Path(sys.argv[1])).acquire([Process.this()])
print("held", flush=True)
sys.stdin.readline()
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_writer_stands_in_nobodys_way(tmp_path: Path) -> None:
    file = tmp_path / "scores.jsonl"
    with subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(file)],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as writer:
        assert writer.stdin and writer.stdout and writer.stdout.readline() == "held\n"
        with pytest.raises(InUse, match=f"process {writer.pid} "):
            Lock.of(file).acquire([THIS])
        writer.stdin.write("\n")
        writer.stdin.flush()
        writer.wait()
    lock = Lock.of(file)
    lock.acquire([THIS])
    lock.release()
    assert not list(tmp_path.iterdir())
