"""Files that users name: one line for whatever is not a file, and never a wait."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from wmreward.errors import FileError, UsageError, VideoError
from wmreward.files import check_regular, open_regular

POINTER = (
    "version https://git-lfs.github.com/spec/v1\n"
    "oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n"
)


def test_a_file_is_opened_at_its_start(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"some content, longer than a pointer's first words")
    (tmp_path / "link").symlink_to("a")
    for name in ("a", "link"):
        with open_regular(tmp_path / name) as file:
            assert file.read() == b"some content, longer than a pointer's first words"
    (tmp_path / "empty").touch()
    with open_regular(str(tmp_path / "empty"), empty=True) as file:
        assert file.read() == b""


def test_what_is_not_a_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty").touch()
    (tmp_path / "pointer").write_text(POINTER)
    (tmp_path / "page").write_text(
        "\ufeff\n<!DOCTYPE HTML>\n<html><body>Please sign in</body></html>"
    )
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "to_pipe").symlink_to("pipe")
    (tmp_path / "file").write_text("x")
    with socket.socket(socket.AF_UNIX) as unix:
        # Socket names are short: bound from inside the folder.
        before = Path.cwd()
        os.chdir(tmp_path)
        unix.bind("socket")
        os.chdir(before)
    for name, reason in {
        "pipe": "is not a regular file but a pipe",
        "to_pipe": "is not a regular file but a pipe",
        "socket": "is not a regular file but a socket",
        "/dev/zero": "is not a regular file but a device",
        "folder": "is a folder",
        "empty": "is empty",
        "pointer": "git lfs pull",
        "page": "is a web page",
        "loop": "leads in circles",
        "dangling": "no such file",
        "missing": "no such file",
        "file/inside": "not a folder",
        "x" * 300: "longer than a file name",
        "null\0byte": "no file can have this name",
    }.items():
        path = tmp_path / name
        with pytest.raises(FileError, match=reason) as caught:
            check_regular(path)
        assert "\n" not in str(caught.value) and caught.value.path == path


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_no_permission(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("x")
    (tmp_path / "mine").chmod(0)
    with pytest.raises(FileError, match="permission denied"):
        open_regular(tmp_path / "mine")


def test_the_caller_chooses_the_error(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="no such file"):
        check_regular(tmp_path / "x.mp4", refuse=VideoError)
    with pytest.raises(UsageError, match=r"--list .*x\.txt: no such file"):
        check_regular(
            tmp_path / "x.txt", refuse=lambda path, why: UsageError(f"--list {path}: {why}")
        )


def test_a_large_text_about_lfs_is_no_pointer(tmp_path: Path) -> None:
    (tmp_path / "a").write_text(POINTER * 20)
    check_regular(tmp_path / "a")
