"""The notebook for newcomers runs as it is stored, and what it says holds."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")
pytest.importorskip("matplotlib")

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "example" / "score_a_video.ipynb"


def outputs(notebook: Any) -> list[Any]:
    return [out for cell in notebook.cells for out in cell.get("outputs", [])]


def printed(notebook: Any) -> str:
    return "".join(out.text for out in outputs(notebook) if out.output_type == "stream")


def pictures(notebook: Any) -> int:
    return sum("image/png" in out.get("data", {}) for out in outputs(notebook))


def surprises(notebook: Any) -> dict[str, float]:
    found = re.findall(r"(\w+): SurpriseResult\(([\d.]+),", printed(notebook))
    return {name: float(value) for name, value in found}


def rules(notebook: Any) -> dict[str, tuple[float, float]]:
    """Rule → surprise of the possible and of the impossible video."""
    rows = re.findall(r"(plain|excess|relative) +(-?[\d.]+) +(-?[\d.]+)", printed(notebook))
    return {rule: (float(good), float(bad)) for rule, good, bad in rows}


def test_stored_notebook_is_small_and_clean() -> None:
    text = NOTEBOOK.read_text(encoding="utf-8")
    notebook = nbformat.reads(text, as_version=4)
    assert len(text.encode()) <= 150_000, "after a run: python example/shrink_notebook.py"
    assert pictures(notebook) == 5
    counts = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1))  # run once, from top to bottom
    assert not re.search(r"/(home|root|work|tmp|Users)/", text)


def test_the_cell_of_pipelines_says_what_it_needs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where diffusers is not installed, in one line; else a video is guided, and surprises less."""
    stored = nbformat.read(NOTEBOOK, as_version=4)
    (cell,) = (cell for cell in stored.cells if "guide_pipeline" in cell.source)
    text = printed(nbformat.from_dict({"cells": [cell]}))
    plain, guided = (float(found) for found in re.findall(r"surprise ([\d.]+)", text))
    assert guided < plain and "guidance acted on" in text
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    exec(cell.source, {"importlib": importlib})
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 1 and "wmreward[diffusers]" in said[0]


# jupyter_client speaks TCP to the kernel where it is told nothing else, and says so on import or start.
def test_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a newcomer would who downloaded nothing else: in an empty folder, with the package installed."""
    alone = tmp_path / "alone"
    alone.mkdir()
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    kernel = tmp_path / "kernels" / "this"
    kernel.mkdir(parents=True)
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec = {"argv": argv, "display_name": "this environment", "language": "python"}
    kernel.joinpath("kernel.json").write_text(json.dumps(spec))

    stored = nbformat.read(NOTEBOOK, as_version=4)
    fresh = nbformat.read(NOTEBOOK, as_version=4)
    for cell in fresh.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")  # the cores are shared with other tests
    place = {"metadata": {"path": str(alone)}}
    nbclient.NotebookClient(fresh, timeout=300, kernel_name="this", resources=place).execute()

    assert all(out.output_type != "error" for out in outputs(fresh))
    assert not [out.text for out in outputs(fresh) if out.get("name") == "stderr"]
    assert pictures(fresh) == pictures(stored)
    there = importlib.util.find_spec("diffusers") is not None
    assert ("guidance acted on" if there else "skipped: ") in printed(fresh)
    values = surprises(fresh)
    assert values["impossible"] > 2 * values["possible"] > 0
    assert values == pytest.approx(surprises(stored), rel=0.02)
    assert set(rules(fresh)) == {"plain", "excess", "relative"}
    assert all(bad > good for good, bad in rules(fresh).values())
