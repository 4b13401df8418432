"""Hashes that are kept beside weights files: known while nothing has changed, and never in the way."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

import wmweights.kept_hash
from wmfiles import user_cache
from wmweights import KeptHash


@pytest.fixture(autouse=True)
def kept_of_small_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(wmweights.kept_hash, "LEAST_BYTES", 1)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    folder = tmp_path / "weights"
    folder.mkdir()
    for name in "ab":
        (folder / name).write_bytes(name.encode() * 100)
    return [folder / "a", folder / "b"]


def test_known_once_it_is_kept(files: list[Path]) -> None:
    assert KeptHash(files, "all").known() is None
    KeptHash(files, "all").keep("1234")
    KeptHash(files, "encoder").keep("5678")
    assert KeptHash(files, "all").known() == "1234"
    assert KeptHash(files, "encoder").known() == "5678"
    assert KeptHash(files, "predictor").known() is None
    assert KeptHash(files[:1], "all").known() is None
    assert KeptHash(files[::-1], "all").known() is None


@pytest.mark.parametrize("place", [0, 1])
def test_any_change_of_a_file_is_noticed(files: list[Path], place: int) -> None:
    KeptHash(files, "all").keep("1234")
    changed = files[place]
    at = changed.stat().st_mtime_ns
    changed.write_bytes(b"c" * 100)  # of the same size, a nanosecond later
    os.utime(changed, ns=(at, at + 1))
    assert KeptHash(files, "all").known() is None
    os.utime(changed, ns=(at, at))
    assert KeptHash(files, "all").known() == "1234"  # as is said: size and time are what counts
    changed.write_bytes(b"c" * 101)
    os.utime(changed, ns=(at, at))
    assert KeptHash(files, "all").known() is None
    changed.unlink()
    assert KeptHash(files, "all").known() is None


def test_nothing_is_kept_of_a_file_that_changed_while_it_was_hashed(files: list[Path]) -> None:
    kept = KeptHash(files, "all")
    files[1].write_bytes(b"longer than before" * 9)
    kept.keep("1234")
    assert KeptHash(files, "all").known() is None


def test_nothing_is_kept_of_small_files(
    files: list[Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(wmweights.kept_hash, "LEAST_BYTES", 201)
    KeptHash(files, "all").keep("1234")
    assert [path.name for path in sorted(files[0].parent.iterdir())] == ["a", "b"]
    assert not (tmp_path / "cache").exists()


def test_a_folder_that_cannot_be_written(
    files: list[Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The user's cache takes it; and where that cannot be written either, it is computed each time."""
    write_whole = wmweights.kept_hash.write_whole

    def refusing(*folders: Path) -> None:  # chmod would not stop root
        def write(path: Path) -> object:
            if any(path.is_relative_to(folder) for folder in folders):
                raise PermissionError(13, "Permission denied", str(path))
            return write_whole(path)

        monkeypatch.setattr(wmweights.kept_hash, "write_whole", write)

    refusing(tmp_path)
    KeptHash(files, "all").keep("1234")
    assert KeptHash(files, "all").known() is None
    refusing(files[0].parent)
    KeptHash(files, "all").keep("1234")
    assert KeptHash(files, "all").known() == "1234"
    assert len(list(user_cache("hashes").iterdir())) == 1
    other = tmp_path / "other"
    shutil.copytree(files[0].parent, other)  # times included
    assert KeptHash([other / "a", other / "b"], "all").known() is None


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"all": 3}', '{"all": {"files": [], "sha256": 1}}']
)
def test_damaged_notes_are_replaced(files: list[Path], content: str) -> None:
    beside = files[0].with_name("a.hashes.json")
    beside.write_text(content)
    assert KeptHash(files, "all").known() is None
    KeptHash(files, "all").keep("1234")
    assert KeptHash(files, "all").known() == "1234"
