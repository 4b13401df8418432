"""Which frames a window covers, and where its surprise is shown."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wmreward.errors import UsageError
from wmreward.surprise.windows import frame_maps, gather_windows, window_spans, window_starts

SIZES = st.integers(2, 20)
STRIDES = st.integers(1, 25)


@given(frames=st.integers(2, 120), size=SIZES, stride=STRIDES)
def test_windows_are_all_that_fit(frames: int, size: int, stride: int) -> None:
    if frames < size:
        with pytest.raises(UsageError, match=f"{frames} frames, but a window needs {size}"):
            window_starts(frames, size, stride)
        return
    starts = window_starts(frames, size, stride)
    by_hand = []
    start = 0
    while start + size <= frames:
        by_hand.append(start)
        start += stride
    assert list(starts) == by_hand
    assert len(starts) == (frames - size) // stride + 1


@pytest.mark.parametrize(("stride", "windows", "covered"), [(2, 17, 48), (4, 9, 48), (8, 5, 48)])
def test_the_published_49_frames(stride: int, windows: int, covered: int) -> None:
    starts = window_starts(49, 16, stride)
    assert len(starts) == windows and starts[-1] + 16 == covered  # frame 48 is in no window


def test_too_short_says_what_to_do() -> None:
    with pytest.raises(UsageError) as caught:
        window_starts(15, 16, 2)
    message = str(caught.value)
    assert "15 frames" in message and "needs 16" in message and "--fps" in message
    assert "\n" not in message


@given(size=SIZES, stride=STRIDES, extra=st.integers(0, 30), data=st.data(), step=st.integers(1, 5))
def test_spans_speak_of_the_source(
    size: int, stride: int, extra: int, data: st.DataObject, step: int
) -> None:
    frames = size + extra
    offset = data.draw(st.integers(1, size - 1))
    indices = [7 + step * i for i in range(frames)]
    times = [index / 30 for index in indices]
    starts = window_starts(frames, size, stride)
    spans = window_spans(starts, size, offset, indices, times)
    assert len(spans) == len(starts)
    for start, span in zip(starts, spans, strict=True):
        assert span[:3] == (indices[start], indices[start + offset], indices[start + size - 1])
        assert span[3:] == (times[start], times[start + offset], times[start + size - 1])
        assert span.start < span.target <= span.end


def test_gathered_windows_are_slices() -> None:
    pixels = torch.randn(2, 3, 9, 2, 2)
    which = [(1, 0), (0, 5), (1, 3), (1, 3)]
    windows = gather_windows(pixels, which, 4)
    assert windows.shape == (4, 3, 4, 2, 2)
    for window, (video, start) in zip(windows, which, strict=True):
        assert torch.equal(window, pixels[video, :, start : start + 4])


@given(
    windows=st.integers(1, 5),
    stride=st.integers(1, 6),
    tubelet=st.integers(1, 3),
    future=st.integers(1, 3),
    offset=st.integers(1, 4),
    tail=st.integers(0, 3),
)
def test_frame_maps_are_the_mean_over_windows(
    windows: int, stride: int, tubelet: int, future: int, offset: int, tail: int
) -> None:
    starts = [stride * i for i in range(windows)]
    frames = starts[-1] + offset + future * tubelet + tail
    maps = torch.randn(windows, future, 2, 2, dtype=torch.float64)
    ours = frame_maps(maps, starts, offset, tubelet, frames)
    assert ours.shape == (frames, 2, 2)
    for frame in range(frames):
        speaking = [
            maps[i, (frame - start - offset) // tubelet]
            for i, start in enumerate(starts)
            if 0 <= frame - start - offset < future * tubelet
        ]
        if speaking:
            expected = torch.stack(speaking).mean(dim=0)
            torch.testing.assert_close(ours[frame], expected, rtol=0, atol=1e-12)
        else:
            assert ours[frame].isnan().all()


def test_a_clip_without_a_clock_has_no_times() -> None:
    (span,) = window_spans([0], 4, 2, range(4), [math.nan] * 4)
    assert span[:3] == (0, 2, 3) and all(math.isnan(t) for t in span[3:])
