"""MAGI-1 as a pipeline of diffusers makes what its own loop makes, guided or not: with nano models."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from fakes import NANO_TINY, random_model
from magi1_fakes import write_nano
from torch import Tensor

pytest.importorskip("diffusers")

from benchmarks.physics_repair.guides import BEFORE, GuideMaker, GuideSettings
from benchmarks.pipeline_repair import benchmark, shrunk
from benchmarks.pipeline_repair.benchmark import WAYS
from benchmarks.pipeline_repair.pipeline import MagiPipeline
from benchmarks.shared import magi_generator
from magi1.errors import MagiUsageError

CPU = torch.device("cpu")
PROMPTS, SEEDS = ["a red ball falls", ""], [3, 5]


@pytest.fixture(scope="module")
def nano(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Configuration file of a nano model."""
    return write_nano(tmp_path_factory.mktemp("nano"))


def prefix(frames: int = 24) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (2, 3, frames, 16, 16), generator=generator) / 255


def made(way: str, nano: Path, maker: GuideMaker | None = None) -> Tensor:
    generator = WAYS[way](device=CPU, config=nano, make_guide=maker)
    return generator.continue_video(prefix(), 24, PROMPTS, SEEDS)


@pytest.mark.parametrize(
    "changes", [{"stride": 8}, {"stride": 4}, {"reward": "seam", "frame_strides": (1, 2, 3)}]
)
def test_both_ways_make_the_same_videos(nano: Path, changes: dict[str, Any]) -> None:
    """Also the guided ones, whose rewards see 8 or 12 given frames, or all where these end; guidance is no
    trifle.
    """
    model = random_model(NANO_TINY, dtype=torch.float32)
    settings = GuideSettings(**BEFORE | {"scale": 0.3, "times": (0.0, 0.9)} | changes)
    plain, guided, steps = [], [], []
    for way in WAYS:
        plain.append(made(way, nano))
        maker = GuideMaker(settings, model, windows=8, measure=True)
        guided.append(made(way, nano, maker))
        steps.append(maker.records)
    torch.testing.assert_close(*plain, rtol=0, atol=1e-5)
    torch.testing.assert_close(*guided, rtol=0, atol=1e-4)
    assert (guided[0] - plain[0]).abs().max() > 0.01
    assert len(steps[0]) == len(steps[1]) > 2
    for own, other in zip(*steps, strict=True):
        assert own.steps == other.steps and own.scales == other.scales
        for name in ("before", "after", "gradient_norm", "change"):
            assert getattr(other, name) == pytest.approx(getattr(own, name), rel=1e-3)


def test_only_one_chunk_is_continued(nano: Path) -> None:
    """More of them would be in flight together, each at its own time, which pipelines know nothing of."""
    magi = magi_generator.tiny(device=CPU, config=nano)
    for given, new in ((24, 48), (4, 20)):
        asked = magi.ask(PROMPTS, new, prefix(given))
        with pytest.raises(MagiUsageError, match="by one chunk"):
            MagiPipeline(magi, 8)(asked, torch.zeros(2, 16, 6, 2, 2))


def test_the_benchmark_of_smaller_videos(
    nano: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A row for each scene, and for each mean of two; the exact gradient leads up."""
    loaded = SimpleNamespace(model=random_model(NANO_TINY, dtype=torch.float32))
    monkeypatch.setattr(shrunk, "load", lambda _: loaded)
    made = functools.partial(magi_generator.tiny, config=nano)
    monkeypatch.setattr(shrunk.magi_generator, "tiny", made)
    assert shrunk.main(["--scenes", "2", "--size", "32", "--step", "1e-3", "--device", "cpu"]) == 0
    *table, line = capsys.readouterr().out.splitlines()
    rows = json.loads(line)["rows"]
    assert [row["of"] for row in rows] == 2 * ["scene"] + 2 * ["mean of two"]
    for row in rows:
        assert row["error"] > 0 and abs(row["cosine"]) < 1
        assert row["gain exact"] > max(0, row["gain random"])
    assert table[2].startswith("| scene | ") and table[3].startswith("| mean of two | ")


def test_the_benchmark_tells_how_far_they_are_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    nano = write_nano(tmp_path, video_size_h=64, video_size_w=64)
    loaded = SimpleNamespace(model=random_model(NANO_TINY, dtype=torch.float32))
    monkeypatch.setattr(benchmark, "load", lambda _: loaded)
    settings = json.dumps({"config": str(nano), "num_steps": 4})
    call = ["--scenes", "1", "--candidates", "4", "--guided", "1", "--stride", "8"]
    assert benchmark.main([*call, "--settings", settings, "--device", "cpu"]) == 0
    *text, line = capsys.readouterr().out.splitlines()
    record = json.loads(line)
    for name, of in record["videos"].items():
        assert of["most"] < 1e-3, name
    assert record["videos"]["guidance"]["mean change by guidance"] > 1e-3
    assert record["steps"]["count"] > 0 and record["steps"]["gradient_norm"] < 1e-2
    best = record["rows"]["best of 4 by top, seam 1"]["position"]
    assert best["own"] == pytest.approx(best["diffusers"], abs=1e-3, nan_ok=True)
    assert any(row.startswith("| best of 4 by top, seam 1 | position |") for row in text)
