"""The benchmark of guided pipelines, with the smallest networks."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

pytest.importorskip("diffusers")

from fakes import NANO

import vjepa2.config
from benchmarks.bench_pipelines.benchmark import main
from benchmarks.bench_pipelines.models import MODELS


def test_table_and_json(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(vjepa2.config.MODELS, "tiny", replace(NANO, name="tiny"))
    flags = ["--models", "nano", "--device", "cpu", "--dtype", "float32", "--reward_model", "tiny"]
    assert main([*flags, "--pieces", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    told = json.loads(lines[-1])
    (row,) = told["rows"]
    assert (
        row["plain"]["seconds"] > 0 and row["guided"]["seconds"] > row["guided"]["guidance_s"] > 0
    )
    assert row["guided"]["economy"]["pieces"] == 3
    assert lines[1].startswith("nano") and "time" in lines[1] and "pieces 3" in lines[1]


def test_real_sizes_are_those_of_the_published_models() -> None:
    """Parameters in billions, counted without making them."""
    counted = {}
    for name, model in MODELS.items():
        pipe = model.make(torch.device("meta"), torch.float32)
        counted[name] = sum(p.numel() for p in pipe.transformer.parameters()) / 1e9
    expected = {
        "wan-1.3b": 1.42,
        "wan-14b": 14.3,
        "wan2.2-5b": 5.0,
        "cogvideox-5b": 5.57,
        "ltx": 1.92,
    }
    for name, billions in expected.items():
        assert counted[name] == pytest.approx(billions, rel=0.02), name
