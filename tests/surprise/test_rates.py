"""Frames per second → sampled rate and frame strides: clips of any rate are judged alike."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from wmreward.errors import UsageError
from wmreward.scoring.settings import with_rates
from wmreward.surprise.compute import compute_vjepa_surprise
from wmreward.surprise.result import SurpriseResult
from wmreward.surprise.sampling import at_rates
from wmreward.video_io import write_video


@pytest.mark.parametrize(
    ("rates", "expected"),
    [
        ([5], (5.0, (1,))),
        ([4, 8, 24], (24.0, (1, 3, 6))),
        ([6.0, 4.0], (12.0, (2, 3))),
        ([12.5, 5], (25.0, (2, 5))),
        ([30000 / 1001], (30000 / 1001, (1,))),
    ],
)
def test_the_sampled_rate_is_the_lowest_that_all_divide(
    rates: list[float], expected: tuple[float, tuple[int, ...]]
) -> None:
    fps, strides = at_rates(rates)
    assert (fps, strides) == (pytest.approx(expected[0]), expected[1])
    assert sorted(fps / stride for stride in strides) == pytest.approx(sorted(rates))


@pytest.mark.parametrize(
    ("rates", "says"),
    [
        ([], "different numbers"),
        ([5, 5], "different numbers"),
        ([0], "above 0"),
        ([500], "up to 240"),
        ([7, 9, 11], "no common multiple"),
    ],
)
def test_rates_that_cannot_be(rates: list[float], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        at_rates(rates)


def test_rates_leave_no_other_choice_of_frames() -> None:
    values = {"rates": [4.0, 8.0], "fps": None, "frame_strides": (1,)}
    assert with_rates(values, {"rates"}) == {**values, "fps": 8.0, "frame_strides": (1, 2)}
    assert with_rates({**values, "rates": None}, {"fps"})["fps"] is None
    for flag in ("fps", "max_frames", "frame_strides"):
        with pytest.raises(UsageError, match=f"--rates and --{flag}"):
            with_rates(values, {"rates", flag})


def moving_square(fps: int, seconds: float) -> np.ndarray:
    """A square that crosses the picture in two seconds, at any frame rate."""
    frames = np.full((round(fps * seconds), 64, 64, 3), 200, dtype=np.uint8)
    for number, frame in enumerate(frames):
        left = round(4 + 22 * number / fps)
        frame[24:40, left : left + 12] = (180, 30, 30)
    return frames


@pytest.mark.filterwarnings("ignore:.*knows simulated balls")
def test_clips_of_24_and_of_30_frames_a_second_are_judged_alike(tmp_path: Path) -> None:
    found = []
    for fps in (24, 30):
        path = tmp_path / f"{fps}.mp4"
        write_video(path, moving_square(fps, 2.2), fps, crf=10)
        found.append(
            compute_vjepa_surprise(
                path, "tiny", stride=4, rates=[6, 12], window_size=8, context_frames=4
            )
        )
    slow, fast = found
    assert isinstance(slow, SurpriseResult) and isinstance(fast, SurpriseResult)
    assert slow.settings["frame_strides"] == [1, 2] and slow.settings["sampling"]["fps"] == 12
    assert [w.frame_stride for w in slow.windows] == [w.frame_stride for w in fast.windows]
    for ours, theirs in zip(slow.windows, fast.windows, strict=True):
        assert ours.end_s - ours.start_s == pytest.approx(7 * ours.frame_stride / 12, abs=0.05)
        assert ours.target_s == pytest.approx(theirs.target_s, abs=0.05)
    as_stored = [
        compute_vjepa_surprise(
            tmp_path / f"{fps}.mp4", "tiny", stride=4, window_size=8, context_frames=4
        )
        for fps in (24, 30)
    ]
    assert abs(float(slow) - float(fast)) < abs(float(as_stored[0]) - float(as_stored[1]))


def test_rates_are_of_files() -> None:
    with pytest.raises(UsageError, match="rates are of a file"):
        compute_vjepa_surprise(moving_square(12, 1), "tiny", rates=[4])
    with pytest.raises(UsageError, match="leave out"):
        compute_vjepa_surprise("a.mp4", "tiny", rates=[4], fps=8)
