"""The repair benchmark on candidates whose worth is known, and as a whole with nano models."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from fakes import NANO_TINY, LinearWorldModel, random_model
from magi1_fakes import write_nano
from torch import Tensor

from benchmarks.physics_repair import benchmark as physics_repair
from benchmarks.physics_repair import flags, report
from benchmarks.physics_repair.answers import TASKS, Answers, physics_scores
from benchmarks.physics_repair.ceiling import Ceiling, imagined
from benchmarks.physics_repair.choices import (
    CONSENSUS,
    DECIDED,
    GEOMETRY,
    ORACLES,
    RANK_SUM,
    SCEPTICS,
    choices,
    chosen,
    correlation,
    known_choices,
)
from benchmarks.physics_repair.geometry import geometry_of, geometry_of_sets
from benchmarks.physics_repair.guides import GuideMaker, GuideSettings, Trust
from benchmarks.physics_repair.parts import Part, Retouch, Variant, Workshop, strips_of
from benchmarks.physics_repair.report import picture
from benchmarks.physics_repair.rows import (
    PLAIN,
    build_rows,
    choice_table,
    comparisons,
    found_in_both,
    gap_closed,
    part_row,
    pick_row,
    shortlist,
)
from benchmarks.physics_repair.scores import KNOWN, RULES, Judges, horizons, score_name, sets
from benchmarks.physics_repair.tuning import grid, judged, title
from benchmarks.shared import bootstrap
from benchmarks.shared.extrapolation import true_states
from benchmarks.shared.held_out import HeldOut, held_out
from benchmarks.shared.object_detector import MISSING
from vjepa2 import WeightsInfo
from wmreward.physics_iq.measures.metrics import compare
from wmreward.physics_iq.measures.resize import Bilinear
from wmreward.physics_iq.scores import Sample, original_score
from wmreward.pictures.extra import has_pictures
from wmreward.rewards.compare import Judged
from wmreward.rewards.mix import RewardMix
from wmreward.rewards.world import SeamReward
from wmreward.steering.keep_edges import edge_energy
from wmreward.surprise.config import SurpriseConfig
from wmreward.surprise.models import LoadedModel
from wmreward.surprise.scorer import SurpriseScorer

CPU = torch.device("cpu")
KNOWN_SCENES = cache(held_out)
"""Every run of a test has the same scenes: they are simulated once."""


# --- against the truth


@pytest.fixture(scope="module")
def clips() -> HeldOut:
    return held_out(2, 3)


@pytest.fixture(scope="module")
def videos(clips: HeldOut) -> Tensor:
    return clips.videos(CPU)


@pytest.fixture(scope="module", params=["video", "image"])
def answers(request: pytest.FixtureRequest, clips: HeldOut, videos: Tensor) -> Answers:
    return Answers(clips, videos, TASKS[request.param])


def test_the_truth_makes_no_error(answers: Answers) -> None:
    values, distance = answers.mark(answers.truth.unsqueeze(1), slice(0, 2))
    assert answers.physics(answers.truth.unsqueeze(1), slice(0, 2))().tolist() == [[100.0], [100.0]]
    for name in ("position", "placed", "miss", "motion", "union", "mse"):
        assert values[name].nan_to_num().abs().max() == 0
    assert distance.nan_to_num().abs().max() == 0 and distance.isfinite().any()


def test_frames_follow_what_is_given(answers: Answers) -> None:
    given, new = answers.task.given, answers.task.new
    assert torch.equal(answers.truth, answers.videos[:, :, given : given + new])
    assert torch.equal(answers.before[:, :, -1:], answers.last)
    assert torch.equal(answers.last, answers.videos[:, :, given - 1 : given])


def test_what_vanishes_is_missed(answers: Answers) -> None:
    grey = torch.full_like(answers.truth, 0.5).unsqueeze(1)
    values, distance = answers.mark(grey, slice(0, 2))
    assert (values["miss"] == 1).all() and (values["position"] == MISSING).all()
    assert distance.isnan().all() and (answers.physics(grey, slice(0, 2))() < 60).all()


def test_controls_and_candidates_have_the_frames_of_the_truth(answers: Answers) -> None:
    generator = StandIn()
    controls = answers.controls(generator)
    shape = (2, 1, *answers.truth.shape[1:])
    assert all(video.shape == shape for video in controls.values())
    assert torch.equal(controls["truth, decoded"], controls["truth"])
    frozen = controls["copy last frame"][:, 0]
    assert torch.equal(frozen, answers.last.expand_as(frozen))
    made = answers.generated(generator, slice(1, 2), range(3))
    assert made.shape == (1, 3, *answers.truth.shape[1:])
    assert generator.numbers == [1, 1_000_004, 2_000_007]
    assert generator.prompts == [answers.clips.prompts[1]] * 3


def test_physics_is_the_original_score_of_a_world_that_repeats() -> None:
    rng = np.random.default_rng(0)
    scenes = []
    for k in range(3):
        clips = np.zeros((4, 12, 16, 16, 3), np.uint8)
        for i, clip in enumerate(clips):
            for t, frame in enumerate(clip):
                frame[2 + t // 2 : 7 + t // 2, i + k : i + k + 5] = 200
            clip += rng.integers(0, 20, clip.shape, dtype=np.uint8)
        scenes.append(clips)
    ours = [physics_scores(clips[0], clips[1:]) for clips in scenes]
    for i in range(3):
        samples = []
        for k, clips in enumerate(scenes):
            enlarge = Bilinear((16, 16), (64, 64))
            true, made = (np.stack([enlarge(frame) for frame in clips[j]]) for j in (0, i + 1))
            samples.append(Sample(str(k), "front", compare(true, true, made)))
        expected = original_score(samples).score
        assert np.mean([scores[i] for scores in ours]) == pytest.approx(expected, abs=0.02)
        assert expected < 99


# --- choosing


def synthetic(scenes: int = 200, seeds: int = 16, seed: int = 0, seconds: float = 1.0) -> Part:
    """Candidates of random worth: `excess` knows it, `relative` is shuffled, `plain` is its opposite."""
    generator = torch.Generator().manual_seed(seed)
    error = torch.rand(scenes, seeds, generator=generator)
    noise = torch.rand(scenes, seeds, generator=generator)
    values = {
        "physics": 100 - 100 * error,
        **dict.fromkeys(("position", "placed", "miss", "motion", "union", "mse"), error),
        "sharp": 1 - error,
        "plain": -error,
        "excess": error,
        "relative": noise,
        "top": noise,
        "copy": noise,
        "edges": error,
        "energy": noise,
    }
    for rule in RULES:
        for horizon in ("seam 1", "seam 2", "seam 3", "long"):
            values[score_name(rule, horizon)] = error if rule == "excess" else noise
    for size in sets(seeds):
        values[f"consensus@{size}"] = -error
        values[f"geometry@{size}"] = error
        values[f"medoid@{size}"] = noise
    distance = error[:, :, None, None].expand(-1, -1, 3, 2)
    strips = torch.zeros(4, seeds, 3, 2, 8, 8, dtype=torch.uint8)
    return Part(values, distance, strips, seconds, 0.25, 100, None)


def gap(parts: dict[str, Part], name: str, measure: str = "position") -> bootstrap.Estimate:
    return gap_closed(build_rows(parts, "excess")[name], parts[PLAIN].values, measure)


def test_who_knows_the_error_closes_the_gap_and_who_guesses_does_not() -> None:
    parts = {PLAIN: synthetic()}
    assert gap(parts, "best of 16 by excess").value == pytest.approx(1)
    assert gap(parts, "best of 4 by consensus", "physics").value == pytest.approx(1)
    assert gap(parts, "best of 4 by geometry", "physics").value < 0
    assert gap(parts, "oracle of 16 by position").value == pytest.approx(1)
    for chance in ("best of 16 by relative", "random pick", "stillest of 16", "medoid of 16"):
        found = gap(parts, chance)
        assert found.low < 0 < found.high and abs(found.value) < 0.2
    assert gap(parts, "best of 8 by plain").high < -0.9
    assert gap(parts, PLAIN).value == 0


def test_a_candidate_equal_to_the_truth_is_what_oracles_pick() -> None:
    part = synthetic(scenes=5)
    for name in ("position", "motion"):
        part.values[name][:, 6] = 0
    part.values["physics"][:, 6] = 100
    for rule in ORACLES:
        assert chosen(part.values, rule, 16).tolist() == [[6]] * 5
        row = pick_row(part, part, rule, 16)
        assert gap_closed(row, part.values, rule).value == pytest.approx(1)


def test_choices_follow_their_scores() -> None:
    score = torch.tensor([[3.0, 1, 2, 4, 8, 7, 6, 5]])
    values = dict.fromkeys((*RULES, "edges", "energy", "motion"), score)
    values |= {"physics": score, "consensus@4": score, "medoid@4": score}
    values |= {score_name("plain", horizon): score for horizon in ("seam 1", "seam 2", "long")}
    lowest, highest = [[1, 7]], [[3, 4]]
    for rule in (*choices(values, RULES[:1]), *RULES, "blurriest", "stillest", "medoid", "motion"):
        if CONSENSUS not in rule:
            assert chosen(values, rule, 4).tolist() == lowest
    for rule in (CONSENSUS, "sharpest", "physics"):
        assert chosen(values, rule, 4).tolist() == highest
    # Four rules like 1 and 7 best, the fifth likes them least.
    assert chosen(values, RANK_SUM, 4).tolist() == lowest
    assert correlation(values, "plain", "motion", 4) == pytest.approx(1)
    assert correlation(values, CONSENSUS, "motion", 4) == pytest.approx(-1)
    values |= {"plain": -score, "top": -score, "relative": -score}
    assert chosen(values, RANK_SUM, 4).tolist() == highest


def test_geometry_is_mixed_in_by_its_rank() -> None:
    score = torch.tensor([[3.0, 1, 2, 4, 8, 7, 6, 5]])
    values = {"plain": score, "consensus@4": score}
    assert "plain + geometry" not in choices(values)
    # 1 is the second smoothest, 3 the smoothest and the last by surprise.
    values["geometry@4"] = torch.tensor([[0.2, 0.6, 0.4, 0.8, 0.1, 0.2, 0.3, 0.4]])
    assert chosen(values, "plain + geometry", 4).tolist() == [[1, 7]]
    assert choices(values)["plain + geometry"].total(values, 4).tolist() == [
        [5, 1, 3, 3, 6, 4, 2, 0]
    ]


def test_horizons_are_put_together_as_rewards_are() -> None:
    """What the benchmark calls `seam 1 + 2 + 3` is what `--reward seam --frame_strides 1 2 3` chooses."""
    generator = torch.Generator().manual_seed(1)
    names = [score_name("plain", f"seam {k}") for k in (1, 2, 3)]
    values = {name: 10**k * torch.rand(20, 4, generator=generator) for k, name in enumerate(names)}
    values |= {"plain": values[names[0]], "consensus@4": torch.rand(20, 4, generator=generator)}
    values[score_name("plain", "long")] = values[names[0]]

    class Crowd:
        name = "consensus"

        def embed(self, videos: Tensor) -> Tensor:
            raise NotImplementedError

        def compare(self, embeddings: Tensor) -> Tensor:
            return embeddings[:, 0]

    seam = SeamReward(SurpriseScorer(LinearWorldModel(), SurpriseConfig(frame_strides=(1, 2, 3))))
    weights = {"seam": 1.0, "consensus": 1.0}
    alone = RewardMix({"seam": seam}, {"seam": 1.0})
    both = RewardMix({"seam": seam, "consensus": Crowd()}, weights, "rank")
    for scene in range(20):
        judged = []
        for s in range(4):
            parts = {
                f"seam.frame_stride_{k + 1}": values[n][scene, s].item()
                for k, n in enumerate(names)
            }
            score = -sum(parts.values()) / 3
            near = values["consensus@4"][scene, s].view(1)
            judged.append(Judged({"seam": score}, parts, {"consensus": near}))
        rule = "plain, seam 1 + 2 + 3"
        assert chosen(values, rule, 4)[scene].item() == alone.totals(judged).argmax()
        totals = both.totals(judged)
        assert totals[chosen(values, f"{rule} + consensus", 4)[scene]] == totals.max()


def test_objects_are_compared_where_both_clips_have_them() -> None:
    nan = torch.nan
    own = torch.tensor([0.1, 0.2, nan]).view(1, 1, 3, 1)
    plain = torch.tensor([[0.2, nan, 0.3], [0.4, 0.1, nan]]).view(1, 2, 3, 1)
    both = found_in_both(own, plain, torch.tensor([[0, 1]]))
    # −0.1 with the first, the mean of −0.3 and +0.1 with the second.
    assert both.item() == pytest.approx(-0.1)
    assert found_in_both(own, plain, torch.tensor([[0]])).item() == pytest.approx(-0.1)
    assert found_in_both(own * nan, plain, torch.tensor([[1]])).isnan().all()


def test_rows_and_costs() -> None:
    guided = synthetic(seed=1, seconds=1.5)
    parts = {
        "truth": Part(synthetic(seeds=1).values, torch.zeros(200, 1, 3, 2), torch.zeros(0), None, 0.25, None),
        PLAIN: synthetic(seeds=64),
        "guidance": guided,
        "guidance, random direction": synthetic(seeds=4, seconds=1.25),
        "fewer steps": synthetic(seeds=4, seconds=0.5),
    }  # fmt: skip
    rule = "excess, seam 1 + 2 + 3"
    rows = build_rows(parts, rule)
    short = shortlist(parts[PLAIN].values, rule)
    assert {
        *RULES,
        CONSENSUS,
        rule,
        f"{rule} + consensus",
        "excess, seam 1",
        "excess, long",
    } <= set(short)
    wanted = {f"best of {n} by {one}" for n in (4, 8, 16, 64) for one in short}
    wanted |= {f"guidance + best of 16 by {one}" for one in short}
    wanted |= {f"{name} of 16" for name in (*SCEPTICS, "medoid")}
    wanted |= {f"oracle of {n} by {one}" for n in (16, 64) for one in ORACLES}
    assert set(rows) == wanted | set(parts) | {"random pick"}
    assert rows["best of 4 by excess"].time == pytest.approx(4 * 1.25)
    assert rows["sharpest of 16"].time == pytest.approx(16)
    assert rows["guidance + best of 16 by excess"].time == pytest.approx(16 * 1.75)
    assert rows["guidance"].time == pytest.approx(1.5) and rows["guidance"].memory == 1
    assert rows["truth"].time is None
    # The same seeds are compared.
    assert rows["fewer steps"].against["mse"].shape == (200, 4)
    pairs = comparisons(rows, rule)
    assert pairs[f"best of 16 by {rule} − medoid of 16"]["position"]["high"] < 0
    assert "guidance − guidance, random direction" in pairs
    assert f"guidance + best of 16 by {rule} − best of 16 by {rule}" in pairs
    json.dumps([row.to_json() for row in rows.values()])


def test_every_choice_is_in_the_table_of_choices() -> None:
    found = choice_table(synthetic(scenes=20))
    closed = {one["choice"]: one["value"] for one in found if one["measure"] == "position"}
    assert {*RULES, CONSENSUS, RANK_SUM, "medoid", *DECIDED.values()} <= set(closed)
    for rule in RULES:
        for horizon in ("seam 1", "seam 1 + 2", "seam 1 + 2 + 3", "long", "seam 1 + 2 + 3 + long"):
            assert {f"{rule}, {horizon}", f"{rule}, {horizon} + consensus"} <= set(closed)
    assert closed["excess, seam 2"] == pytest.approx(1) and closed["plain, seam 2"] < 0.6
    own = [one for one in found if one["choice"] == "excess, long" and one["measure"] == "motion"]
    assert own[0]["correlation"] == pytest.approx(1)


def test_variants_are_paired_seed_by_seed() -> None:
    plain = synthetic(seeds=8)
    better = synthetic(seeds=2)
    better.values["position"] = plain.values["position"][:, :2] - 0.01
    record = part_row(better, plain).to_json()
    found = record["differences"]["position"]
    assert found["value"] == pytest.approx(-0.01)
    assert found["high"] - found["low"] < 1e-6


def test_the_picture_shows_the_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    part = synthetic(scenes=5)
    for s in range(16):
        part.strips[:, s] = s
    drawn: list[Any] = []
    monkeypatch.setattr(report, "contact_sheet", lambda rows, height: drawn.extend(rows))
    picture(torch.full((4, 3, 2, 8, 8), 99, dtype=torch.uint8), {PLAIN: part}, "excess")
    assert [row.label for row in drawn] == [
        "the true future", "plain", "the best of 16 by surprise (excess)",
        "the best of 16 for who knows the true future",
    ]  # fmt: skip
    best = part.values["excess"][:3].argmin(dim=1).tolist()
    kept = [drawn[2].frames[first, 0, 0, 0] for first in (0, 3, 6)]  # two frames, then a gap
    assert kept == best and drawn[0].frames[0, 0, 0, 0] == 99


# --- who knows the state


def test_the_true_physics_leads_to_the_true_future(answers: Answers) -> None:
    clips, given = answers.clips, answers.task.given
    state = true_states(clips.scenes, given)[-1]
    guess = imagined(clips.trajectories, clips.scenes, state, given)
    torch.testing.assert_close(guess.position, clips.trajectories.position, atol=1e-5, rtol=0)


def test_who_knows_the_state_prefers_the_truth_to_a_frozen_frame(answers: Answers) -> None:
    ceiling = Ceiling(answers, count=2)
    frozen = answers.last.expand_as(answers.truth)
    values = ceiling(torch.stack((answers.truth, frozen), dim=1), slice(0, 2))
    assert set(values) == {"true state, position", "true state, motion"}
    assert all((value[:, 0] < value[:, 1]).all() for value in values.values())
    assert set(known_choices(values | {"plain, seam 1": values["true state, motion"]})) == set(
        values
    )


# --- judging without the truth


def test_judges_see_sharpness_motion_and_crowd() -> None:
    model = LinearWorldModel()
    config = SurpriseConfig(window_size=8, context_frames=4)
    judges = Judges(SurpriseScorer(model, config))
    before = torch.zeros(1, 3, 4, 4, 4)
    ramp = torch.linspace(0, 0.5, 5)[1:].view(4, 1, 1)
    made = torch.zeros(1, 4, 3, 4, 4, 4)
    made[0, 1] = ramp  # moves evenly, no edges
    made[0, 2] = ramp
    made[0, 2, ..., ::2] += 0.4  # edges
    made[0, 3] = 1.0
    values, _ = judges(made, before, compare=True)
    assert values["edges"][0].tolist()[:2] == [0, 0] and values["edges"][0, 2] > 0.1
    assert values["energy"][0, 0] == 0 and values["energy"][0, 1] > 0
    assert values["medoid@4"].argmin().item() == 1
    assert set(values) >= {*RULES, "copy", "consensus@4", "plain, seam 1", "top, long"}
    assert "second plain" not in values
    both = Judges(SurpriseScorer(model, config), SurpriseScorer(model, config))
    again, _ = both(made, before, compare=False)
    assert torch.equal(again["second excess"], values["excess"])
    assert "medoid@4" not in again and "plain, seam 1" not in again


def test_a_perfect_prediction_likes_the_truth_best() -> None:
    made = torch.rand(2, 4, 3, 24, 4, 4, generator=torch.Generator().manual_seed(0))
    before = made[:, 0, :, :24]
    judges = Judges(SurpriseScorer(LinearWorldModel(), SurpriseConfig(stride=8)))
    values, _ = judges(made, before, compare=True, truth=made[:, 2])
    for name in ("seam 1", "seam 2", "seam 3", "long"):
        found = values[score_name(KNOWN, name)]
        assert found.argmin(dim=1).tolist() == [2, 2] and found[:, 2].abs().max() < 1e-5


def test_horizons_are_those_that_fit() -> None:
    scorer = SurpriseScorer(LinearWorldModel(), SurpriseConfig())
    video = horizons(scorer, 48, 24)
    assert {name: len(which) for name, (_, which) in video.items()} == {
        "seam 1": 1, "seam 2": 2, "seam 3": 3, "long": 1,
    }  # fmt: skip
    own, (whole,) = video["long"]
    assert (whole.start, own.config.window_size, own.config.context_frames) == (0, 48, 24)
    image = horizons(scorer, 45, 1)
    assert set(image) == {"clip 2", "long"}
    own, (whole,) = image["long"]
    assert (own.config.window_size, own.config.context_frames) == (44, 22)


def test_geometry_ranks_the_candidates_of_every_set() -> None:
    scorer = SurpriseScorer(random_model(), SurpriseConfig(window_size=8, context_frames=4))
    reward = geometry_of(scorer)
    assert reward is not None and geometry_of(SurpriseScorer(LinearWorldModel())) is None
    videos = torch.rand(16, 3, 18, 32, 32, generator=torch.Generator().manual_seed(0)).double()
    values = geometry_of_sets(reward, videos, 8, [4, 8])
    assert {name: value.shape for name, value in values.items()} == {
        "geometry@4": (2, 8),
        "geometry@8": (2, 8),
    }
    mix = RewardMix({"geometry": reward}, {"geometry": 1.0})
    for size, sets_of in ((4, 4), (8, 2)):
        said = [mix.judge(video) for video in videos]
        expected = [
            mix.totals(said[first : first + size]) * (size - 1)
            for first in range(0, 16, 16 // sets_of)
        ]
        torch.testing.assert_close(values[f"geometry@{size}"].flatten(), torch.cat(expected))


def test_blur_keeps_the_mean_and_takes_edges() -> None:
    sharp = torch.rand(2, 3, 3, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    soft = physics_repair.blurred(sharp, 0.7)
    assert soft.shape == sharp.shape
    assert (edge_energy(soft[0]) < 0.5 * edge_energy(sharp[0])).all()
    flat = torch.full_like(sharp, 0.3)
    torch.testing.assert_close(physics_repair.blurred(flat, 0.5), flat)


# --- guiding


def test_trust_stops_at_its_bound() -> None:
    numbers = 4 * 2 * 3 * 3
    velocity = torch.zeros(2, 4, 4, 3, 3)
    push = torch.ones_like(velocity)
    push[1] *= 0.01
    step: Any = SimpleNamespace(
        velocity=velocity,
        chunk_width=2,
        first_chunk=0,
        times=torch.tensor([0.4, 0.2]),
        next_times=torch.tensor([0.5, 0.4]),
    )
    guide = Trust(lambda step: step.velocity + push, 0.15)
    moved = torch.zeros_like(velocity)
    for _ in range(4):
        spans = torch.tensor([0.1, 0.1, 0.2, 0.2])[:, None, None]
        moved += spans * guide(step)
    size = moved.unflatten(2, (2, 2)).square().sum(dim=(1, 3, 4, 5)).sqrt() / numbers**0.5
    torch.testing.assert_close(size[0], torch.tensor([0.15, 0.15]))
    torch.testing.assert_close(size[1], torch.tensor([0.004, 0.008]))
    still: Any = Trust(lambda step: step.velocity, 0.1)
    assert still(step) is velocity


def test_every_setting_of_the_grid_can_guide() -> None:
    settings = grid()
    assert (
        len({title(one) for one in settings}) == len(settings) and title(settings[0]) == "default"
    )
    for one in settings:
        GuideMaker(one, LinearWorldModel(), windows=4)()
    again = GuideSettings.from_json({"times": [0.1, 0.2], "scale": 1})
    assert again == GuideSettings(times=(0.1, 0.2), scale=1)


def test_guidance_passes_only_if_nothing_is_lost() -> None:
    plain = synthetic(scenes=20, seeds=2)

    def changed(**changes: float) -> dict[str, Any]:
        part = synthetic(scenes=20, seeds=2)
        part.values.update({k: part.values[k] + v for k, v in changes.items()})
        return judged(part_row(part, plain))

    good = changed(position=-0.05, motion=-0.05)
    assert good["passes"] and good["gain"] == pytest.approx(
        0.05 / plain.values["motion"].mean().item(), rel=1e-4
    )
    assert not changed(position=-0.05, motion=-0.05, miss=0.02)["passes"]
    assert not changed(position=-0.05, motion=-0.05, sharp=-0.03)["passes"]
    assert not changed(position=0.05, motion=-0.05)["passes"]
    assert not changed(position=-0.05, motion=0.05)["passes"]


# --- blocks


class StandIn:
    """Continues videos by seeded noise over a frozen frame; `fail_after` calls it breaks."""

    calls = 0

    def __init__(self, fail_after: int = 1_000, **settings: Any) -> None:
        self.fail_after = fail_after

    def describe(self) -> dict[str, Any]:
        return {"name": "stand-in"}

    def continue_video(
        self, prefix: Tensor, frames: int, prompts: Sequence[str], seeds: Sequence[int]
    ) -> Tensor:
        if StandIn.calls >= self.fail_after:
            raise KeyboardInterrupt
        StandIn.calls += 1
        self.numbers, self.prompts = list(seeds), list(prompts)
        noise = [
            torch.randn(3, frames, *prefix.shape[3:], generator=torch.Generator().manual_seed(s))
            for s in seeds
        ]
        return prefix[:, :, -1:] + 0.1 * torch.stack(noise)

    def from_image(
        self, images: Tensor, frames: int, prompts: Sequence[str], seeds: Sequence[int]
    ) -> Tensor:
        rest = self.continue_video(images.unsqueeze(2), frames - 1, prompts, seeds)
        return torch.cat((images.unsqueeze(2), rest), dim=2)

    def from_text(self, prompts: Sequence[str], frames: int, seeds: Sequence[int]) -> Tensor:
        raise NotImplementedError

    def reconstruct(self, videos: Tensor) -> Tensor:
        return videos


def fake_judges(
    made: Tensor, before: Tensor, *, compare: bool, truth: Tensor | None
) -> tuple[dict[str, Tensor], float]:
    return {"plain": made.mean(dim=(2, 3, 4, 5))}, 0.5


def test_a_stopped_part_goes_on(tmp_path: Path) -> None:
    clips = held_out(5, 0)
    answers = Answers(clips, clips.videos(CPU, size=16), TASKS["video"])
    StandIn.calls = 0

    def workshop(folder: Path | None, **settings: Any) -> Workshop:
        def factory(*, device: torch.device, make_guide: Any = None, **given: Any) -> StandIn:
            return StandIn(**given)

        judges: Any = fake_judges
        return Workshop(answers, judges, factory, settings, CPU, batch=4, folder=folder)

    variant = Variant("some part, 0.5", 2, retouches=[Retouch("dark", lambda v: v / 2, 1)])
    parts = workshop(None).make(variant)
    whole = parts["some part, 0.5"]
    assert parts["dark"].values["plain"].shape == (5, 1)
    torch.testing.assert_close(
        parts["dark"].values["plain"], whole.values["plain"][:, :1] / 2, atol=1e-6, rtol=0
    )
    assert StandIn.calls == 3 and whole.values["plain"].shape == (5, 2)
    StandIn.calls = 0
    with pytest.raises(KeyboardInterrupt):
        workshop(tmp_path, fail_after=2).make(variant)
    assert len(list(tmp_path.iterdir())) == 2
    resumed = workshop(tmp_path).make(variant)["some part, 0.5"]
    assert StandIn.calls == 3
    assert torch.equal(resumed.values["physics"], whole.values["physics"])
    assert torch.equal(resumed.strips, whole.strips) and resumed.strips.shape[:2] == (4, 2)
    workshop(tmp_path).make(variant)
    assert StandIn.calls == 3
    first = answers.generated(StandIn(), slice(0, 1), range(2))
    assert torch.equal(whole.strips[:1], strips_of(first))


# --- as a whole


@pytest.fixture
def nano(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Arguments of a run with models of hardly a weight, and coarse intervals."""
    monkeypatch.setattr(physics_repair, "held_out", KNOWN_SCENES)
    monkeypatch.setattr(bootstrap, "_RESAMPLES", 50)
    monkeypatch.setattr(bootstrap, "_counts", bootstrap._counts.__wrapped__)
    config = write_nano(tmp_path / "nano")
    info = WeightsInfo("tiny", "test", (), "00", "online", "online", 0, (), 64)
    models = [random_model(NANO_TINY, dtype=torch.float32, seed=seed) for seed in range(3)]
    loaded = physics_repair.Models(
        LoadedModel(models[0], info), LoadedModel(models[1], info), models[2]
    )
    monkeypatch.setattr(physics_repair, "load_models", lambda args: loaded)
    settings = json.dumps({"config": str(config), "num_steps": 4})
    return [
        "--settings", settings, "--scenes", "2", "--candidates", "4", "--nulls", "1", "--size", "16",
        "--workers", "0", "--device", "cpu", "--guidance", '{"stride": 8, "times": [0, 1]}', "--also", "{}",
        "--fewer_steps", "4", "--stride", "8", "--out", str(tmp_path / "out"),
    ]  # fmt: skip


def test_the_whole_table_from_shares_of_several_processes(
    nano: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again = ("--also", '{"twice": {"scale": 0.3}}')
    argv = [*nano, "--tasks", "video", "--guided", "1", "--batch", "4", *again]
    out = tmp_path / "out"
    parts = out / "parts" / "video"
    assert physics_repair.main([*argv, "--share", "1", "2"]) == 0
    assert "without --share" in capsys.readouterr().out
    assert not (out / "physics_repair.md").exists()
    assert {file.name for file in parts.glob("plain.*")} == {"plain.00001-00002.pt"}
    assert physics_repair.main([*argv, "--share", "0", "2"]) == 0
    made = {file: file.stat().st_mtime_ns for file in parts.iterdir()}
    capsys.readouterr()
    assert physics_repair.main(argv) == 0
    assert made == {file: file.stat().st_mtime_ns for file in parts.iterdir()}
    printed = capsys.readouterr().out
    record = json.loads((out / "physics_repair.json").read_text())
    rows = record["tasks"]["video"]["rows"]
    expected = {
        "truth", "truth, decoded", "copy last frame", "constant velocity from the true state",
        "ballistic from the true state", "plain", "random pick", "guidance",
        "guidance, random direction", "guidance, untrained model", "guidance, twice", "fewer steps",
        "slight blur, 0.5 px", "slight blur, 0.7 px", "previous-chunk guidance 3.0",
        "previous-chunk guidance off", "sharpest of 4", "blurriest of 4", "stillest of 4",
        "medoid of 4", *(f"oracle of 4 by {rule}" for rule in ORACLES),
        *(f"best of 4 by {rule}" for rule in (*RULES, CONSENSUS, GEOMETRY, RANK_SUM)),
        *(
            f"best of 4 by top, {end}"
            for end in (
                "seam 1", "long", "seam 1 + 2 + 3", "seam 1 + 2 + 3 + consensus",
                "seam 1 + 2 + 3 + geometry", "seam 1 + 2 + 3 + long",
            )
        ),
        *(
            f"best of 4 by true future, {end}"
            for end in (
                "seam 1", "seam 2", "seam 3", "seam 1 + 2", "seam 1 + 2 + 3", "long",
                "seam 1 + 2 + 3 + long",
            )
        ),
        "best of 4 by true state, position", "best of 4 by true state, motion",
    }  # fmt: skip
    assert set(rows) == expected
    for name in ("guidance", "best of 4 by top, seam 1 + 2 + 3", "oracle of 4 by position"):
        assert f"| {name} |" in printed
    lines = (out / "physics_repair_video_rows.csv").read_text().splitlines()
    names = [line[0] for line in csv.reader(lines[1:])]
    assert names == [*rows, *record["tasks"]["video"]["comparisons"]]
    chosen = (out / "physics_repair_video_choices.csv").read_text()
    assert '"plain, seam 1 + 2 + 3 + long",4,motion,' in chosen
    assert rows["truth"]["values"]["physics"]["value"] == 100
    assert rows["guidance"]["time"] > 1
    assert rows["guidance"]["differences"]["excess"]["value"] != 0
    assert rows["plain"]["values"]["second excess"]["value"] is not None
    assert "guidance acted on 2 steps" in record["tasks"]["video"]["effects"]["guidance"]
    if has_pictures():
        assert (out / "physics_repair_video.png").stat().st_size > 1_000
    # Everything is there: nothing is generated again, and other settings are refused.
    before = {file: file.stat().st_mtime_ns for file in (out / "parts" / "video").iterdir()}
    assert physics_repair.main([*argv, "--rule", "plain"]) == 0
    assert before == {file: file.stat().st_mtime_ns for file in (out / "parts" / "video").iterdir()}
    capsys.readouterr()
    assert physics_repair.main([*argv, "--seed", "1"]) == 1
    assert "another seed;" in capsys.readouterr().err


def test_quick_is_five_plain_lines(
    nano: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From few scenes there are no intervals, nothing is bold, and nothing else is printed."""
    monkeypatch.setitem(flags.QUICK, "settings", nano[1])
    monkeypatch.setitem(flags.QUICK, "scenes", 2)
    assert physics_repair.main([*nano, "--quick"]) == 0
    told = capsys.readouterr()
    lines = told.out.splitlines()
    assert [line[:2] for line in lines] == ["1.", "2.", "3.", "4.", "5."]
    assert "[" not in told.out.replace("'.[plot]'", "") and "**" not in told.out
    assert "physics_repair_video.png" in lines[4] or not has_pictures()
    assert "plain …" in told.err and "guidance …" in told.err


def test_tuning(nano: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = [
        {"times": [0, 1]},
        {
            "reward": "seam",
            "frame_strides": [1, 2],
            "keep_edges": False,
            "trust": 0.1,
            "through": "dit",
            "times": [0, 1],
        },
    ]
    file = tmp_path / "grid.json"
    file.write_text(json.dumps(settings))
    assert physics_repair.main([*nano, "--tune", "--tasks", "video", "--grid", str(file)]) == 0
    assert "A setting passes if" in capsys.readouterr().out
    record = json.loads((tmp_path / "out" / "physics_repair_tuning.json").read_text())
    assert len(record["tuning"]) == 2 and record["tasks"]["video"]["choices"]
    found = list(record["tuning"].values())
    assert {one["settings"]["keep_edges"] for one in found} == {False, True}
    order = [(not one["passes"], -one["gain"]) for one in found if one["gain"] is not None]
    assert order == sorted(order)


@pytest.mark.parametrize(
    "extra, told",
    [(["--candidates", "6"], "must be a multiple of 4"), (["--nulls", "5"], "must not exceed")],
)
def test_wrong_numbers_are_named(
    nano: list[str], extra: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert physics_repair.main([*nano, *extra]) == 1
    assert told in capsys.readouterr().err
