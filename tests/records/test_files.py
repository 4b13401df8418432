"""Output files appear complete or not at all."""

from __future__ import annotations

import errno
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from wmreward.cli import main as wmreward
from wmreward.errors import UsageError, VideoError, WMRewardError
from wmreward.files import atomic_path, check_folder, write_bytes, write_text
from wmreward.video_io import write_video

ROOT = Path(__file__).parents[2]


def names(folder: Path) -> list[str]:
    """What lies in a folder."""
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_that_takes_no_files_is_known_beforehand(tmp_path: Path) -> None:
    """Also to root, whom permissions do not stop; and nothing is left behind, not even a folder."""
    check_folder(tmp_path / "new" / "er")
    assert names(tmp_path) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(WMRewardError, match="file is not a folder"):
        check_folder(tmp_path / "file" / "x")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for folder in (tmp_path / "link", tmp_path / "link" / "x"):
        with pytest.raises(WMRewardError, match="link is not a folder"):
            check_folder(folder)


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs Linux's /proc")
@pytest.mark.parametrize(
    "command",
    [
        "generate --prompt x --output /proc/x.mp4",
        "batch --jobs {root}/prompt/embedded_i2v.jsonl --runs /proc/x",
        "score {root}/example/balls_possible.mp4 --model tiny --output /proc/x.jsonl",
        "score {root}/example/balls_possible.mp4 --model tiny --plot --pictures /proc/x",
        "select {root}/example --model tiny --output /proc/x.jsonl",
        "select {root}/example --model tiny --copy_to /proc/x",
    ],
)
def test_no_command_blames_the_disk_for_a_place_that_takes_no_files(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert wmreward(command.format(root=ROOT).split()) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert "cannot be written to: no files can be made there; write somewhere else" in said


def test_success_replaces_the_target_and_leaves_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "new" / "result.json"
    write_text(target, "first ü\n")
    with atomic_path(target) as temporary:
        assert temporary.parent == target.parent and temporary.suffix == ".json"
        temporary.write_text("second")
        assert target.read_text(encoding="utf-8") == "first ü\n"
    assert target.read_text() == "second"
    assert names(target.parent) == ["result.json"]


@pytest.mark.parametrize("error", [RuntimeError("boom"), KeyboardInterrupt(), SystemExit(3)])
def test_failure_keeps_the_old_file_and_cleans_up(tmp_path: Path, error: BaseException) -> None:
    target = tmp_path / "result.bin"
    target.write_bytes(b"old")
    with pytest.raises(type(error)), atomic_path(target) as temporary:
        temporary.write_bytes(b"half")
        raise error
    assert target.read_bytes() == b"old"
    assert names(tmp_path) == ["result.bin"]


def test_new_files_follow_the_umask(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a", b"")
    (tmp_path / "b").write_bytes(b"")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EDQUOT])
def test_disk_errors_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(descriptor: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(WMRewardError, match="cannot write") as caught:
        write_bytes(tmp_path / "x", b"data")
    assert "\n" not in str(caught.value) and str(tmp_path / "x") in str(caught.value)
    assert names(tmp_path) == []


def test_unrelated_os_errors_pass_through(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "x"):
        (tmp_path / "missing input").read_bytes()
    with pytest.raises(PermissionError), atomic_path(tmp_path / "x"):
        raise PermissionError(errno.EACCES, "denied", "/elsewhere/input")


def test_a_folder_that_takes_no_files(tmp_path: Path) -> None:
    """As /proc, or one that is removed meanwhile: the user's name is told, not the temporary one."""
    target = tmp_path / "gone" / "x.png"
    with pytest.raises(WMRewardError) as told, atomic_path(target) as temporary:
        temporary.parent.rmdir()
        temporary.write_bytes(b"")
    assert str(told.value) == (
        f"{target}: cannot write: its folder takes no files; write somewhere else"
    )


def test_impossible_targets(tmp_path: Path) -> None:
    with pytest.raises(WMRewardError, match="is a folder"):
        write_bytes(tmp_path, b"")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(WMRewardError, match="not a folder"):
        write_bytes(tmp_path / "file" / "below", b"")
    with pytest.raises(WMRewardError, match="name is too long"):
        write_bytes(tmp_path / ("x" * 300), b"")


@pytest.mark.skipif(not Path("/dev/null").exists(), reason="needs a device file")
def test_devices_are_written_directly() -> None:
    write_bytes("/dev/null", b"data")
    assert not Path("/dev/null").is_file()


_FILL_UP = """
import resource, signal, sys
import numpy as np
from wmreward.errors import WMRewardError
from wmreward.video_io import write_video
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
noise = np.random.default_rng(0).integers(0, 255, (20, 64, 64, 3), dtype=np.uint8)
try:
    write_video(sys.argv[1], noise, 24)
except WMRewardError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs resource limits")
def test_running_out_of_space_while_encoding(tmp_path: Path) -> None:
    target = tmp_path / "noise.mp4"
    done = subprocess.run(
        [sys.executable, "-c", _FILL_UP, str(target)],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    assert done.stdout.startswith(f"{target}: cannot write: ") and done.stdout.count("\n") == 1
    assert done.stderr == ""
    assert names(tmp_path) == []


def test_interrupted_encoding_leaves_nothing(tmp_path: Path) -> None:
    def frames():  # type: ignore[no-untyped-def]
        yield np.zeros((16, 16, 3), np.uint8)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_video(tmp_path / "x.mp4", frames(), 24)
    assert names(tmp_path) == []


def test_errors_carry_what_callers_need() -> None:
    assert issubclass(UsageError, ValueError) and UsageError("x").exit_code == 2
    error = pickle.loads(pickle.dumps(VideoError("a/b.mp4", "is empty")))
    assert (str(error), error.path, error.exit_code) == ("a/b.mp4: is empty", Path("a/b.mp4"), 1)
