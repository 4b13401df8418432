"""`wmreward app` before the page is there: its flags, its extra, its port, its models."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

import vjepa2.files.sources
from vjepa2 import MODELS
from wmreward.app import server
from wmreward.app.cli import main
from wmreward.app.models import offered
from wmreward.app.server import HOST, serve
from wmreward.errors import UsageError, WMRewardError


def error_of(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    assert main(argv) == 2
    line = capsys.readouterr().err.strip()
    assert line.startswith("error: ") and "\n" not in line
    return line


def test_without_gradio_the_extra_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "find_spec", lambda _: None)
    assert "needs gradio" in (line := error_of(capsys)) and "[app]" in line


def test_flags(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "check_extra", lambda: None)
    assert "--host" in error_of(capsys, "--host", "0.0.0.0"), "only this computer sees the page"
    assert "--port" in error_of(capsys, "--port", "65536")
    assert "nope" in error_of(capsys, "--model", "nope")
    assert "robot" in error_of(capsys, "--model", "vitgac")
    assert "cuda:99" in error_of(capsys, "--device", "cuda:99")


def test_a_port_that_is_taken() -> None:
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(WMRewardError, match=f"port {port} cannot be had .*--port"):
            serve(port, ["tiny"])


def test_models_whose_weights_are_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VJEPA_CHECKPOINT_DIR", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: None)
    assert offered() == ["tiny", "referee"]
    for name in ("vitl", "vitgac", "vitb21"):
        (tmp_path / vjepa2.files.sources.OFFICIAL_FILES[name]).touch()
    assert offered() == ["tiny", "referee", "vitl"], (
        "vitb21 needs its teacher, vitgac what a robot did"
    )
    assert offered("vitl") == ["vitl", "tiny", "referee"]
    (tmp_path / vjepa2.files.sources.OFFICIAL_FILES["vitG21"]).touch()
    assert set(offered()) == {"tiny", "referee", "vitl", "vitb21", "vitG21"}
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: str(tmp_path))
    assert set(offered()) >= {"vitg", "vith", "vitg384"}
    with pytest.raises(UsageError):
        offered("nope")
    assert set(offered()) < MODELS.keys()
