"""The benchmark of guided pipelines, with the smallest networks."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import torch

pytest.importorskip("diffusers")

from fakes import NANO

import vjepa2.config
from benchmarks.bench_pipelines.benchmark import lines_of, main
from benchmarks.bench_pipelines.models import MODELS
from wmreward.protocols import RewardScores
from wmreward.rewards.world import SurpriseReward


@pytest.fixture
def flags(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Of the smallest networks."""
    monkeypatch.setitem(vjepa2.config.MODELS, "tiny", replace(NANO, name="tiny"))
    return ["--device", "cpu", "--dtype", "float32", "--reward_model", "tiny"]


def test_table_and_json(capsys: pytest.CaptureFixture[str], flags: list[str]) -> None:
    assert main([*flags, "--models", "nano:plain,guided,on_host,pieces"]) == 0
    *table, last = capsys.readouterr().out.splitlines()
    (row,) = json.loads(last)["rows"]
    kinds = ["plain", "guided", "on_host", "pieces", "decode"]
    assert [step["kind"] for step in row["steps"]] == kinds
    assert [line.split()[2] for line in table[1:]] == kinds
    _, guided, on_host, pieces, _ = row["steps"]
    assert guided["seconds"] > guided["guidance_s"] > 0
    assert on_host["economy"]["on_host"] and not guided["economy"]["on_host"]
    assert pieces["economy"]["pieces"] == 4 and not pieces["economy"]["on_host"]
    assert "time" in table[2] and "pieces 4, grad_batch 4, error" in table[4]
    assert not any(step["tries_failed"] for step in (guided, on_host, pieces))


def test_smaller_steps(capsys: pytest.CaptureFixture[str], flags: list[str]) -> None:
    """Each kind tells its own error."""
    kinds = "nano:scored,shrunk,lean,guided"
    assert main([*flags, "--models", kinds, "--size", "32", "32", "21"]) == 0
    *table, last = capsys.readouterr().out.splitlines()
    scored, shrunk, lean, guided, _ = json.loads(last)["rows"][0]["steps"]
    assert shrunk["economy"]["shrink"] == lean["economy"]["shrink"] == 2
    assert lean["economy"]["scored"] == 5 and shrunk["economy"]["scored"] is None
    assert len({*scored["errors"], *shrunk["errors"], *lean["errors"]}) == 3
    assert guided["errors"] == [] and "scored 5, shrink 2, grad_batch 4, error" in table[3]


def test_steps_end_at_the_limit(capsys: pytest.CaptureFixture[str], flags: list[str]) -> None:
    assert main([*flags, "--models", "nano:plain,guided", "--limit_s", "0"]) == 0
    (row,) = json.loads(capsys.readouterr().out.splitlines()[-1])["rows"]
    assert [step["kind"] for step in row["steps"]] == ["plain", "decode"]


def test_failures_are_told_and_others_go_on(
    capsys: pytest.CaptureFixture[str], flags: list[str]
) -> None:
    assert main([*flags, "--models", "nano:guided", "nano:plain", "--size", "32", "32", "5"]) == 1
    *table, last = capsys.readouterr().out.splitlines()
    rows = json.loads(last)["rows"]
    assert len(rows) == 2 and all("the reward needs 16 frames" in row["failed"] for row in rows)
    assert "failed" in table[1] and "failed" in table[2]


def test_memory_that_runs_out_is_told(
    capsys: pytest.CaptureFixture[str], flags: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, full = SurpriseReward.__call__, [True, True]

    def call(self: SurpriseReward, videos: torch.Tensor) -> RewardScores:
        if full:
            full.pop()
            raise torch.OutOfMemoryError("CUDA out of memory")
        return plain(self, videos)

    monkeypatch.setattr(SurpriseReward, "__call__", call)
    assert main([*flags, "--models", "nano:guided,guided"]) == 0
    *table, last = capsys.readouterr().out.splitlines()
    first, second, _ = json.loads(last)["rows"][0]["steps"]
    assert first["tries_failed"] and not second["tries_failed"]
    assert second["economy"]["apart"] and second["economy"]["grad_batch"] == 1
    assert table[1].endswith("apart True, grad_batch 1")


def guided_step(**changes: Any) -> dict[str, Any]:
    economy: dict[str, Any] = {"apart": False, "on_host": False, "grad_batch": 4}
    economy |= dict.fromkeys(("pieces", "scored", "shrink"))
    found = {"kind": "guided", "seconds": 1.5, "guidance_s": 0.5, "economy": economy, "errors": []}
    return found | {"tries_failed": False} | changes


def test_plain_memory_is_without_the_reward() -> None:
    steps = [
        {"kind": "plain", "seconds": 1.0, "peak_gib": 5.0},
        guided_step(peak_gib=9.0),
        {"kind": "decode", "seconds": 1.0, "peak_gib": 8.0},
    ]
    lines = lines_of({"steps": steps}, reward_gib=2.0)
    assert (lines["plain"].peak_gib, lines["guided"].peak_gib) == (6.0, 9.0)


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
