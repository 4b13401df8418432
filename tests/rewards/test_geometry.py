"""Geometry of features over time: the five signals against plain definitions, gradients, memory, places."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from fakes import NANO, random_model
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from wmreward.errors import UsageError
from wmreward.rewards.encoders import WorldModelEncoder, of_world_model
from wmreward.rewards.features import Trajectory
from wmreward.rewards.geometry import SIGNALS, Bends, GeometryReward
from wmreward.rewards.mix import RewardMix
from wmreward.surprise.config import SurpriseConfig
from wmreward.surprise.scorer import SurpriseScorer


class Means:
    """Describes a piece by the mean colour of its pixels, twice: two equal tokens."""

    name, middle = "means", 0.5

    def __init__(self, frames: int = 2, step: int = 2) -> None:
        self.frames, self.step = frames, step
        self.model = nn.Linear(1, 1)
        self.batch_sizes: list[int] = []

    def preprocess(self, video: Tensor) -> Tensor:
        return 3 * video

    def tokens(self, pieces: Tensor) -> Tensor:
        self.batch_sizes.append(len(pieces))
        return pieces.square().mean(dim=(2, 3, 4))[:, None].expand(-1, 2, -1)


def path_of(*points: tuple[float, ...]) -> Tensor:
    return torch.tensor(points, dtype=torch.float64)[None]


def videos_of(count: int, frames: int, side: int = 8, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    size = (count, 3, frames, side, side)
    return torch.rand(size, generator=generator, dtype=torch.float64) * 2 - 1


# --- signals ------------------------------------------------------------------------------------------


@given(st.integers(0, 10_000), st.integers(4, 12), st.integers(1, 6))
def test_signals_are_what_they_are_called(seed: int, count: int, width: int) -> None:
    """Against loops over one trajectory at a time."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(2, count, width, generator=generator, dtype=torch.float64)
    found = Bends.of(features).signals()
    for row, f in enumerate(features):
        steps = [f[t + 1] - f[t] for t in range(count - 1)]
        speeds = torch.stack([step.norm() for step in steps])
        cosines = [torch.dot(a, b) / (a.norm() * b.norm()) for a, b in pairwise(steps)]
        angles = torch.stack([c.clamp(-1, 1).acos() for c in cosines])
        bent = torch.stack([f[t + 1] - 2 * f[t] + f[t - 1] for t in range(1, count - 1)])
        # Every component of a step is predicted from that of the step before and of the feature.
        known = torch.stack(
            [torch.stack((steps[t], f[t + 1] - f.mean(0)), -1) for t in range(count - 2)]
        ).reshape(-1, 2)
        wanted = torch.stack(steps[1:]).reshape(-1, 1)
        best = torch.linalg.lstsq(known, wanted).solution
        left = (wanted - known @ best).square().sum() / (count - 2)
        expected = {
            "speed_spread": speeds.std(correction=0),
            "turning": angles.mean(),
            "turning_spread": angles.std(correction=0),
            "acceleration": bent.square().sum(-1).mean(),
            "residual": left,
        }
        for name, value in expected.items():
            got = getattr(found, name)[row].item()
            assert got == pytest.approx(value.item(), rel=1e-4, abs=2e-5), name


def test_an_even_straight_way_bends_nowhere() -> None:
    straight = path_of(*((t, 2.0 * t) for t in range(8)))
    signals = Bends.of(straight).signals()
    for name in SIGNALS:
        assert getattr(signals, name).item() == pytest.approx(0, abs=3e-6), name
    # A right-angled corner is one turn of π/2 of six, and only turning tells it from a change of speed.
    corner = path_of((0, 0), (1, 0), (2, 0), (3, 0), (4, 0), (4, 1), (4, 2), (4, 3))
    faster = path_of(*((t, 0) for t in (0, 1, 2, 3, 4, 6, 8, 10)))
    assert Bends.of(corner).signals().turning.item() == pytest.approx(math.pi / 12, abs=1e-5)
    assert Bends.of(corner).signals().speed_spread.item() < 1e-5
    assert Bends.of(faster).signals().turning.item() < 1e-5
    assert Bends.of(faster).signals().speed_spread.item() > 0.4


def test_an_even_swing_can_be_predicted_and_a_jolt_cannot() -> None:
    """Acceleration sees both; the residual of linear prediction tells them apart."""
    swing = torch.stack([torch.cos(torch.arange(40.0).double() / 2), torch.zeros(40)], dim=-1)[None]
    jolt = swing.clone()
    jolt[:, 20:, 1] += 1
    signals, jolted = Bends.of(swing).signals(), Bends.of(jolt).signals()
    assert signals.acceleration.item() > 0.02 and signals.residual.item() < 1e-3
    assert jolted.residual.item() > 1e-2


def test_more_irregular_is_less_plausible_in_any_unit() -> None:
    generator = torch.Generator().manual_seed(0)
    smooth = torch.linspace(0, 1, 12, dtype=torch.float64)[:, None] * torch.ones(5)
    noise = torch.randn(12, 5, generator=generator, dtype=torch.float64)
    levels = [smooth + scale * noise for scale in (0.01, 0.05, 0.2)]
    scores = Bends.of(torch.stack(levels)).signals().plausibility()
    assert scores[0] > scores[1] > scores[2]
    scaled = Bends.of(7 * torch.stack(levels)).signals().plausibility()
    change = scaled - scores
    torch.testing.assert_close(change, change[:1].expand(3), atol=1e-5, rtol=0)


def test_a_video_that_stands_still_has_numbers_and_a_gradient() -> None:
    still = torch.ones(1, 6, 3, requires_grad=True)
    scores = Bends.of(still).signals().plausibility()
    scores.sum().backward()
    assert scores.isfinite().all() and still.grad is not None and still.grad.isfinite().all()
    with pytest.raises(UsageError, match="needs 4 features"):
        Bends.of(torch.ones(1, 3, 3))


# --- the reward ---------------------------------------------------------------------------------------


def reward_of(encoder: Any = None, **sizes: int) -> GeometryReward:
    return GeometryReward(Trajectory(encoder or Means(), **sizes))


def test_a_video_is_judged_by_the_features_of_its_pieces() -> None:
    videos = videos_of(2, 17)
    judged = reward_of(batch_size=3)(videos)
    pairs = (3 * videos[:, :, :16]).unflatten(2, (8, 2)).square().mean(dim=(3, 4, 5))
    expected = Bends.of(pairs.transpose(1, 2)).signals()
    torch.testing.assert_close(judged.scores, expected.plausibility())
    assert list(judged.parts) == list(SIGNALS)
    torch.testing.assert_close(judged.parts["residual"], expected.residual)


def test_the_gradient_is_that_of_one_graph_in_bounded_memory() -> None:
    encoder = Means(frames=4, step=2)
    videos = videos_of(2, 14).requires_grad_()
    scores = reward_of(encoder, grad_batch_size=2)(videos).scores
    assert max(encoder.batch_sizes[1:]) <= 2  # only so much is differentiated at once
    (found,) = torch.autograd.grad(scores.sum(), videos)
    pieces = (3 * videos).unfold(2, 4, 2).square().mean(dim=(3, 4, 5)).transpose(1, 2)
    plain = Bends.of(pieces).signals().plausibility()
    (expected,) = torch.autograd.grad(plain.sum(), videos)
    torch.testing.assert_close(scores, plain)
    torch.testing.assert_close(found, expected)
    assert expected.abs().max() > 0
    # A step along it makes the video more regular.
    better = reward_of(encoder)((videos + 1e-3 * found / found.abs().max()).detach()).scores
    assert (better > scores).all()


def test_each_score_has_its_own_gradient() -> None:
    videos = videos_of(2, 12).requires_grad_()
    (found,) = torch.autograd.grad(reward_of()(videos).scores[0], videos)
    assert found[0].abs().max() > 0 and not found[1].any()


def test_the_curve_shows_when_something_happens() -> None:
    videos = torch.linspace(0.1, 0.9, 40).double()[None, None, :, None, None] * torch.ones(
        1, 3, 40, 4, 4
    )
    videos[:, 0, 24:] *= 0.5
    curve, places = reward_of().curve(videos)
    assert curve.shape == (1, 18) and len(places) == 18
    assert places[:2] == [2.5, 4.5]
    assert curve.mean().item() == pytest.approx(1, abs=0.05)
    assert abs(places[int(curve.argmax())] - 24) <= 2


def test_features_of_a_world_model_are_made_in_the_middle_of_a_window() -> None:
    model = random_model(NANO)
    encoder = WorldModelEncoder(model, frames=8)
    videos = videos_of(2, 15, side=32)
    features = Trajectory(encoder, batch_size=3)(videos)
    assert features.shape == (2, 4, NANO.width)
    n = NANO.tokens_per_tubelet
    pixels = model.preprocess(videos)
    for step in range(4):
        window = model.encoder(pixels[:, :, 2 * step : 2 * step + 8])
        torch.testing.assert_close(features[:, step], window[:, n : 2 * n].mean(dim=1))
    assert Trajectory(encoder).places(15) == [2.5, 4.5, 6.5, 8.5]
    assert GeometryReward(Trajectory(encoder)).min_frames == 14
    # What a feature is does not depend on how long the video is.
    torch.testing.assert_close(Trajectory(encoder)(videos[:, :, :10]), features[:, :2])
    with pytest.raises(UsageError, match="too short: 7 frames, but encoder nano sees 8"):
        Trajectory(encoder)(videos[:, :, :7])
    with pytest.raises(UsageError, match="too small: a token of nano spans 2"):
        WorldModelEncoder(model, frames=1)
    with pytest.raises(UsageError, match="has no encoder"):
        of_world_model(object(), 16)


# --- in a mix -----------------------------------------------------------------------------------------


def test_candidates_are_compared_by_the_ranks_of_the_signals() -> None:
    scorer = SurpriseScorer(random_model(), SurpriseConfig(window_size=8, context_frames=4))
    mix = RewardMix.parse(["geometry", "surprise=0"], surprise=scorer)
    judged = [mix.judge(video) for video in videos_of(4, 20, side=32)]
    table = mix.table(judged)["geometry"]
    for place, one in enumerate(judged):
        beaten = [
            sum(other.parts[f"geometry.{name}"] > one.parts[f"geometry.{name}"] for other in judged)
            for name in SIGNALS
        ]
        assert table[place].item() == pytest.approx(sum(beaten) / 15)
    assert table.sum().item() == pytest.approx(2)
    # Alone it has no rank: its own score stands.
    assert mix.table(judged[:1])["geometry"].item() == judged[0].scores["geometry"]
    assert mix.differentiable and mix.min_frames == 14
    assert mix.networks == [scorer.model]


def test_another_encoder_serves_geometry_and_consensus() -> None:
    encoder = Means()
    mix = RewardMix.parse(["geometry", "consensus"], encoder=encoder)
    videos = 0.1 * videos_of(3, 10)
    videos[:2, 0] += 1  # two are red, one is blue
    videos[2, 2] += 1
    judged = [mix.judge(video) for video in videos]
    assert judged[0].embeddings["consensus"].shape == (5 * 2 * 3,)
    assert mix.table(judged)["consensus"].argmin() == 2
    assert not mix.differentiable and mix.guiding().rewards.keys() == {"geometry"}


def test_the_curve_is_judged_and_recorded_with_the_score() -> None:
    """Of both kinds of rewards, each from the forward passes of its score, in frames of the video."""
    model = random_model(NANO)
    scorer = SurpriseScorer(model, SurpriseConfig(window_size=6, context_frames=2, stride=3))
    mix = RewardMix.parse(["surprise", "geometry", "consensus"], surprise=scorer)
    video = videos_of(1, 15, NANO.crop)
    judged = mix.judge(video[0])
    assert judged.curves.keys() == {"surprise", "geometry"}
    by_windows = scorer.score_windows(video).values[0]
    assert judged.curves["surprise"]["values"] == pytest.approx(by_windows.tolist(), rel=1e-5)
    # Of 6 frames the last four are predicted: 2 … 5, then 5 … 8.
    assert judged.curves["surprise"]["frames"] == [3.5, 6.5, 9.5, 12.5]
    bent = GeometryReward(Trajectory(of_world_model(model, 6))).curve(video)
    assert judged.curves["geometry"]["values"] == pytest.approx(bent.values[0].tolist(), rel=1e-5)
    assert judged.curves["geometry"]["frames"] == list(bent.places)
    assert mix.judging()(video).curve is None  # a sum of rewards has no curve
