"""The generator's benchmark in small: every part runs, and its arithmetic is the model's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from processes import Started

from benchmarks.bench_generate import benchmark as bench_generate
from benchmarks.bench_generate.workload import Scene, bench_config, random_dit
from magi1.planning.costs import work_as_run
from magi1.sampling.schedule import VideoLayout
from magi1.transformer.dit import DiT

ROOT = Path(__file__).parents[2]
SMALL = ["--model", "nano", "--device", "cpu", "--sizes", "32x48", "--repeats", "1"]


def by_name(result: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    rows = {(row["what"], row["who"]): row for row in result["rows"]}
    assert len(rows) == len(result["rows"])
    return rows


def test_one_process(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    compiled: list[DiT] = []
    monkeypatch.setattr(DiT, "compile_layers", lambda dit: compiled.append(dit))
    monkeypatch.setattr(bench_generate, "matmul_rate", lambda *_: 1e12)
    assert bench_generate.main([*SMALL, "--layers", "2", "--compile"]) == 0
    assert len(compiled) == 1
    printed = capsys.readouterr()
    result = json.loads(printed.out)
    assert (result["layers"], result["layers_run"], result["processes"]) == (4, 2, 1)
    rows = by_name(result)
    transformer = ("chunk", "window", "step", "window grad")
    expected = {(what, who) for what in transformer for who in ("reference", "eager", "compiled")}
    expected |= {(what, "offloaded") for what in ("chunk", "window", "step")}
    expected |= {("decode", "eager"), ("decode grad", "eager")}
    expected |= {("attention", "default"), ("attention", "flash")}
    assert rows.keys() == expected
    for (what, who), row in rows.items():
        assert row["seconds"] > 0 and row["peak_gib"] is None and row["devices"] == 1
        assert ("all_layers_seconds" in row) == (what in transformer)
        assert ("of_matmul_rate" in row) == (what != "decode grad")
        if who in ("eager", "compiled", "offloaded") and what in transformer:
            assert row["error"] < 1e-5
            assert row["times_reference"] == rows[what, "reference"]["seconds"] / row["seconds"]
            assert row["all_layers_seconds"] == 2 * row["seconds"]
    assert rows["window", "offloaded"]["error"] == rows["window", "compiled"]["error"]
    assert printed.err.count("\n") >= len(rows) + 2


def test_two_processes(tmp_path: Path) -> None:
    words = [*SMALL, "--parts", "forward", "gradient", "vae", "--skip_reference"]
    module = "benchmarks.bench_generate.benchmark"
    ended = Started(module, words, tmp_path, ranks=2, streams=tmp_path).end()
    assert ended.code == 0, ended.err[-2000:]
    rows = by_name(json.loads(ended.out))
    for what in ("chunk", "window", "step", "window grad", "decode", "decode grad"):
        alone, together = rows[what, "eager"], rows[what, "together"]
        assert together["devices"] == 2 and together["error"] < 1e-5
        assert together["times_one_device"] == alone["seconds"] / together["seconds"]


@pytest.mark.parametrize("model", ["nano", "nano-fp8"])
def test_arithmetic_is_that_of_the_cost_model(model: str) -> None:
    config, cpu = bench_config(model, "32x48", 1), torch.device("cpu")
    dit = random_dit(config.model_config, cpu, fp8=config.engine_config.fp8_quant)
    scene = Scene(config, dit, cpu)
    assert [stop - start for start, stop in scene.call.ranges] == [2, 3, 4, 5]
    work = work_as_run(config, VideoLayout(0, 6, 8), [scene.call])
    cached = scene.product_flops() + scene.attention_flops()  # counted there as a prefix, if at all
    assert work.flop - scene.flops("step") in (0, pytest.approx(cached))


@pytest.mark.parametrize(("model", "billions"), [("4.5B", 4.46), ("24B", 23.9)])
def test_real_sizes(model: str, billions: float) -> None:
    """With the numbers of operations that the published shapes give: TFLOP of one chunk of 720 × 720."""
    config = bench_config(model, "720x720", 2)
    with torch.device("meta"):
        dit = DiT(config.model_config)
    assert sum(p.numel() for p in dit.parameters()) / 1e9 == pytest.approx(billions, abs=0.01)
    scene = object.__new__(Scene)
    scene.config, scene.dit = config, dit
    products, attention = {"4.5B": (98.8, 61.7), "24B": (543, 174)}[model]
    assert scene.attention_flops() / 1e12 == pytest.approx(attention, rel=0.01)
    assert scene.product_flops() / 1e12 == pytest.approx(products, rel=0.02)
