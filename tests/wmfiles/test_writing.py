"""What is left of writers that were killed, and names that are long."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from wmfiles import (
    LONGEST_NAME,
    NameProblem,
    Process,
    fitted,
    printable,
    user_path,
    write_whole,
    writing,
)
from wmfiles.names import cut

ROOT = Path(__file__).parents[2]
_KILLED = """
import os, signal, sys
from pathlib import Path
from wmfiles import write_whole
with write_whole(Path(sys.argv[1])) as temporary:
    temporary.mkdir() if len(sys.argv) > 2 else temporary.write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(autouse=True)
def untidied(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As in a new process."""
    monkeypatch.setattr(writing, "_tidied", set())
    yield


def killed_while_writing(target: Path, *more: str) -> None:
    words = [sys.executable, "-c", _KILLED, str(target), *more]
    assert subprocess.run(words, cwd=ROOT, check=False).returncode == -9


def write(target: Path) -> list[str]:
    with write_whole(target) as temporary:
        temporary.write_bytes(b"whole")
    return sorted(path.name for path in target.parent.iterdir())


def test_the_next_process_removes_what_killed_ones_left(tmp_path: Path) -> None:
    for _ in range(2):
        killed_while_writing(tmp_path / "o.mp4")
        assert len(list(tmp_path.iterdir())) == 1  # the second removed the first's
    killed_while_writing(tmp_path / "folder", "is a folder")
    assert write(tmp_path / "other.mp4") == ["other.mp4"]


def test_what_others_write_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = writing.temporary_beside(tmp_path / "here.mp4")
    elsewhere = replace(Process.this(), host="another-host", pid=2**22 + 1)
    monkeypatch.setattr(writing.Process, "this", lambda: elsewhere)
    there, long_ago = (writing.temporary_beside(tmp_path / name) for name in ("a.mp4", "b.mp4"))
    monkeypatch.undo()
    monkeypatch.setattr(writing, "_tidied", set())
    (tmp_path / ".hidden.part.mp4").touch()
    for path in (here, there, long_ago):
        path.touch()
    os.utime(long_ago, (0, 0))
    assert write(tmp_path / "o.mp4") == sorted([".hidden.part.mp4", here.name, there.name, "o.mp4"])


def test_names_up_to_the_limit(tmp_path: Path) -> None:
    for stem in ("x" * 251, "é" * 125, "日" * 83, "\udcff" * 251):
        name = f"{stem}.mp4"
        assert len(os.fsencode(name)) > 250
        assert write(tmp_path / name) == [name]
        (tmp_path / name).unlink()
    with pytest.raises(OSError) as caught, write_whole(tmp_path / ("x" * 256)):
        pytest.fail("found only when the work is done")
    assert caught.value.errno == errno.ENAMETOOLONG


def test_a_folder_appears_whole(tmp_path: Path) -> None:
    with pytest.raises(ValueError), write_whole(tmp_path / "f") as temporary:
        temporary.mkdir()
        (temporary / "a").touch()
        raise ValueError
    assert not list(tmp_path.iterdir())
    with write_whole(tmp_path / "f") as temporary:
        temporary.mkdir()
        (temporary / "a").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["f", "a"]


def test_cut_ends_between_characters() -> None:
    assert cut("aé日x", 3) == "aé" and cut("aé日x", 2) == "a" and cut("aé日x", 5) == "aé"
    assert (
        cut("\udcff\udcfea", 1) == "\udcff" and cut("\udcff", 9) == "\udcff" and cut("é", 0) == ""
    )
    assert os.fsencode(cut(os.fsdecode(b"\x80" * 9), 5)) == b"\x80" * 5


def test_derived_names_fit_and_differ() -> None:
    assert fitted("a", ".json") == "a.json"
    first, second = ("é" * 127 + last for last in "ab")
    names = {fitted(stem, tail) for stem in (first, second) for tail in (".json", ".safetensors")}
    assert len(names) == 4
    for name in names:
        assert len(os.fsencode(name)) <= LONGEST_NAME and name.encode()
    assert fitted(first, ".json") == fitted(first, ".json")


def test_paths_that_users_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert user_path("~/x.mp4") == tmp_path / "x.mp4" and user_path("a/b") == Path("a/b")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "~odd").touch()
    assert user_path("~odd") == Path("~odd")
    for text, says in {
        "": "empty",
        "  ": "empty",
        "~nosuchuser/x.png": "there is no home folder ~nosuchuser",
        "a\0b": "null byte",
        "\ud800": "half a character",
        "a/" + "x" * 256: "256 of them in one name",
        "a/" * 3000: "a path of 6000 bytes",
    }.items():
        with pytest.raises(NameProblem, match=says):
            user_path(text)


def test_names_are_shown_on_one_line() -> None:
    assert printable("é a\n\x1b[2J\udcff") == "é a\\n\\x1b[2J\ufffd"
