"""The benchmarks: statistics, judges, the tables they make, and the speed measurement."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from fakes import NANO_TINY, random_model
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from vjepa21_goldens import FILE_B, FILE_G

import simworld
import vjepa2.config
from benchmarks import bench_reward
from benchmarks.intuitive_physics import benchmark as intuitive_physics
from benchmarks.intuitive_physics.benchmark import (
    View,
    cached_pairs,
    frozen_future,
    judge_pairs,
    summarise,
)
from benchmarks.intuitive_physics.conditions import CONDITIONS
from benchmarks.intuitive_physics.judges import (
    Judge,
    _flow_residual,
    baselines,
    by_ranks,
    geometry_judge,
    user_judge,
    world_model_judge,
)
from benchmarks.intuitive_physics.pair_statistics import auroc, wilson
from benchmarks.shared import machine
from simworld import Pairs
from vjepa2 import VJEPA2, get_config
from wmreward.surprise.aggregate import aggregate
from wmreward.surprise.config import SurpriseConfig
from wmreward.surprise.scorer import SurpriseScorer
from wmreward.surprise.tokens import copy_surprise

CPU = torch.device("cpu")


# --- statistics


@pytest.mark.parametrize(
    ("right", "count", "low", "high"),
    [
        (0, 10, 0.0, 0.2775),
        (5, 10, 0.2366, 0.7634),
        (10, 10, 0.7225, 1.0),
        (95, 100, 0.8882, 0.9785),
        (1, 2, 0.0945, 0.9055),
    ],
)
def test_wilson_interval_of_known_shares(right: int, count: int, low: float, high: float) -> None:
    assert wilson(right, count) == pytest.approx((low, high), abs=1e-4)


def test_wilson_interval_narrows_with_less_confidence() -> None:
    low, high = wilson(30, 60, z=1.0)
    assert high - low == pytest.approx(2 * 0.0640, abs=1e-3)  # 1 / (2 √61)


few = st.lists(st.integers(-3, 3), min_size=1, max_size=12)


@given(few, few)
def test_auroc_is_the_share_of_pairs_won(positive: list[int], negative: list[int]) -> None:
    won = sum((p > n) + 0.5 * (p == n) for p in positive for n in negative)
    ours = auroc(torch.tensor(positive).float(), torch.tensor(negative).float())
    assert ours == pytest.approx(won / len(positive) / len(negative), abs=1e-12)


def test_auroc_of_separate_scores() -> None:
    assert auroc(torch.tensor([2.0, 3.0]), torch.tensor([0.0, 1.0])) == 1
    assert auroc(torch.tensor([0.0]), torch.tensor([0.5, 1.0])) == 0
    assert auroc(torch.ones(3), torch.ones(4)) == 0.5


def test_summary_counts_ties_half_and_splits_hidden_kinds() -> None:
    low, high, tied = torch.zeros(4), torch.ones(4), torch.tensor([0.0, 0.0, 1.0, -1.0])
    summary = summarise({"kick": (low, high), "color": (low, tied), "vanish_occ": (high, low)})
    assert [row["accuracy"] for row in summary["kinds"].values()] == [1, 0.5, 0]
    assert summary["accuracy"] == pytest.approx(0.5)
    assert summary["accuracy_visible"] == pytest.approx(0.75)
    assert summary["accuracy_hidden"] == 0
    assert summary["kinds"]["kick"]["interval"] == pytest.approx(wilson(4, 4))
    assert summary["kinds"]["vanish_occ"]["auroc"] == 0
    pooled = auroc(torch.cat([high, tied, low]), torch.cat([low, low, high]))
    assert summary["pooled_auroc"] == pytest.approx(pooled)
    assert summarise({"kick": (low, high)})["accuracy_hidden"] is None


# --- judges


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rules_agree_with_the_scorer(dtype: torch.dtype) -> None:
    model = random_model(NANO_TINY, dtype=dtype)
    videos = torch.rand(2, 3, 22, 48, 64, dtype=dtype) * 2 - 1  # 4 windows
    judged = world_model_judge(model, prefix="a ", batch=3)(videos)
    expected = {}
    for score, mode in (
        ("plain", "mean"), ("plain", "max"), ("excess", "mean"), ("excess", "topk3"),
        ("relative", "topk3"),
    ):  # fmt: skip
        config = SurpriseConfig(score=score, mode=mode)  # type: ignore[arg-type]
        expected[f"a {score}/{mode}"] = SurpriseScorer(model, config)(videos)
    pixels = model.preprocess(videos)
    copied = [
        copy_surprise(model.future_latents(pixels[:, :, start : start + 16], 8)).mean(dim=(1, 2))
        for start in range(0, 7, 2)
    ]
    expected["a copy last latent/max"] = aggregate(torch.stack(copied, dim=1), "max")
    assert judged.keys() == expected.keys()
    for rule, values in expected.items():
        assert values.shape == (2,) and values[0] != values[1]
        assert (judged[rule] - values).abs().max() < 1e-5, rule


def test_few_windows_have_no_top_three() -> None:
    model = random_model(NANO_TINY)
    video = torch.rand(1, 3, 18, 64, 64).double()
    judged = world_model_judge(model)(video)
    for mode in ("mean", "max"):
        expected = SurpriseScorer(model, SurpriseConfig(mode=mode))(video)
        assert (judged[f"plain/{mode}"] - expected).abs() < 1e-9
    assert judged["plain/max"] > judged["plain/mean"]
    assert set(judged) == {
        "copy last latent/max", "plain/mean", "plain/max", "excess/mean", "relative/mean",
    }  # fmt: skip


def test_baselines_find_nothing_in_a_still_video() -> None:
    still = torch.rand(2, 3, 1, 32, 32).expand(-1, -1, 20, -1, -1)
    scores = baselines(still)
    assert len(scores) == 4
    for name, values in scores.items():
        assert values.tolist() == [0, 0], name


def test_baselines_measure_what_they_are_called() -> None:
    fading = torch.linspace(-1, 1, 21).view(1, 1, 21, 1, 1).expand(1, 3, 21, 16, 16)
    scores = baselines(fading)
    assert scores["pixel difference/max"].item() == pytest.approx(0.1, abs=1e-6)
    assert scores["motion energy/max"].item() == pytest.approx(0.01, abs=1e-6)
    assert scores["pixel acceleration/max"].item() == pytest.approx(0, abs=1e-6)


def test_baselines_take_the_worst_window() -> None:
    flash = torch.zeros(1, 3, 30, 16, 16)
    flash[:, :, 12:] = 1  # one step of 1, in a window of 8 differences
    assert baselines(flash)["pixel difference/max"].item() == pytest.approx(1 / 8)
    assert baselines(flash)["pixel acceleration/max"].item() == pytest.approx(2 / 8)


def moving(texture: Tensor, down: int, right: int, frames: int = 10) -> Tensor:
    shifted = [texture.roll((down * t, right * t), dims=(-2, -1)) for t in range(frames)]
    return torch.stack(shifted, dim=2)


@pytest.mark.parametrize("step", [(2, -3), (-4, 4), (0, 1)])
def test_flow_explains_a_translation(step: tuple[int, int]) -> None:
    video = moving(torch.rand(2, 3, 40, 40), *step)
    residual = _flow_residual(video)
    assert residual.shape == (2, 1, 9, 5, 5)
    assert residual[..., 1:-1, 1:-1].abs().max() < 1e-6  # what enters at the border is new
    assert video.diff(dim=2).abs().mean() > 0.2


def test_flow_reaches_four_pixels_and_no_further() -> None:
    assert _flow_residual(moving(torch.rand(1, 3, 40, 40), 0, 5))[..., 1:-1, 1:-1].min() > 0.05


def test_users_reward_is_the_negative_of_surprise() -> None:
    judge = user_judge(lambda videos: videos.mean(dim=(1, 2, 3, 4)), "mine")
    assert judge(torch.full((2, 3, 4, 5, 5), 0.25))["mine"].tolist() == [-0.25, -0.25]


# --- conditions


def test_conditions_change_the_videos_as_they_say() -> None:
    pattern = torch.rand(2, 3, 4, 4, 4).repeat_interleave(8, -1).repeat_interleave(8, -2)
    videos = pattern.repeat_interleave(2, dim=2) * 1.6 - 0.8  # 8 frames of 32 × 32, coarse squares
    out = {name: condition(videos) for name, condition in CONDITIONS.items()}
    assert torch.equal(out["clean"], videos)
    assert (out["noise"] - videos).std().item() == pytest.approx(0.1, rel=0.05)
    assert torch.equal(out["noise"], CONDITIONS["noise"](videos))
    assert torch.allclose(out["blur"][..., 2:6, 2:6], videos[..., 2:6, 2:6], atol=1e-6)
    assert out["blur"].std() < videos.std()
    assert torch.equal(out["half_rate"], videos[:, :, [0, 2, 4, 6]])
    assert 0 < (out["mp4"] - videos).abs().mean() < 0.15
    assert out["mp4"].min() >= -1 and out["mp4"].max() <= 1


# --- intuitive physics


@pytest.fixture(scope="module")
def pairs() -> Pairs:
    """Two real scenes; in the twins everything jumps to and fro from frame 20 on."""
    scenes = simworld.sample_scenes(2, split="id", seed=12, scenario=("flight", "roll"))
    possible = simworld.simulate(scenes, frames=40)
    looks = simworld.sample_looks(2, split="id", seed=12)
    time = torch.arange(40)
    jumps = torch.where(time < 20, time, torch.where(time % 2 == 0, 5, 19)).expand(2, -1)
    return Pairs(
        kind="kick",
        split="id",
        possible=possible,
        impossible=possible.retime(jumps),
        looks=dataclasses.replace(looks, noise=torch.full((2,), 0.002)),
        violation_frame=torch.tensor([20, 20]),
    )


def of_kind(pairs: Pairs, kind: str) -> Pairs:
    return dataclasses.replace(pairs, kind=kind)


def stillness(videos: Tensor) -> Tensor:
    """A reward that likes it quiet at the end."""
    return -videos[:, :, 21:].diff(dim=2).abs().mean(dim=(1, 2, 3, 4))


def test_pairs_are_shown_equal_until_they_differ(pairs: Pairs) -> None:
    possible, impossible = View(CPU).videos(pairs, seed=0)
    assert possible.shape == impossible.shape == (2, 3, 40, 64, 64)
    assert possible.min() >= -1 and possible.max() <= 1 and possible.min() < -0.5
    difference = (possible - impossible).abs().mean(dim=(1, 3, 4))  # noise of its own each
    assert 0 < difference[:, :20].max() < 0.03
    assert (difference[:, 30] > 1.2 * difference[:, :20].mean(dim=1)).all()
    again, _ = View(CPU).videos(pairs, seed=0)
    other, _ = View(CPU).videos(pairs, seed=1)
    assert torch.equal(again, possible) and not torch.equal(other, possible)


def test_view_has_size_and_condition(pairs: Pairs) -> None:
    view = View(CPU, 32, CONDITIONS["half_rate"])
    assert view.videos(pairs, seed=0)[1].shape == (2, 3, 20, 32, 32)


def test_every_pair_is_judged_once_and_in_order(pairs: Pairs) -> None:
    five = pairs[[0, 1, 0, 1, 1]]
    judges = {"user": user_judge(stillness, "quiet")}
    view = View(CPU, 16)
    scores = judge_pairs(judges, [five, of_kind(five, "color")], 0, view, 2)
    assert scores.keys() == {"quiet"} and scores["quiet"].keys() == {"kick", "color"}
    for possible, impossible in scores["quiet"].values():
        assert possible.shape == impossible.shape == (5,)
        assert (possible < impossible).all()
    possible, _ = scores["quiet"]["kick"]
    assert (possible[[2, 3, 4]] - possible[[0, 1, 1]]).abs().max() < 1e-3  # up to the noise
    assert (possible[0] - possible[1]).abs() > 5e-3


def last_motion(videos: Tensor) -> dict[str, Tensor]:
    """Whether anything moves by more than noise would."""
    moved = videos[:, :, 8:].diff(dim=2).abs().amax(dim=(1, 2, 3, 4))
    return {"moves": moved, "stands": -moved}


def test_frozen_future_is_frozen(pairs: Pairs) -> None:
    seen: list[Tensor] = []

    def judge(videos: Tensor) -> dict[str, Tensor]:
        seen.append(videos)
        return last_motion(videos)

    found = frozen_future(judge, [of_kind(pairs, "color"), pairs], 0, CPU)
    true, frozen = seen  # the kind in which nothing may move is left out
    whole, _ = View(CPU).videos(pairs, 0)
    assert torch.equal(true, whole[:, :, 12:28])
    assert torch.equal(frozen[:, :, :8], true[:, :, :8])
    copy = frozen[:, :, 8:] - true[:, :, 7:8]
    assert copy.std().item() == pytest.approx(0.01, rel=0.05)
    assert found.keys() == {"moves", "stands"}
    assert found["moves"]["true"] > found["moves"]["frozen"] > 0
    assert found["moves"]["preferred"] == 0 and found["stands"]["preferred"] == 1


def test_frozen_future_without_moving_kinds_is_empty(pairs: Pairs) -> None:
    assert frozen_future(last_motion, [of_kind(pairs, "color")], 0, CPU) == {}


class SameProcess(ThreadPoolExecutor):
    """In the place of a pool of processes, which would take seconds to start."""

    def __init__(self, workers: int, context: Any, initializer: Callable[[], None]) -> None:
        assert context.get_start_method() == "spawn"
        super().__init__(workers)


@pytest.fixture
def made(pairs: Pairs, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Which pairs were asked for; all of them are copies of the same two."""
    asked: list[tuple[Any, ...]] = []

    def make(kind: str, count: int, *, split: str, seed: int) -> Pairs:
        asked.append((kind, count, split, seed))
        return dataclasses.replace(pairs[[i % 2 for i in range(count)]], kind=kind, split=split)

    monkeypatch.setattr(simworld, "make_pairs", make)
    monkeypatch.setattr(intuitive_physics, "ProcessPoolExecutor", SameProcess)
    return asked


def test_pairs_are_made_once(made: list[tuple[Any, ...]], tmp_path: Path) -> None:
    folder = tmp_path / "new" / "pairs"
    first = cached_pairs(folder, "ood", ["kick", "color"], 2, 7)
    assert sorted(made) == [("color", 2, "ood", 7), ("kick", 2, "ood", 7)]
    again = cached_pairs(folder, "ood", ["color", "kick"], 2, 7)
    assert len(made) == 2
    assert [p.kind for p in first] == ["kick", "color"]
    assert [p.kind for p in again] == ["color", "kick"]
    assert torch.equal(again[1].possible.position, first[0].possible.position)
    for count, seed in ((3, 7), (2, 8)):
        cached_pairs(folder, "ood", ["kick"], count, seed)
    assert len(made) == 4


@pytest.fixture
def weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """``tiny`` is very small; here are weights for it."""
    monkeypatch.setitem(vjepa2.config.MODELS, "tiny", NANO_TINY)
    state = random_model(NANO_TINY, dtype=torch.float32).state_dict()
    path = tmp_path / "weights.safetensors"
    save_file({k: v for k, v in state.items() if not k.startswith("target_encoder.")}, path)
    return path


REWARD = """
def factory():
    from test_benchmarks import stillness
    return stillness

def small():
    def check(videos):
        assert videos.shape == (1, 3, 20, 32, 32)  # half of the frames
        return videos.mean(dim=(1, 2, 3, 4))
    return check
"""


def test_intuitive_physics_from_end_to_end(
    made: list[tuple[Any, ...]],
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "users_reward.py").write_text(REWARD)
    monkeypatch.syspath_prepend(str(tmp_path))
    judging: dict[str, VJEPA2] = {}

    def noted(model: VJEPA2, prefix: str = "") -> Judge:
        judging[prefix] = model
        return world_model_judge(model, prefix)

    monkeypatch.setattr(intuitive_physics, "world_model_judge", noted)
    words = "--device cpu --splits id --kinds kick vanish_occ --pairs 2 --seed 4 --batch 1"
    places = ["--cache", tmp_path / "pairs", "--out", tmp_path / "results", "--weights", weights]
    words += " --reward users_reward:factory"
    assert intuitive_physics.main([*words.split(), *map(str, places)]) == 0
    out = capsys.readouterr().out
    record = json.loads(out.splitlines()[-1], parse_constant=pytest.fail)
    assert {k: record[k] for k in ("benchmark", "model", "pairs", "seed", "condition", "size")} == {
        "benchmark": "intuitive_physics", "model": "tiny", "pairs": 2, "seed": 4,
        "condition": "clean", "size": 64,
    }  # fmt: skip
    assert len(record["weights_sha256"]) == 64 and record["machine"] and record["torch"]
    trained, not_trained = judging[""].encoder.state_dict(), judging["untrained "].encoder
    assert torch.equal(trained["norm.weight"], load_file(weights)["encoder.norm.weight"])
    assert not torch.equal(trained["norm.weight"], not_trained.norm.weight)
    rules = record["id"]
    for rule in ("plain/mean", "excess/mean", "untrained plain/max", "motion energy/max"):
        assert rules[rule]["kinds"].keys() == {"kick", "vanish_occ"}
    user = rules["users_reward:factory"]
    # It prefers what jumps least: always right.
    assert user["accuracy"] == 1 and user["kinds"]["kick"]["auroc"] == 1
    assert user["accuracy_visible"] == 1 and user["accuracy_hidden"] == 1

    lines = out.splitlines()
    columns = [cell.strip() for cell in lines[0].strip("|").split("|")]
    assert columns == ["id: % of pairs right", *rules]
    rows = {line.split("|")[1].strip(): line for line in lines if line.startswith("| ")}
    assert {"kick", "vanish_occ (hidden)", "mean of visible types", "pooled AUROC"} <= set(rows)
    cells = dict(zip(columns, rows["kick"].strip("|").split("|"), strict=True))
    assert cells["users_reward:factory"].strip() == "100 ± 33"  # Wilson's interval of 2 of 2
    means = [cell.strip() for cell in rows["**mean of all types**"].strip("|").split("|")][1:]
    assert means == [f"{100 * rule['accuracy']:.1f}" for rule in rules.values()]

    assert record["id_frozen_future"].keys() == {
        "copy last latent/max", "plain/mean", "plain/max", "excess/mean", "relative/mean",
    }  # fmt: skip
    for row in record["id_frozen_future"].values():
        assert row["preferred"] in (0, 0.5, 1)
    assert record["id_frozen_future"]["plain/mean"]["true"] > 0

    saved = tmp_path / "results"
    assert json.loads((saved / "intuitive_physics.json").read_text()) == record
    assert out.startswith((saved / "intuitive_physics.md").read_text())


def test_intuitive_physics_goes_on_from_its_parts(
    made: list[tuple[Any, ...]],
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    judged: list[str] = []

    def noted(model: VJEPA2, prefix: str = "") -> Judge:
        judge = geometry_judge(model, prefix)

        def of(videos: Tensor) -> dict[str, Tensor]:
            judged.append(prefix)
            if len(judged) == 4:
                raise KeyboardInterrupt
            return judge(videos)

        return of

    monkeypatch.setattr(intuitive_physics, "geometry_judge", noted)
    folder = tmp_path / "parts"
    words = [
        "--device",
        "cpu",
        "--splits",
        "id",
        "--kinds",
        "kick",
        "color",
        "--pairs",
        "1",
        "--judges",
        "geometry",
    ]
    words += ["--cache", str(tmp_path / "pairs"), "--weights", str(weights), "--parts", str(folder)]
    with pytest.raises(KeyboardInterrupt):
        intuitive_physics.main(words)
    assert [file.name for file in folder.glob("*.pt")] == ["geometry_id_kick_00000-00001.pt"]
    assert intuitive_physics.main(words) == 0
    assert len(judged) == 4 + 2  # both sides of the other kind
    record = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert "geometry/ranks" in record["id"] and "plain/mean" not in record["id"]
    low, high = record["id"]["geometry/ranks"]["interval"]
    assert low <= record["id"]["geometry/ranks"]["accuracy"] <= high + 1e-9 and high - low < 0.8
    words[words.index("geometry")] = "untrained_geometry"  # is added to what is there
    assert intuitive_physics.main(words) == 0
    assert judged[6:] == ["untrained "] * 4
    with pytest.raises(SystemExit):
        intuitive_physics.main([*words, "--seed", "1"])
    assert "parts of a run with another seed; give another folder" in capsys.readouterr().err


def test_intuitive_physics_of_other_kinds_and_conditions(
    made: list[tuple[Any, ...]],
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "other_reward.py").write_text(REWARD)
    monkeypatch.syspath_prepend(str(tmp_path))
    words = "--device cpu --splits id ood --kinds color --pairs 1 --condition half_rate --size 32"
    words += " --reward other_reward:small"
    places = ["--cache", str(tmp_path / "pairs"), "--weights", str(weights)]
    assert intuitive_physics.main([*words.split(), *places]) == 0
    record = json.loads(capsys.readouterr().out.splitlines()[-1], parse_constant=pytest.fail)
    assert record["condition"] == "half_rate" and record["size"] == 32
    assert record["ood"]["plain/mean"]["accuracy_hidden"] is None
    assert record["ood_frozen_future"] == {}
    assert [kind for kind, *_ in made] == ["color", "color"]


@pytest.mark.parametrize(
    "words", [["--kinds", "levitate"], ["--splits", "train"], ["--condition", "rain"]]
)
def test_intuitive_physics_refuses_what_there_is_not(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        intuitive_physics.main(words)
    assert "invalid choice" in capsys.readouterr().err


# --- speed


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_reward, "matmul_rate", lambda *_: 1e12)
    monkeypatch.setitem(vjepa2.config.MODELS, "tiny", NANO_TINY)


WORDS = "--model tiny --device cpu --frames 17 --strides 8 --repeats 1"


def test_bench_reward_measures_and_checks(quick: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench_reward.main(WORDS.split()) == 0
    printed = capsys.readouterr()
    record = json.loads(printed.out, parse_constant=pytest.fail)
    assert record["benchmark"] == "reward" and record["model"] == "tiny"
    rows = {(row["what"], row["who"]): row for row in record["rows"]}
    assert rows.keys() == {
        (what, who) for what in ("score", "gradient") for who in ("reference", "ours")
    }
    for (what, _), row in rows.items():
        assert row["seconds"] > 0 and row["stride"] == 8 and row["windows"] == 1
        assert row["peak_gib"] is None
        assert ("of_matmul_rate" in row) == (what == "score")
    ours = rows["score", "ours"]
    assert ours["error"] < 1e-5
    assert ours["of_matmul_rate"] == pytest.approx(
        bench_reward.flops(NANO_TINY, 1, 16, 8) / ours["seconds"] / 1e12
    )
    assert "score error against float32" in printed.err
    assert len([line for line in printed.err.splitlines() if "windows" in line]) == 4


def test_bench_reward_can_leave_the_reference_out(
    quick: None, capsys: pytest.CaptureFixture[str]
) -> None:
    bench_reward.main([*WORDS.replace("17", "33").split(), "--skip_reference", "--batch", "2"])
    record = json.loads(capsys.readouterr().out)
    assert [(row["who"], row["windows"]) for row in record["rows"]] == [("ours", 3)] * 2
    assert record["rows"][0]["error"] < 1e-5  # checked all the same


def test_both_ways_give_the_same_score_and_gradient() -> None:
    model = bench_reward.random_model(NANO_TINY, CPU)
    video = torch.rand(1, 3, 21, 64, 64) * 2 - 1
    config = SurpriseConfig(stride=2)
    reference = partial(bench_reward.reference_score, model, config=config)
    ours = SurpriseScorer(model, config, grad_batch_size=2).score_and_gradient(video)
    assert (reference(video) - ours.scores).abs().item() < 1e-5
    gradient = bench_reward.gradient(reference, video)
    assert gradient.abs().max() > 0
    assert (gradient - ours.gradient).abs().max() < 1e-5 * gradient.abs().max() + 1e-8


def test_random_weights_are_the_same_each_time() -> None:
    one, two = (bench_reward.random_model(NANO_TINY, CPU) for _ in range(2))
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        assert torch.equal(a, b) and not a.requires_grad
    weight = one.encoder.patch_embed.proj.weight
    assert weight.std().item() == pytest.approx(0.02, rel=0.1)


def test_operations_are_counted() -> None:
    """Against PyTorch's own count of one window, in which attention on a CPU is missing."""
    config = dataclasses.replace(NANO_TINY, width=128, depth=2, heads=2, mlp_width=512)
    config = dataclasses.replace(
        config, predictor=dataclasses.replace(NANO_TINY.predictor, width=128)
    )
    model = bench_reward.random_model(config, CPU)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.future_latents(torch.zeros(1, 3, 16, 64, 64), 8)
    attention = 4 * 128 * (2 * (256**2 + 512**2) + 512**2)
    counted = counter.get_total_flops()
    ours = bench_reward.flops(config, 1, 16, 8)
    operators = {str(name) for name in counter.get_flop_counts()["Global"]}
    if not any("attention" in name for name in operators):
        counted += attention
    # Embeddings and projections are not counted by us.
    assert 0.85 * counted < ours < counted
    assert bench_reward.flops(config, 3, 16, 8) == 3 * ours


TFLOP = {
    ("vitg", None, None): 7.56,
    ("vitg384", None, None): 20.55,
    ("vitb21", None, "student"): 3.35,
    ("vitb21", 256, "student"): 1.05,
    ("vitl21", 256, "student"): 2.71,
    ("vitb21", None, None): 24.95,
    ("vitl21", 256, "teacher"): 9.78,
    ("vitg21", None, None): 21.18,
    ("vitG21", None, None): 35.19,
    ("vitG21", 256, None): 13.36,
}
"""Of one window, forward: model, crop and what is observed, as published with the model's description."""


@pytest.mark.parametrize("case", TFLOP, ids=str)
def test_operations_of_the_released_sizes(case: tuple[str, int | None, Any]) -> None:
    name, crop, observed = case
    ours = bench_reward.flops(get_config(name, crop), 1, 16, 8, observed=observed)
    assert ours / 1e12 == pytest.approx(TFLOP[case], rel=0.02)


def test_a_row_for_each_model_of_21(
    quick: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(vjepa2.config.MODELS, "vitb21", FILE_B)
    monkeypatch.setitem(vjepa2.config.MODELS, "vitG21", FILE_G)
    words = WORDS.replace("tiny", "vitb21 vitG21").split()
    assert bench_reward.main([*words, "--observed", "student", "--crop", "48"]) == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    found = [(record["model"], record["crop"], record["observed"]) for record in records]
    assert found == [("vitb21", 48, "student"), ("vitG21", 48, "own")]
    assert all(row["error"] < 1e-5 for r in records for row in r["rows"] if "error" in row)


def test_time_is_the_median_after_a_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 5.0, 10.0, 11.0, 20.0, 22.0])
    monkeypatch.setattr(machine.time, "perf_counter", clock.__next__)
    calls: list[None] = []
    seconds, peak = machine.median_and_peak(lambda: calls.append(None), CPU, 3)
    assert (seconds, peak) == (2.0, None)
    assert len(calls) == 4


def test_rate_counts_two_operations_per_product(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes: list[torch.Size] = []

    def timed(function: Callable[[], Tensor], *_: object) -> Iterable[float]:
        shapes.append(function().shape)
        return [3.0, 2.0, 9.0]

    monkeypatch.setattr(machine, "seconds", timed)
    rate = machine.matmul_rate(CPU, torch.float32)
    assert rate == pytest.approx(2 * shapes[0][0] ** 3 / 3)


def test_machine_is_described() -> None:
    head = machine.describe(CPU)
    assert head["machine"].endswith(f"{torch.get_num_threads()} threads")
    assert head["torch"] == torch.__version__
    assert head["python"] == ".".join(map(str, sys.version_info[:3]))
    json.dumps(head)


# --- geometry


def test_geometry_judges_each_clip_and_ranks_pairs() -> None:
    model = random_model(NANO_TINY, dtype=torch.float64)
    judge = geometry_judge(model, prefix="a ")
    generator = torch.Generator().manual_seed(0)
    sides = [torch.rand(3, 3, 24, 64, 64, generator=generator).double() for _ in range(2)]
    judged = [judge(side) for side in sides]
    assert len(judged[0]) == 6 and all(value.shape == (3,) for value in judged[0].values())
    scores = {rule: {"kick": (judged[0][rule], judged[1][rule])} for rule in judged[0]}
    worse = by_ranks(scores, "a ")["a geometry/ranks"]["kick"]
    signals = [rule for rule in scores if ": " in rule]
    expected = torch.stack([(judged[1][r] > judged[0][r]).float() for r in signals]).mean(dim=0)
    torch.testing.assert_close(worse[1], expected)
    torch.testing.assert_close(worse[0], 1 - expected)
    assert judge(sides[0][:, :, :20]) == {} and by_ranks({}) == {}  # too short for a trajectory
