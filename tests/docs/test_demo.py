"""`make demo`, quicker: its files are there, and its five sentences say what they show.

It takes fewer denoising steps and fewer windows. That all windows of its two clips say the same is in the
README, whose commands docs/test_commands.py runs.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import pytest
from markdown_pages import ROOT

pytest.importorskip("matplotlib")


def test_demo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path, str(ROOT / "example")])
    import demo
    import readme_picture

    scored = partial(readme_picture.compute_vjepa_surprise, stride=8)
    monkeypatch.setattr(readme_picture, "compute_vjepa_surprise", scored)
    assert demo.main(["--out", str(tmp_path), "--num_steps", "4"]) == 0
    said = capsys.readouterr()
    sentences = said.out.strip().splitlines()
    assert [line[:2] for line in sentences] == ["1.", "2.", "3.", "4.", "5."]
    for name in ("pendulum.mp4", "twins.png", "steered.png"):
        assert str(tmp_path / name) in said.out and (tmp_path / name).stat().st_size > 1000
    assert float(sentences[1].split(" times")[0].split()[-1]) > 2
    assert all(f"{part} of 3" in said.err for part in (1, 2, 3))
    assert (tmp_path / "steered.compare.mp4").exists()


def test_make_runs_it() -> None:
    assert "python example/demo.py" in (ROOT / "Makefile").read_text()
