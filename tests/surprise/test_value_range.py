"""Values that cannot be in the range that is said to be theirs."""

from __future__ import annotations

import pytest
import torch
from fakes import LinearWorldModel

from wmreward import SurpriseConfig, SurpriseReward, SurpriseScorer
from wmreward.errors import UsageError, VideoWarning
from wmreward.surprise.inputs import ValueRange, video_tensor

UNIT = torch.linspace(0, 1, 3 * 4 * 8 * 8).reshape(3, 4, 8, 8)


@pytest.mark.parametrize(
    ("values", "stated", "fits"),
    [
        (255 * UNIT, "0,1", "0,255"),
        (255 * UNIT, "-1,1", "0,255"),
        (2 * UNIT - 1, "0,1", "-1,1"),
        (255 * UNIT - 128, "0,255", ""),
    ],
)
def test_another_range_is_refused(values: torch.Tensor, stated: ValueRange, fits: str) -> None:
    with pytest.raises(UsageError, match=f'far outside value_range="{stated}".*{fits}'):
        video_tensor(values, stated)


def test_a_little_outside_is_allowed_and_more_is_told() -> None:
    for stated, low, high in (("0,1", 0, 1), ("-1,1", -1, 1), ("0,255", 0, 255)):
        values = low + (high - low) * UNIT
        middle = (low + high) / 2
        video_tensor(middle + 1.15 * (values - middle), stated)  # type: ignore[arg-type]
        with pytest.warns(VideoWarning, match="outside value_range"):
            video_tensor(middle + 1.5 * (values - middle), stated)  # type: ignore[arg-type]


def test_a_dark_video_may_be_meant() -> None:
    with pytest.warns(VideoWarning, match="nearly black"):
        video_tensor(UNIT, "0,255")
    video_tensor(torch.zeros(3, 4, 8, 8), "0,255")
    video_tensor(UNIT * 30, "0,255")


def test_messages_say_ranges_as_they_are_typed() -> None:
    for wrong, told in (("0-1", 'not "0-1"'), ((0, 1), "not (0, 1)"), ([0, 1], "not [0, 1]")):
        with pytest.raises(UsageError) as refused:
            video_tensor(UNIT, wrong)  # type: ignore[arg-type]
        assert f'value_range="-1,1", "0,1" or "0,255", {told} (' in str(refused.value)
    with pytest.raises(UsageError, match=r'value_range="-1,1", "0,1" or "0,255" \('):
        video_tensor(UNIT, None)
    with pytest.raises(UsageError, match='value_range="0,255" instead of "0,1"'):
        video_tensor(UNIT.byte(), "0,1")


def test_a_scorer_looks_at_the_range_too() -> None:
    """Called by a user; a generator's estimates on their way are scored as they are."""
    scorer = SurpriseScorer(LinearWorldModel(), SurpriseConfig(window_size=6, context_frames=4))
    video = torch.linspace(-1, 1, 3 * 8 * 4 * 4).reshape(1, 3, 8, 4, 4)
    scorer(video)
    with pytest.raises(
        UsageError, match=r"from -255 to 255, far outside the \[-1, 1\].*/ 127.5 - 1"
    ):
        scorer(255 * video)
    with pytest.warns(VideoWarning, match=r"outside the \[-1, 1\]"):
        scorer(1.5 * video)
    with pytest.raises(UsageError, match="NaN"):
        scorer(video / 0)
    assert scorer.score(255 * video)[0].isfinite().all()
    reward = SurpriseReward(scorer)
    assert reward((5 * video).requires_grad_()).scores.isfinite().all()
