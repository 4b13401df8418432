"""The measures by which video generators are judged: every one on videos whose answer is known."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

import simworld
from benchmarks.generator_quality import benchmark as generator_quality
from benchmarks.generator_quality import obedience, prompting
from benchmarks.generator_quality.obedience import (
    all_requests,
    contradicted,
    obeyed,
    request,
    steering_requests,
    true_requests,
)
from benchmarks.shared import bootstrap, video_measures
from benchmarks.shared.continuation import MEASURES, TASKS, Examination
from benchmarks.shared.extrapolation import copy_last, extrapolate, true_states
from benchmarks.shared.generators import checked, over_seeds
from benchmarks.shared.held_out import FRAMES, HeldOut, held_out
from benchmarks.shared.object_detector import (
    CLEAR,
    MISSING,
    NO_COLOR,
    OBJECT_COLORS,
    _blobs,
    detect,
    placement,
)
from simworld.looks import PALETTE, VIVID, palette

SIZE = 64
CPU = torch.device("cpu")


def discs(
    color: Sequence[float] | Tensor,
    centers: Tensor,
    radius: float = 5,
    background: Sequence[float] | Tensor = (0.56, 0.57, 0.58),
) -> Tensor:
    """Videos [B, 3, T, 64, 64] of a disc; centres [B, T, 2] in pixels, x from the left and y from the top."""
    grid = torch.arange(SIZE) + 0.5
    x, y = grid.view(1, 1, 1, -1), grid.view(1, 1, -1, 1)
    distance = torch.hypot(x - centers[..., 0, None, None], y - centers[..., 1, None, None])
    alpha = (radius + 0.5 - distance).clamp(0, 1).unsqueeze(1)  # [B, 1, T, H, W]
    fore, back = (torch.as_tensor(c).view(-1, 3, 1, 1, 1) for c in (color, background))
    return back + alpha * (fore - back)


def path(x: float, y: float, dx: float = 0.0, dy: float = 0.0, frames: int = 24) -> Tensor:
    time = torch.arange(frames, dtype=torch.float32)
    return torch.stack((x + dx * time, y + dy * time), dim=-1).unsqueeze(0)


# --- pixels


def squares(left: list[int], frames: int = 8) -> Tensor:
    """A white square of 8 × 8 on black, at the given columns of each video."""
    videos = torch.zeros(len(left), 3, frames, SIZE, SIZE)
    for video, x in zip(videos, left, strict=True):
        video[:, :, 20:28, x : x + 8] = 1
    return videos


def test_truth_has_no_error() -> None:
    truth, last = squares([20, 30]), squares([0, 0])[:, :, :1]
    for error in ("motion_error", "union_error"):
        assert getattr(video_measures, error)(truth, truth, last).tolist() == [0, 0]
    assert video_measures.squared_error(truth, truth).tolist() == [0, 0]
    assert video_measures.sharpness(truth, truth, last).tolist() == [1, 1]
    assert video_measures.psnr(truth, truth).tolist() == [math.inf, math.inf]


def test_errors_count_the_pixels_that_move() -> None:
    truth, last = squares([20]), squares([0])[:, :, :1]
    copy = copy_last(last, 8)
    # Where the square was and where it is: all wrong in the copy.
    assert video_measures.motion_error(copy, truth, last).item() == 1
    assert video_measures.union_error(copy, truth, last).item() == 1
    gone = torch.zeros_like(truth)  # right about where it was
    assert video_measures.motion_error(gone, truth, last).item() == pytest.approx(0.5)
    assert video_measures.union_error(gone, truth, last).item() == pytest.approx(0.5)
    twice = torch.maximum(truth, squares([40]))  # one too many
    assert video_measures.motion_error(twice, truth, last).item() == 0
    assert video_measures.union_error(twice, truth, last).item() == pytest.approx(1 / 3)
    assert video_measures.squared_error(twice, truth).item() == pytest.approx(64 / SIZE**2)


def test_changes_below_the_threshold_are_no_motion() -> None:
    last = torch.full((1, 3, 1, SIZE, SIZE), 0.5)
    for change, moves in ((0.059, False), (0.061, True)):
        video = last.clone()
        video[:, 2, :, 3, 4] += change  # one channel is enough
        assert video_measures.departs(video, last).sum().item() == moves


def test_still_scenes_have_nothing_to_get_wrong() -> None:
    truth = squares([20])
    wrong = truth + 0.5 * squares([40])
    assert video_measures.motion_error(wrong, truth, truth[:, :, :1]).item() == 0
    assert video_measures.union_error(wrong, truth, truth[:, :, :1]).item() == pytest.approx(0.25)
    assert video_measures.sharpness(truth, truth, truth[:, :, :1]).isnan().all()
    assert video_measures.moving_psnr(wrong, truth).isnan().all()


def blurred(videos: Tensor) -> Tensor:
    return F.avg_pool3d(videos, (1, 3, 3), 1, (0, 1, 1), count_include_pad=False)


def test_sharpness_falls_with_blur_and_not_with_distance() -> None:
    truth, last = discs((1, 0, 0), path(20, 30, 1)), discs((1, 0, 0), path(19, 30, 0, 0, 1))
    assert video_measures.sharpness(blurred(truth), truth, last).item() < 0.9
    misplaced = discs((1, 0, 0), path(30, 40, 1))
    assert video_measures.sharpness(misplaced, truth, last).item() == pytest.approx(1, abs=0.02)
    gone = last[..., :1, :1].expand_as(truth)
    assert video_measures.sharpness(gone, truth, last).item() == 0


def test_psnr_of_a_known_error() -> None:
    truth = squares([10, 10]) * 0.5
    truth[:, :, 4:] = squares([30, 30])[:, :, 4:] * 0.5
    wrong = truth + torch.tensor([0.1, 0.01]).view(-1, 1, 1, 1, 1)
    assert video_measures.psnr(wrong, truth).tolist() == pytest.approx([20, 40], abs=1e-4)
    still_wrong = truth.clone()
    still_wrong[..., 50:, :] += 0.1  # nothing moves there
    assert video_measures.moving_psnr(wrong, truth).tolist() == pytest.approx([20, 40], abs=1e-4)
    assert video_measures.moving_psnr(still_wrong, truth).tolist() == [math.inf, math.inf]


# --- objects


def test_every_color_is_found_on_every_background() -> None:
    colors = palette("cpu")
    vivid, muted = colors[:VIVID], colors[VIVID:]
    pairs = [(o, b) for o in range(VIVID) for b in range(len(muted))]
    centers = torch.rand(len(pairs), 1, 2) * 44 + 10
    fore, back = (
        torch.stack(side) for side in zip(*[(vivid[o], muted[b]) for o, b in pairs], strict=True)
    )
    for light in (0.7, 1.0):
        found = detect(light * discs(fore, centers, 4.5, back), CLEAR)
        for row, (o, b) in enumerate(pairs):
            only = [c for c in range(VIVID) if found.found[row, 0, c]]
            assert only == [o], f"{list(PALETTE)[o]} on {list(PALETTE)[VIVID + b]}: {only}"
            x, y = centers[row, 0].tolist()
            place = found.center[row, 0, o].tolist()
            assert place == pytest.approx((x / SIZE, 1 - y / SIZE), abs=0.4 / SIZE)
            assert found.area[row, 0, o].item() * SIZE**2 == pytest.approx(64, rel=0.25)


RED = PALETTE["red"]


def test_what_is_too_small_large_thin_or_long_is_no_object() -> None:
    video = torch.full((5, 3, 1, SIZE, SIZE), 0.5)
    red = torch.tensor(RED).view(3, 1, 1, 1)
    video[0, :, :, 30:33, 30:32] = red  # 6 pixels
    video[1, :, :, 30:, :40] = red  # a wall
    video[2, :, :, 10:30, 10:30] = red
    video[2, :, :, 12:28, 12:28] = 0.5  # a frame
    video[3, :, :, 30:34, 10:26] = red  # a plank
    video[4, :, :, 30:36, 10:16] = red  # an object
    assert detect(video).found.sum(dim=(1, 2)).tolist() == [0, 0, 0, 0, 1]


def test_the_largest_object_of_a_color_counts() -> None:
    video = torch.maximum(
        discs((0.9, 0.1, 0.1), path(12, 12), 3, (0.1, 0.1, 0.1)),
        discs((0.9, 0.1, 0.1), path(44, 44), 6, (0.1, 0.1, 0.1)),
    )
    assert detect(video).center[0, :, 0].mul(SIZE).round().unique(dim=0).tolist() == [[44, 20]]


@given(st.integers(0, 10_000), st.sampled_from([0.35, 0.6, 0.9]))
def test_blobs_are_the_connected_pixels(seed: int, share: float) -> None:
    """Against a flood fill, on random maps, whose blobs wind."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, 2, (2, 9, 7), generator=generator).to(torch.int8)
    ids[torch.rand(ids.shape, generator=generator) > share] = NO_COLOR
    expected = []
    unseen = {tuple(place) for place in (ids != NO_COLOR).nonzero().tolist()}
    while unseen:
        front = [unseen.pop()]
        blob = list(front)
        while front:
            n, i, j = front.pop()
            for step in ((n, i + 1, j), (n, i - 1, j), (n, i, j + 1), (n, i, j - 1)):
                if step in unseen and ids[step] == ids[n, i, j]:
                    unseen.remove(step)
                    front.append(step)
                    blob.append(step)
        where = set(blob)
        inner = sum(
            {(n, i + 1, j), (n, i - 1, j), (n, i, j + 1), (n, i, j - 1)} <= where
            for n, i, j in blob
        )
        rows, columns = [b[1] for b in blob], [b[2] for b in blob]
        expected.append(
            (
                blob[0][0], int(ids[blob[0]]), len(blob), inner,
                round((sum(columns) / len(blob) + 0.5) / 7, 4),
                round((sum(rows) / len(blob) + 0.5) / 9, 4),
                max(columns) - min(columns) + 1, max(rows) - min(rows) + 1,
            )
        )  # fmt: skip
    blobs = _blobs(ids)
    fields = [getattr(blobs, field.name).tolist() for field in dataclasses.fields(blobs)]
    ours = [
        (*row[:4], round(row[4], 4), round(row[5], 4), *row[6:])
        for row in zip(*fields, strict=True)
    ]
    assert sorted(ours) == sorted(expected)


def test_nothing_is_found_in_noise_or_nothing() -> None:
    assert not detect(torch.zeros(1, 3, 2, SIZE, SIZE)).found.any()
    assert not detect(torch.rand(1, 3, 2, SIZE, SIZE)).found.any()


ASKED = torch.zeros(1, VIVID, dtype=torch.bool)
ASKED[0, OBJECT_COLORS.index("red")] = True


@pytest.mark.parametrize("shift", [0, 1, 3, 10])
def test_position_is_the_shift_in_widths(shift: int) -> None:
    truth = discs(RED, path(20, 30, 0.5))
    placed = placement(detect(truth.roll(shift, -1)), detect(truth, CLEAR), ASKED)
    assert placed.position.item() == pytest.approx(shift / SIZE, abs=1e-6)
    assert placed.placed.item() == pytest.approx(shift / SIZE, abs=1e-6)
    assert placed.miss.item() == 0


def test_removed_objects_are_missing() -> None:
    truth = discs(RED, path(20, 30))
    partly = truth.clone()
    partly[:, :, 6:] = 0.5  # gone from a quarter on
    placed = placement(detect(partly), detect(truth, CLEAR), ASKED)
    assert placed.miss.item() == pytest.approx(0.75)
    assert placed.position.item() == pytest.approx(0.75 * MISSING)
    assert placed.placed.item() == 0
    gone = placement(detect(torch.zeros_like(truth)), detect(truth, CLEAR), ASKED)
    assert gone.miss.item() == 1 and gone.placed.isnan().all()


def test_far_away_is_no_worse_than_missing() -> None:
    truth, far = discs(RED, path(8, 30)), discs(RED, path(56, 30))
    placed = placement(detect(far), detect(truth, CLEAR), ASKED)
    assert placed.position.item() == pytest.approx(MISSING) and placed.miss.item() == 0


def test_nobody_is_asked_for_what_is_not_there() -> None:
    truth = discs(PALETTE["blue"], path(8, 30))
    placed = placement(detect(truth), detect(truth, CLEAR), ASKED)
    assert placed.position.isnan().all() and placed.miss.isnan().all()


# --- held-out scenes


@pytest.fixture(scope="module")
def clips() -> HeldOut:
    return held_out(3, seed=3)


@pytest.fixture(scope="module")
def pool() -> HeldOut:
    return held_out(80, seed=8)


@pytest.fixture(scope="module")
def videos(clips: HeldOut) -> Tensor:
    return clips.videos(CPU)


def test_held_out_scenes_depend_on_the_seed_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.shared.held_out.FRAMES", 4)  # short ones do
    first, again, other = held_out(3, seed=3), held_out(3, seed=3), held_out(3, seed=4)
    assert again.prompts == first.prompts != other.prompts
    assert torch.equal(again.trajectories.position, first.trajectories.position)
    assert len(first) == 3 and all(first.prompts)


def test_colors_of_walls_name_no_object(clips: HeldOut) -> None:
    color = int(clips.looks.object_color_id[0, 0])
    assert clips.colors()[0, color]
    statics = torch.full_like(clips.looks.static_color_id, color)
    painted = dataclasses.replace(
        clips, looks=dataclasses.replace(clips.looks, static_color_id=statics)
    )
    assert not painted.colors()[0, color]
    absent = dataclasses.replace(clips.scenes, exists=torch.zeros_like(clips.scenes.exists))
    assert not dataclasses.replace(clips, scenes=absent).colors().any()


def test_detector_finds_the_objects_where_the_simulator_put_them(
    clips: HeldOut, videos: Tensor
) -> None:
    found = detect(videos)
    place = simworld.project(clips.trajectories, clips.looks)
    sight = simworld.seen(clips.trajectories, clips.looks)
    colors = clips.looks.object_color_id
    alone = clips.colors().gather(1, colors.clamp(max=VIVID - 1))  # [B, O]
    asked = sight & alone.unsqueeze(1)
    index = colors.unsqueeze(1).expand(-1, FRAMES, -1)
    there = found.found.gather(2, index)[asked]
    distance = found.center.gather(2, index.unsqueeze(-1).expand(-1, -1, -1, 2)) - place
    assert asked.sum() > 100 and there.float().mean() > 0.97
    assert distance.norm(dim=-1)[asked][there].mean() < 0.01


# --- controls


def scene(name: str, count: int = 3) -> tuple[simworld.Scenes, simworld.Trajectories]:
    scenes = simworld.sample_scenes(count, split="id", seed=1, scenario=name, occlusion=0.0)
    alone = torch.zeros_like(scenes.exists)
    alone[:, 0] = True
    scenes = dataclasses.replace(scenes, exists=alone)
    return scenes, simworld.simulate(scenes, frames=10)


def test_true_states_are_those_of_the_simulation() -> None:
    scenes, truth = scene("wall")
    states = true_states(scenes, 10)
    assert torch.equal(torch.stack([s.position for s in states], dim=1), truth.position)


@pytest.mark.parametrize("frame", [0, 2])
def test_extrapolation_of_free_flight(frame: int) -> None:
    scenes, _ = scene("flight")
    up = torch.full_like(scenes.position, 0.7)
    scenes = dataclasses.replace(
        scenes, position=up, static_exists=torch.zeros_like(scenes.static_exists)
    )
    truth = simworld.simulate(scenes, frames=10)
    fallen = extrapolate(scenes, truth, frame, "ballistic")
    straight = extrapolate(scenes, truth, frame, "constant velocity")
    assert (fallen.position - truth.position)[:, :, 0].abs().max() < 1e-5
    assert (fallen.angle - truth.angle)[:, :, 0].abs().max() < 1e-4
    time = (torch.arange(10) - frame).clamp(min=0)
    drop = (straight.position - truth.position)[:, :, 0, 1]
    assert torch.allclose(drop, 0.5 * scenes.gravity[:, None] * time**2, atol=1e-5)
    assert torch.equal(straight.position[:, : frame + 1], truth.position[:, : frame + 1])


@pytest.mark.parametrize("kind", ["constant velocity", "ballistic"])
def test_what_rests_stays_and_what_swings_is_no_stone(kind: Any) -> None:
    scenes, truth = scene("rest")
    moved = extrapolate(scenes, truth, 5, kind).position - truth.position
    assert moved[:, :, 0].abs().max() < 2e-3
    scenes, truth = scene("pendulum")
    path = extrapolate(scenes, truth, 5, kind).position[:, 6:, 0].diff(dim=1)
    assert (path - path[:, :1]).abs().max() < 1e-6  # straight on


def test_frozen_frame() -> None:
    prefix = torch.rand(2, 3, 4, 5, 5)
    copy = copy_last(prefix, 3)
    assert copy.shape == (2, 3, 3, 5, 5)
    assert torch.equal(copy, prefix[:, :, [3, 3, 3]])


@pytest.mark.parametrize("name", ["24 → 24", "image → 44"])
def test_examination_of_known_answers(name: str, clips: HeldOut, videos: Tensor) -> None:
    task = TASKS[name]
    examination = Examination(clips, videos, task)
    truth = videos[:, :, task.first :]
    right, soft = examination.mark(truth), examination.mark(blurred(truth))
    controls = {k: examination.mark(video) for k, video in examination.controls().items()}
    for measure in ("mse", "motion", "union", "position", "miss", "placed"):
        assert right[measure].nansum() == 0, measure
    assert right["sharp"].nanmean() == 1 and soft["sharp"].nanmean() < 0.9
    assert soft["miss"].nanmean() < 0.02 and soft["position"].nanmean() < 0.02
    copied = controls["copy last frame"]
    assert torch.equal(copied["motion"], copied["union"])
    for kind in ("constant velocity", "ballistic"):
        assert 0 < controls[kind]["union"].mean() < copied["union"].mean()
    part = examination.mark(blurred(truth)[1:3], slice(1, 3))
    for measure in MEASURES:
        assert torch.equal(part[measure].nan_to_num(), soft[measure][1:3].nan_to_num())


# --- prompts


def test_requests_are_many_and_in_plain_words() -> None:
    requests = all_requests()
    assert len(requests) == len({r.text for r in requests}) == 144
    texts = {r.text for r in requests}
    assert "an orange ball on the left rolls to the right" in texts
    assert "a blue box on the right lies still" in texts
    assert {r.move for r in requests if r.side == "left"} == {"rest", "fall", "right"}


@pytest.mark.parametrize(
    ("x", "dx", "dy", "side", "move"),
    [
        (16, 0, 0, "left", "rest"), (48, 0, 0, "right", "rest"), (16, 1.5, 0, "left", "right"),
        (48, -1.5, 0, "right", "left"), (16, 0, 1.5, "left", "fall"), (32, 0, 0, "middle", "rest"),
        (48, -1.5, 0.1, "right", "left"), (48, 0, -1, "right", "rises"),
    ],
)  # fmt: skip
def test_verdicts_on_drawn_clips(x: float, dx: float, dy: float, side: str, move: str) -> None:
    found = detect(discs(PALETTE["cyan"], path(x, 34, dx, dy)))
    for word in ("left", "right"):
        for what in obedience.MOVES:
            verdict = obeyed(found, [request("cyan", "circle", word, what)])
            assert verdict["color"].item() == 1
            assert verdict["side"].item() == (word == side)
            assert verdict["move"].item() == (what == move)
            assert verdict["all"].item() == (word == side and what == move)
    other = obeyed(found, [request("red", "circle", side if side != "middle" else "", "rest")])
    assert [v.item() for v in other.values()] == [0, 0, 0, 0]


def test_side_that_is_not_asked_for_is_obeyed() -> None:
    found = detect(discs(PALETTE["cyan"], path(32, 34, 1)))
    assert obeyed(found, [request("cyan", "square", "", "right")])["all"].item() == 1


def test_objects_that_come_late_or_flicker_are_not_there() -> None:
    video = discs(PALETTE["pink"], path(16, 34))
    asked = [request("pink", "circle", "left", "rest")]
    for gone, verdict in ((slice(0, 6), 1), (slice(0, 7), 0)):
        late = video.clone()
        late[:, :, gone] = 0.5
        assert obeyed(detect(late), asked)["color"].item() == verdict


def test_opposites() -> None:
    asked = [request("red", "circle", "left", "rest")]
    still = detect(discs(RED, path(16, 34)))
    assert {k: v.item() for k, v in contradicted(still, asked).items()} == {
        "color": 0, "side": 0, "move": 0,
    }  # fmt: skip
    contrary = detect(discs(RED, path(48, 24, 0, 1)))
    assert {k: v.item() for k, v in contradicted(contrary, asked).items()} == {
        "color": 0, "side": 1, "move": 1,
    }  # fmt: skip
    cyan = OBJECT_COLORS[4]
    other = detect(discs(PALETTE[cyan], path(16, 34)))
    assert contradicted(other, asked)["color"].item() == 1


def test_true_clips_obey_their_own_requests(pool: HeldOut) -> None:
    rows, requests = true_requests(pool)
    rows, requests = rows[:6], requests[:6]
    assert len(requests) == 6
    verdicts = obeyed(detect(pool[rows].videos(CPU)), requests)
    assert verdicts["color"].mean() == verdicts["side"].mean() == 1
    assert verdicts["move"].mean() == 1


# --- statistics


def test_bootstrap_interval_is_about_two_standard_errors() -> None:
    values = torch.randn(400, generator=torch.Generator().manual_seed(1)) + 3
    found = bootstrap.mean(values)
    error = values.std().item() / 20
    assert found.value == pytest.approx(values.mean().item())
    assert found.high - found.value == pytest.approx(1.96 * error, rel=0.1)
    assert found.value - found.low == pytest.approx(1.96 * error, rel=0.1)


def test_seeds_of_a_scene_are_not_independent_scenes() -> None:
    scenes = torch.randn(50, 1)
    alone, many = bootstrap.mean(scenes[:, 0]), bootstrap.mean(scenes.expand(-1, 16))
    assert many.low == pytest.approx(alone.low) and many.high == pytest.approx(alone.high)


def test_pairs_are_compared_within_scenes() -> None:
    hard = 10 * torch.rand(60)
    found = bootstrap.difference(hard + 1, hard)
    assert (found.value, found.low, found.high) == pytest.approx((1, 1, 1), abs=1e-5)
    half = bootstrap.ratio(hard / 2, hard)
    assert (half.value, half.low, half.high) == pytest.approx((0.5, 0.5, 0.5), abs=1e-6)


def test_what_could_not_be_measured_is_left_out() -> None:
    nan = math.nan
    assert bootstrap.mean(torch.tensor([[1.0, nan], [3.0, 5.0], [nan, nan]])).value == 2.5
    assert bootstrap.difference(torch.tensor([1.0, nan, 4]), torch.tensor([0.0, 1, nan])).value == 1
    assert bootstrap.ratio(torch.tensor([2.0, nan, 4]), torch.tensor([1.0, 9, nan])).value == 2
    assert math.isnan(bootstrap.mean(torch.full((3,), nan)).low)


def test_spread_over_seeds() -> None:
    found = bootstrap.spread(torch.tensor([[1.0, 3.0], [5.0, 9.0], [math.nan, 2.0]]))
    assert found.std == pytest.approx(math.sqrt((2 + 8) / 2))
    assert found.mean_std == pytest.approx(torch.tensor([3.0, 6.0]).std().item())
    assert (found.low, found.high) == (3, 6)


# --- generators


WORSE = '{"roll": 3, "stubborn": true}'


class Standin:
    """Remembers true videos by their first frame; moves objects, or draws what prompts ask for.

    Args:
        roll: Columns by which continuations are moved.
        stubborn: Puts everything on the left, whatever is asked.
    """

    known: Tensor

    def __init__(self, device: torch.device, roll: int = 0, stubborn: bool = False) -> None:
        assert device == CPU
        self.roll, self.stubborn = roll, stubborn
        self.calls: list[tuple[str, list[int]]] = []

    def describe(self) -> dict[str, Any]:
        return {"name": "stand-in", "weights_sha256": "0" * 64, "roll": self.roll}

    def _recall(self, images: Tensor) -> Tensor:
        same = (self.known[None, :, :, 0] - images[:, None]).abs().amax(dim=(2, 3, 4)) == 0
        assert same.any(dim=1).all()
        return self.known[same.int().argmax(dim=1)]

    def continue_video(
        self, prefix: Tensor, frames: int, prompts: Sequence[str], seeds: Sequence[int]
    ) -> Tensor:
        self.calls.append((f"{prefix.shape[2]} + {frames}", list(seeds)))
        video = self._recall(prefix[:, :, 0])[:, :, prefix.shape[2] :]
        assert video.shape[2] == frames and len(prompts) == len(seeds) == len(video)
        return video.roll(self.roll, -1)

    def from_image(
        self, images: Tensor, frames: int, prompts: Sequence[str], seeds: Sequence[int]
    ) -> Tensor:
        self.calls.append((f"image + {frames}", list(seeds)))
        return self._recall(images)[:, :, :frames] + 0.01

    def from_text(self, prompts: Sequence[str], frames: int, seeds: Sequence[int]) -> Tensor:
        drawn = []
        for words in (prompt.split() for prompt in prompts):
            x = 48 if words[5] == "right" and not self.stubborn else 16
            across = {"right": 0.7, "left": -0.7}.get(words[-1], 0)
            drop = 0.5 if words[-1] == "falls" else 0
            drawn.append(discs(PALETTE[words[1]], path(x, 24, across, drop, frames)))
        return torch.cat(drawn)

    def reconstruct(self, videos: Tensor) -> Tensor:
        return videos + 0.01


def fewer_requests() -> list[obedience.Request]:
    return [
        request(color, "circle", side, move)
        for color in ("red", "green")
        for side, move in (
            ("left", "right"),
            ("right", "left"),
            ("left", "rest"),
            ("right", "fall"),
        )
    ]


@pytest.fixture(scope="module")
def judged(
    clips: HeldOut, pool: HeldOut, videos: Tensor, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, dict[str, Any], Path]:
    """The whole benchmark on two settings: perfect; and moved by three pixels, and deaf for sides."""
    folder = tmp_path_factory.mktemp("quality")
    words = "--scenes 3 --seed 3 --seeds 2 --other_seeds 1 --batch 2 --prompts 2 --device cpu"
    more = ["--out", str(folder), "--tasks", "24 → 24", "image → 44"]
    more += ["--generator", f"{__name__}:Standin"]
    for settings in ("{}", WORSE):
        more += ["--settings", settings]
    scenes = {(3, 3): clips, (12, 4): pool}
    rows = steering_requests(pool)[0][:2]
    Standin.known = torch.cat((videos, pool[rows].videos(CPU)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(generator_quality, "held_out", lambda count, seed: scenes[count, seed])
        patch.setattr(prompting, "all_requests", fewer_requests)
        text, record = generator_quality.judge(
            generator_quality.argument_parser().parse_args([*words.split(), *more])
        )
    return text, record, folder


def test_record_says_what_was_measured(judged: tuple[str, dict[str, Any], Path]) -> None:
    text, record, folder = judged
    assert record["benchmark"] == "generator_quality" and record["machine"] and record["torch"]
    assert record["generators"]["generator"]["weights_sha256"] == "0" * 64
    assert list(record["generators"]) == ["generator", f"generator {WORSE}"]
    assert (record["scenes"], record["seeds"], record["seed"]) == (3, 2, 3)
    saved = (folder / "generator_quality.json").read_text()
    assert json.loads(saved, parse_constant=pytest.fail) == record
    assert (folder / "generator_quality.md").read_text() == text + "\n"
    assert record["machine"] in text and "0" * 64 in text
    for name in ("24_to_24", "image_to_44"):
        assert (folder / f"{name}.png").stat().st_size > 10_000


def test_perfect_and_moved_continuations(judged: tuple[str, dict[str, Any], Path]) -> None:
    _, record, _ = judged
    task = record["continuation"]["24 → 24"]
    perfect, moved = task["methods"]["generator"], task["methods"][f"generator {WORSE}"]
    for measure in ("mse", "motion", "union", "position", "miss", "placed"):
        assert perfect[measure] == {"value": 0, "low": 0, "high": 0}
    assert moved["placed"]["value"] == pytest.approx(3 / 64, abs=0.01)
    assert moved["union"]["value"] > moved["motion"]["value"] > 0
    copied = task["methods"]["copy last frame"]
    versus = task["differences"]["generator − copy last frame"]
    assert versus["union"]["value"] == pytest.approx(-copied["union"]["value"])
    assert versus["union"]["low"] < 0
    assert task["differences"][f"generator − generator {WORSE}"]["placed"]["value"] < 0
    ratio = task["ratios"][f"generator {WORSE}"]["motion / copy"]["value"]
    assert ratio == pytest.approx(moved["motion"]["value"] / copied["motion"]["value"])
    assert task["ratios"]["generator"]["sharp / decoded truth"]["value"] == pytest.approx(
        1, abs=0.02
    )
    assert task["spread"]["generator"]["union"]["std"] == 0
    assert record["continuation"]["image → 44"]["spread"] == {}  # one seed


def test_autoencoder_and_first_frame(judged: tuple[str, dict[str, Any], Path]) -> None:
    _, record, _ = judged
    for measure in ("psnr", "moving psnr", "image psnr"):
        assert 40 <= record["autoencoder"]["generator"][measure]["value"] < 40.5  # some is clipped
    image = record["continuation"]["image → 44"]["methods"]["generator"]
    assert 40 <= image["first psnr"]["value"] < 40.5


def test_prompts_of_an_obedient_and_a_stubborn_generator(
    judged: tuple[str, dict[str, Any], Path],
) -> None:
    text, record, _ = judged
    prompts = {
        who: {word: row["value"] for word, row in rows.items()}
        for who, rows in record["prompts"].items()
    }
    assert prompts["true clips"]["color"] == prompts["true clips"]["side"] == 1
    assert prompts["generator"] == {"color": 1, "side": 1, "move": 1, "all": 1}
    assert prompts["generator, wrong words"] == {"color": 0, "side": 0, "move": 0}
    stubborn = f"generator {WORSE}"
    assert prompts[stubborn]["side"] == prompts[f"{stubborn}, wrong words"]["side"] == 0.5
    assert "| true clips | 100.0 % [100.0, 100.0] |" in text


def test_steering_asks_for_both_ways(judged: tuple[str, dict[str, Any], Path]) -> None:
    _, record, _ = judged
    steering = record["steering"]
    assert steering["generator, true way asked"]["move"]["value"] == 1
    assert steering["generator, other way asked"]["move"]["value"] == 0  # it shows the truth
    assert steering["generator, other way asked"]["color"]["value"] == 1


def test_controls_alone(
    clips: HeldOut, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(generator_quality, "held_out", lambda count, seed: clips[torch.arange(2)])
    words = ["--scenes", "2", "--prompts", "0", "--size", "32", "--device", "cpu", "--tasks"]
    assert generator_quality.main([*words, "24 → 24"]) == 0
    out = capsys.readouterr().out
    record = json.loads(out.splitlines()[-1], parse_constant=pytest.fail)
    assert list(record["continuation"]) == ["24 → 24"]
    methods = record["continuation"]["24 → 24"]["methods"]
    assert list(methods) == ["truth", "copy last frame", "constant velocity", "ballistic"]
    assert record["generators"] == record["prompts"] == {}


def test_every_scene_and_seed_gets_noise_of_its_own() -> None:
    asked: list[int] = []

    def mark(rows: slice, numbers: list[int]) -> dict[str, Tensor]:
        asked.extend(numbers)
        scenes = torch.arange(rows.start, rows.stop)
        return {"scene": scenes.float(), "seed": torch.tensor(numbers)}

    values = over_seeds(mark, 5, 3, 2, "test")
    assert values["scene"].tolist() == [[row] * 3 for row in range(5)]
    assert len(set(asked)) == 15 and values["seed"].flatten().unique().numel() == 15


def test_generated_videos_are_checked() -> None:
    video = torch.tensor([-0.5, 0.5, 1.5], dtype=torch.float64).view(1, 3, 1, 1, 1)
    assert checked(video, (1, 3, 1, 1, 1), CPU).flatten().tolist() == [0, 0.5, 1]
    with pytest.raises(ValueError, match=r"returned \[1, 3, 1, 1, 1\], not \[1, 3, 2, 1, 1\]"):
        checked(video, (1, 3, 2, 1, 1), CPU)
    with pytest.raises(ValueError, match="not finite"):
        checked(video * math.nan, (1, 3, 1, 1, 1), CPU)
