"""Rewards that judge by where given frames end, on videos of pipelines."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("diffusers")

from fakes import random_model
from run_rewards import Bright
from tiny_pipelines import Tiny, tiny

from wmreward.errors import UsageError
from wmreward.pipelines import guide_pipeline
from wmreward.pipelines.decoding import Economy
from wmreward.pipelines.seam import tell_plain
from wmreward.protocols import RewardScores
from wmreward.rewards.mix import RewardMix
from wmreward.rewards.world import SeamReward, SurpriseReward
from wmreward.steering.guidance import GuidanceConfig
from wmreward.steering.schedule import GuidanceSchedule
from wmreward.surprise.config import SurpriseConfig
from wmreward.surprise.scorer import SurpriseScorer

STRONG = GuidanceConfig(schedule=GuidanceSchedule((0.0, 0.15, 0.15, 0.0)))


@pytest.fixture(autouse=True)
def untold() -> Iterator[None]:
    tell_plain.cache_clear()
    yield
    tell_plain.cache_clear()


class Told(Bright):
    """Keeps how many frames it is shown, and how many of them were given."""

    def __init__(self) -> None:
        self.seen: set[tuple[int, int]] = set()

    def after(self, videos: Tensor, given: int) -> RewardScores:
        self.seen.add((videos.shape[2], given))
        return self(videos)


def from_video(frames: int = 9, made: int = 13) -> Tiny:
    """Cosmos-Predict2, which continues a video."""
    pipeline = tiny("cosmos2")
    del pipeline.call["image"]
    random = torch.Generator().manual_seed(5)
    given = torch.rand(1, frames, 3, 32, 32, generator=random)
    pipeline.call |= {"video": given, "num_frames": made}
    return pipeline


@pytest.mark.parametrize(
    ("name", "frames", "given"),
    [
        ("wan", 5, 0),
        ("wan_i2v", 5, 1),
        ("wan_5b_i2v", 5, 1),
        ("cogvideox_i2v", 9, 1),
        ("ltx_i2v", 9, 1),
        ("cosmos2", 5, 1),
    ],
)
def test_rewards_are_told_how_many_frames_were_given(name: str, frames: int, given: int) -> None:
    """In frames of video: the first latent frame stands for one, others for several."""
    reward = Told()
    made = tiny(name)
    with guide_pipeline(made.pipe, reward, STRONG):
        made.latents()
    assert reward.seen == {(frames, given)}


class Noted(SeamReward):
    """Keeps what it says, and what it would say of the whole video."""

    def __init__(self, scorer: SurpriseScorer) -> None:
        super().__init__(scorer)
        self.said: list[tuple[int, float, float]] = []

    def after(self, videos: Tensor, given: int) -> RewardScores:
        found = super().after(videos, given)
        self.said.append((given, found.scores.item(), self(videos.detach()).scores.item()))
        return found


def scorer() -> SurpriseScorer:
    model = random_model(dtype=torch.float32)
    return SurpriseScorer(model, SurpriseConfig(window_size=8, context_frames=4, stride=2))


@pytest.mark.parametrize("mixed", [False, True])
def test_windows_across_the_seam_guide_a_continued_video(
    mixed: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """They see the last given frames and the first new ones, not the whole video; alone or in a mix."""
    made, seam = from_video(), Noted(scorer())
    reward = RewardMix({"seam": seam}, {"seam": 1.0}) if mixed else seam
    with guide_pipeline(made.pipe, reward, STRONG) as guided:
        made.latents()
    assert len(guided.records) == 2 and not caplog.records
    assert {given for given, _, _ in seam.said} == {9}
    assert guided.records[0].before == pytest.approx(seam.said[0][1], rel=1e-5)
    assert all(abs(own - whole) > 1e-4 for _, own, whole in seam.said)


def test_where_no_window_fits_it_is_plain_surprise_and_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Once, however many videos are made; the videos are those that surprise guides."""
    reward = scorer()
    latents = []
    with caplog.at_level(logging.WARNING):
        for kind in (SeamReward, SeamReward, SurpriseReward):
            made = tiny("ltx_i2v")
            with guide_pipeline(made.pipe, kind(reward), STRONG):
                latents.append(made.latents())
    assert torch.equal(latents[0], latents[2]) and torch.equal(latents[0], latents[1])
    (told,) = [record.getMessage() for record in caplog.records]
    assert "is plain surprise here: LTXImageToVideoPipeline has 1 given frame" in told
    assert told.endswith("needs 4 or more")


def test_parts_of_a_video_have_no_seam() -> None:
    """Scored in turns, most steps would be guided by something else."""
    made: Any = from_video()
    with (
        pytest.raises(UsageError, match=r"needs the frames where given ones end .* Economy"),
        guide_pipeline(made.pipe, SeamReward(scorer()), STRONG, economy=Economy(scored=3)),
    ):
        made.latents()
