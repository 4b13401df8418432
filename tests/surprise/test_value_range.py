"""Values that cannot be in the range that is said to be theirs."""

from __future__ import annotations

import pytest
import torch

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
    with pytest.raises(UsageError, match=f"far outside value_range={stated}.*{fits}"):
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
