"""Choosing in one call of Python: among files and arrays, and among what a function makes of seeds."""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cli_fixtures import write_clip
from fakes import LinearWorldModel, random_model
from run_rewards import Bright
from torch import Tensor

from wmreward import (
    RewardMix,
    RewardScores,
    SurpriseConfig,
    SurpriseReward,
    SurpriseScorer,
    UsageError,
    VideoError,
    VideoWarning,
    best_of_n,
    select_best,
)
from wmreward.errors import RewardError
from wmreward.search import calls
from wmreward.select.cli import main as select
from wmreward.surprise.sampling import Sampling

SMALL = SurpriseConfig(window_size=6, context_frames=4)


def clip(level: int, count: int = 8, side: int = 16) -> np.ndarray:
    noise = np.random.default_rng(level).integers(0, 20, (count, side, side, 3))
    return (level + noise).astype(np.uint8)


# --- among videos that are there


def test_arrays_tensors_and_lengths() -> None:
    choice = select_best([clip(10), torch.from_numpy(clip(200, 12)), list(clip(90))], Bright())
    assert choice.order == [1, 2, 0] and choice.winner.name == "video 1"
    assert choice.totals == choice.table["bright"]
    assert choice.totals[0] == pytest.approx(clip(10).mean() / 127.5 - 1, abs=1e-6)


@pytest.mark.filterwarnings("ignore:.*knows simulated balls")
def test_files_are_chosen_as_the_command_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [write_clip(tmp_path / f"{seed}.mp4", 24, seed=seed) for seed in range(3)]
    rewards = ["surprise", "consensus=0.5"]
    choice = select_best(files, rewards, model="tiny", how="rank", config=SurpriseConfig(stride=8))
    flags = ("--model", "tiny", "--combine", "rank", "--stride", "8", "--json")
    assert select([*map(str, files), "--reward", *rewards, *flags]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["winner"] == choice.winner.name
    for row in told["candidates"]:
        place = files.index(Path(row["path"]))
        assert choice.totals[place] == pytest.approx(row["total"])
        assert choice.table["surprise"][place] == pytest.approx(row["scores"]["surprise"])


def test_any_world_model_and_any_form_of_rewards() -> None:
    videos = [clip(10, side=4), clip(99, side=4)]
    model = LinearWorldModel(mixing=0.5)
    scorer = SurpriseScorer(model, SMALL)
    by_name = select_best(videos, model=model, config=SMALL)
    assert by_name.totals == select_best(videos, SurpriseReward(scorer)).totals
    mix = RewardMix.parse(["surprise"], surprise=scorer)
    assert by_name.totals == select_best(videos, mix).totals
    weighted = select_best(videos, ["surprise=2", "run_rewards:bright"], model=model, config=SMALL)
    assert list(weighted.table) == ["surprise", "run_rewards:bright"]
    surprise, bright = (values[0] for values in weighted.table.values())
    assert surprise == by_name.totals[0]
    assert weighted.totals[0] == pytest.approx(2 * surprise + bright)


def test_names_and_objects_mix() -> None:
    def darkness(videos: Tensor) -> Tensor:
        return -videos.mean(dim=(1, 2, 3, 4))

    videos, settings = [clip(10), clip(200)], {"model": random_model(), "config": SMALL}
    surprise = select_best(videos, **settings).totals
    mixed = select_best(videos, ["surprise=2", darkness, Bright()], **settings)  # type: ignore
    assert list(mixed.table) == ["surprise", "darkness", "bright"]
    assert mixed.table["surprise"] == surprise
    assert mixed.table["darkness"] == pytest.approx([-bright for bright in mixed.table["bright"]])
    assert mixed.totals == pytest.approx([2 * value for value in surprise], abs=1e-6)
    turned = select_best(videos, (Bright(), "surprise"), **settings)
    assert list(turned.table) == ["bright", "surprise"]


@pytest.mark.parametrize(
    ("videos", "settings", "message"),
    [
        ([], {}, "a list of videos"),
        ("a.mp4", {}, "a list of videos"),
        ([np.zeros((2, 8, 4, 4, 3), np.uint8)], {}, "not a batch of 2"),
        ([torch.zeros(3, 8, 4, 4)], {}, "value_range"),
        ([clip(1)], {"reward": "beauty"}, "unknown reward 'beauty'"),
        ([clip(1)], {"reward": "vlm"}, "asks a vision-language model"),
        ([clip(1)], {"reward": []}, "no reward is given"),
        ([clip(1)], {"reward": ["surprise", 3]}, "reward 'int' is a int, which can neither judge"),
        (
            [clip(1)],
            {"reward": ["surprise", Bright]},
            r"is a class: pass an object, such as Bright\(\)",
        ),
        ([clip(1)], {"reward": [Bright(), Bright()]}, "two rewards are named 'bright'"),
        (
            [clip(1)],
            {"reward": [RewardMix({"b": Bright()}, {"b": 1})]},
            "a RewardMix is passed alone",
        ),
        (
            [clip(1)],
            {"config": SurpriseConfig(window_size=15)},
            "window_size=15 must be a multiple",
        ),
        ([clip(1)], {"how": "best"}, "sum or rank, not 'best'"),
        ([clip(1), clip(2, 4)], {}, "video 1 is too short: 4 frames, but 6 are needed"),
        ([clip(1)], {"model": "vit"}, "unknown model 'vit'"),
    ],
)
def test_wrong_choices(videos: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        select_best(videos, **{"model": LinearWorldModel(), "config": SMALL, **settings})


def test_what_is_no_video_is_found_before_anything_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "reward_mix", lambda *_, **__: pytest.fail("a model is loaded"))
    with pytest.raises(VideoError, match="does not exist"):
        select_best([clip(1), "none.mp4"])
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "empty").mkdir()
    good = write_clip(tmp_path / "good.mp4")
    for bad in ("text.mp4", "empty"):
        with pytest.raises(VideoError, match=bad):
            select_best([good, tmp_path / bad])


def test_files_seen_at_different_rates_are_told(tmp_path: Path) -> None:
    slow, fast = write_clip(tmp_path / "a.mp4", fps=8), write_clip(tmp_path / "b.mp4", fps=24)
    with pytest.warns(
        VideoWarning, match=r"not seen at the same rate .*sampling=Sampling\(fps=F\)"
    ):
        select_best([slow, fast], Bright())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        select_best([slow, fast, clip(1)], Bright(), sampling=Sampling(fps=8))


def test_a_reward_that_drowns_another_is_told(tmp_path: Path) -> None:
    """Of a sum with weights of nobody's asking, and in the caller's own words."""

    def faint(videos: Tensor) -> RewardScores:
        scores = Bright()(videos)
        return RewardScores(scores.scores / 1000, {})

    made = [clip(10), clip(200)]
    told = r"decided by bright, .* those of faint: how='rank' weighs them alike"
    with pytest.warns(UserWarning, match=told) as said:
        select_best(made, [Bright(), faint])
        best_of_n(made.__getitem__, range(2), tmp_path, settings={}, reward=[Bright(), faint])
    assert [warning.filename for warning in said] == [__file__] * 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        select_best(made, [Bright(), faint], how="rank")
        select_best(
            made, RewardMix({"bright": Bright(), "faint": faint}, {"bright": 1, "faint": 9})
        )


def test_a_choice_is_told_in_one_line() -> None:
    told = repr(select_best([clip(10), clip(200)], Bright()))
    assert re.fullmatch(r"Choice\('video 1' of 2, reward 0\.6\d+\)", told)


def test_a_reward_that_fails_is_blamed_and_not_the_video(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(_: Tensor) -> RewardScores:
        raise ValueError("no such column")

    def darkness(videos: Tensor) -> Tensor:
        return -videos.mean(dim=(1, 2))

    file = write_clip(tmp_path / "a.mp4")
    for videos in ([file], [clip(1)]):
        with pytest.raises(
            RewardError, match=r"^reward 'fails' failed with ValueError: no such column"
        ):
            select_best(videos, fails)  # type: ignore[arg-type]
        with pytest.raises(
            RewardError, match=r"^reward 'darkness' must return scores \[1\] .* not \[1,"
        ):
            select_best(videos, darkness)  # type: ignore[arg-type]
    lines = "class R:\n    def __call__(self, videos):\n        return videos.no_such_thing\n"
    (tmp_path / "fragile_reward.py").write_text(lines)
    monkeypatch.chdir(tmp_path)
    assert select([str(file), "--reward", "fragile_reward:R"]) == 1
    told = capsys.readouterr().err
    assert told.startswith("error: reward 'fragile_reward:R' failed with AttributeError")
    assert "a.mp4" not in told


# --- among what a function makes


class Make:
    def __init__(self) -> None:
        self.seeds: list[int] = []

    def __call__(self, seed: int) -> np.ndarray:
        self.seeds.append(seed)
        return clip(seed * 40)


def test_best_of_n_keeps_what_is_finished(tmp_path: Path) -> None:
    make, settings = Make(), {"prompt": "noise"}
    first = best_of_n(make, range(3), tmp_path, settings=settings, reward=Bright())
    assert first.order == [2, 1, 0] and (tmp_path / first.winner.name).exists()
    assert first.winner.record["seed"] == 2
    again = best_of_n(make, range(4), tmp_path, settings=settings, reward=Bright())
    assert make.seeds == [0, 1, 2, 3] and again.order[0] == 3
    assert again.totals[:3] == first.totals
    best_of_n(make, [0], tmp_path, settings={"prompt": "other"}, reward=Bright())
    assert make.seeds[4:] == [0]
    lines = (tmp_path / "candidates.jsonl").read_text().splitlines()
    assert len(lines) == 5 and json.loads(lines[0])["settings"]["prompt"] == "noise"


def test_a_reward_is_asked_again_only_if_it_changed(tmp_path: Path) -> None:
    asked = []

    class Counting(SurpriseReward):
        def told(self, videos: Tensor, facts: Any) -> RewardScores:
            asked.append(len(videos))
            return self(videos)

    def choose(model: Any, config: SurpriseConfig = SMALL) -> Any:
        reward = Counting(SurpriseScorer(model, config))
        return best_of_n(Make(), range(2), tmp_path, settings={}, reward=reward)

    first = choose(random_model())
    assert choose(random_model()).totals == first.totals and len(asked) == 2
    other = choose(random_model(seed=1))  # other weights
    assert other.totals != first.totals and len(asked) == 4
    choose(random_model(), SurpriseConfig(window_size=6, context_frames=4, score="top"))
    assert len(asked) == 6


def test_a_reward_without_a_source_is_asked_again_by_the_next_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    source = """
class Typed:
    name, differentiable = "typed", False
    def __call__(self, videos):
        asked.append(1)
        return scores(videos.mean(dim=(1, 2, 3, 4)), {})
"""
    typed: dict[str, Any] = {"asked": asked, "scores": RewardScores, "__name__": "__typed__"}
    exec(source, typed)
    for _ in range(2):
        best_of_n(Make(), [1], tmp_path, settings={}, reward=typed["Typed"]())
    assert len(asked) == 1
    monkeypatch.setattr(calls, "_PROCESS", "another")
    best_of_n(Make(), [1], tmp_path, settings={}, reward=typed["Typed"]())
    assert len(asked) == 2


@pytest.mark.parametrize(
    ("make", "seeds", "message"),
    [
        (lambda seed: "a.mp4", [0], "does not exist"),
        (lambda seed: np.zeros((4, 4), np.uint8), [0], r"\[T, H, W, 3\]"),
        (Make(), [], "seeds must be"),
        (Make(), [1, 1], "each of them once"),
    ],
)
def test_wrong_makers(make: Any, seeds: list[int], message: str, tmp_path: Path) -> None:
    with pytest.raises((UsageError, VideoError), match=message):
        best_of_n(make, seeds, tmp_path, settings={}, reward=Bright())
