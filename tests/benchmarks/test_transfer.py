"""Scenes of another simulator: what pairs must be, and the benchmark's command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from fakes import NANO_TINY
from torch import Tensor

import vjepa2.config
from benchmarks.transfer import benchmark
from benchmarks.transfer.benchmark import film_pair, judge_films, load
from benchmarks.transfer.scenes import FRAMES, Body, Break, Scene, mirrored, play
from benchmarks.transfer.twins import DIVERGENCE, KINDS, make_pair
from simworld import VIOLATIONS
from vjepa2 import VJEPA2
from vjepa2.files.checkpoint import WeightsInfo

pytest.importorskip("pymunk")
pytest.importorskip("PIL")


def test_engine_obeys_newton() -> None:
    """A ball in free flight follows its parabola; mirrored scenes are mirrored films."""
    scene = Scene((Body("circle", 0.06, (0.2, 0.6), (0.3, 0.5), elasticity=0.8),), 0.1, 1.5)
    film = play(scene)
    time = np.arange(12) / 24
    assert np.allclose(film.position[:12, 0, 0], 0.2 + 0.3 * time, atol=1e-3)
    # Steps of 1/240 s: the engine's first-order rule is late by half a step.
    assert np.allclose(film.position[:12, 0, 1], 0.6 + 0.5 * time - 0.75 * time**2, atol=4e-3)
    assert film.position[:, 0, 1].min() > 0.1 + 0.06 - 0.01  # the floor carries it
    other = play(mirrored(scene))
    assert np.allclose(other.position[:, 0, 0], 1 - film.position[:, 0, 0], atol=1e-6)
    lifted = play(scene, Break(10, gravity=-1.0))
    assert np.array_equal(lifted.position[:10], film.position[:10])
    assert lifted.position[-1, 0, 1] > 1


@pytest.mark.parametrize("kind", KINDS)
def test_twins_share_their_beginning_and_then_differ(kind: str) -> None:
    pair = make_pair(kind, np.random.default_rng([1, len(kind)]))
    a, b, frame = pair.possible, pair.impossible, pair.frame
    names = ("position", "angle", "there", "other_shape", "other_color")
    differs = [
        (getattr(a, n) != getattr(b, n)).reshape(FRAMES, -1).any(-1) for n in names if n != "angle"
    ]
    first = int(np.stack(differs).any(0).argmax())
    if kind == "reverse_all":
        assert frame == 0 and np.array_equal(a.position[::-1], b.position)
        return
    # The engine's answer to a break at a frame is seen in that frame or the next.
    assert frame <= first <= frame + 1 and 12 <= frame <= 32
    if kind in ("teleport", "kick", "hover_stop", "gravity_flip", "pass_wall", "freeze_all"):
        gap = np.linalg.norm(a.position[:, 0] - b.position[:, 0], axis=-1)
        assert gap[frame : frame + 13].max() > DIVERGENCE
    if kind.endswith("_occ"):
        assert pair.scene.screen is not None
        left, _, right, top = pair.scene.screen.edges
        x, y = a.position[frame, 0]
        assert left < x < right and y < top


def test_every_kind_has_a_maker() -> None:
    assert set(KINDS) == set(VIOLATIONS)


def test_films_are_made_once_and_are_small_videos(tmp_path: Path) -> None:
    paths = film_pair("color", 0, 3, tmp_path)
    before = [path.stat().st_mtime_ns for path in paths]
    assert [path.stat().st_mtime_ns for path in film_pair("color", 0, 3, tmp_path)] == before
    possible, impossible = (load(path) for path in paths)
    assert possible.shape == (1, 3, FRAMES, 128, 128) and possible.abs().max() <= 1
    gap = (possible - impossible).abs().mean(dim=(0, 1, 3, 4))
    assert gap[:12].max() < 0.003 < gap[-8:].max()
    elsewhere = tmp_path / "again"
    elsewhere.mkdir()
    again = film_pair("color", 0, 3, elsewhere)
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in paths]


def test_judges_see_both_sides(tmp_path: Path) -> None:
    def brightness(video: Tensor) -> dict[str, Tensor]:
        return {"brightness": video.mean(dim=(1, 2, 3, 4))}

    scores = judge_films([brightness], ["vanish"], 2, 0, tmp_path, torch.device("cpu"))
    possible, impossible = scores["brightness"]["vanish"]
    assert len(possible) == len(impossible) == 2 and not torch.equal(possible, impossible)


def test_command_reports_rules_and_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def nano(name: str, **_: object) -> tuple[VJEPA2, WeightsInfo]:
        info = WeightsInfo(name, "test", (), "0" * 64, "online", "online", 0, (), 64)
        return VJEPA2(NANO_TINY).requires_grad_(False), info

    monkeypatch.setitem(vjepa2.config.MODELS, "tiny", NANO_TINY)
    monkeypatch.setattr(benchmark, "load_model", nano)
    words = ["--pairs", "1", "--kinds", "kick", "--cache", str(tmp_path), "--device", "cpu"]
    assert benchmark.main([*words, "--controls", "--out", str(tmp_path / "out")]) == 0
    record = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert record["weights_sha256"] == "0" * 64 and record["pairs"] == 1
    assert {"plain/mean", "excess/mean", "untrained plain/max"} <= record["rules"].keys()
    assert record["rules"]["plain/mean"]["accuracy"] in (0.0, 0.5, 1.0)
    assert (tmp_path / "out" / "transfer.md").read_text().startswith("| transfer: % of pairs")
    monkeypatch.setattr(benchmark, "find_spec", lambda name: None)
    with pytest.raises(SystemExit) as refused:
        benchmark.main(words)
    assert refused.value.code == 2
    assert "pip install 'wmreward[dev]'" in capsys.readouterr().err
