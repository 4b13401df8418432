"""Which frames a window covers, and where its surprise is shown."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wmreward.errors import UsageError
from wmreward.surprise.config import SurpriseConfig
from wmreward.surprise.rules import reach
from wmreward.surprise.windows import (
    Window,
    cut_windows,
    frame_maps,
    gather_windows,
    seam_windows,
    window_spans,
    window_starts,
)

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
    assert "15 frames" in message and "needs 16" in message
    assert "a smaller window_size" in message and "--" not in message
    assert "\n" not in message


def test_a_single_picture_is_told_from_a_short_clip() -> None:
    for strides in ((1,), (2,)):
        with pytest.raises(UsageError, match=r"a single frame, .* name their folder"):
            cut_windows(1, 16, 2, strides)
    with pytest.raises(UsageError, match="or higher rates, where those were given"):
        cut_windows(24, 16, 2, (1, 2))


FRAME_STRIDES = st.lists(st.integers(1, 4), min_size=1, max_size=3, unique=True)


@given(frames=st.integers(2, 90), size=SIZES, stride=st.integers(1, 9), steps=FRAME_STRIDES)
def test_a_frame_stride_is_the_windows_of_every_slower_clip(
    frames: int, size: int, stride: int, steps: list[int]
) -> None:
    """Of every phase, that is: as if the video had been filmed at a lower rate, from each first frame."""
    if frames < max(reach(size, step) for step in steps):
        with pytest.raises(UsageError, match=f"too short: {frames} frames"):
            cut_windows(frames, size, stride, steps)
        return
    windows = cut_windows(frames, size, stride, steps)
    by_hand = {
        (tuple(clip[start : start + size]), step)
        for step in steps
        for clip in (range(frames)[phase::step] for phase in range(step))
        for start in range(0, len(clip) - size + 1, stride)
    }
    covered = [(tuple(range(frames)[w.frames(0, size)]), w.frame_stride) for w in windows]
    assert len(covered) == len(by_hand) and set(covered) == by_hand
    assert windows == sorted(windows, key=lambda w: (steps.index(w.frame_stride), w.start))


@given(
    frames=st.integers(2, 90),
    given_=st.integers(0, 60),
    size=SIZES,
    steps=FRAME_STRIDES,
    data=st.data(),
)
def test_the_seam_is_where_what_was_given_ends(
    frames: int, given_: int, size: int, steps: list[int], data: st.DataObject
) -> None:
    context = data.draw(st.integers(1, size - 1))
    windows = seam_windows(frames, given_, size, context, steps)
    by_hand = [
        Window(start, step)
        for step in steps
        for start in range(frames - reach(size, step) + 1)
        if start + (context - 1) * step < given_ <= start + context * step
    ]
    assert windows == by_hand
    for step in steps:  # all phases, where there is room
        if given_ >= context * step and given_ + step - 1 + (size - context - 1) * step < frames:
            assert [w.frame_stride for w in windows].count(step) == step


@given(size=SIZES, stride=STRIDES, extra=st.integers(0, 30), data=st.data(), step=st.integers(1, 5))
def test_spans_speak_of_the_source(
    size: int, stride: int, extra: int, data: st.DataObject, step: int
) -> None:
    frames = size + extra
    offset = data.draw(st.integers(1, size - 1))
    indices = [7 + step * i for i in range(frames)]
    times = [index / 30 for index in indices]
    starts = window_starts(frames, size, stride)
    spans = window_spans([Window(start) for start in starts], size, offset, indices, times)
    assert len(spans) == len(starts)
    for start, span in zip(starts, spans, strict=True):
        assert span[:3] == (indices[start], indices[start + offset], indices[start + size - 1])
        assert span[3:6] == (times[start], times[start + offset], times[start + size - 1])
        assert span.frame_stride == 1
        assert span.start < span.target <= span.end


def test_gathered_windows_are_slices() -> None:
    pixels = torch.randn(2, 3, 9, 2, 2)
    which = [(1, Window(0)), (0, Window(5)), (1, Window(3)), (1, Window(1, 2)), (0, Window(0, 2))]
    windows = gather_windows(pixels, which, 4)
    assert windows.shape == (5, 3, 4, 2, 2)
    for window, (video, (start, step)) in zip(windows, which, strict=True):
        assert torch.equal(window, pixels[video, :, start::step][:, :4])


@given(
    windows=st.integers(1, 5),
    stride=st.integers(1, 6),
    tubelet=st.integers(1, 3),
    future=st.integers(1, 3),
    offset=st.integers(1, 4),
    tail=st.integers(0, 3),
    step=st.integers(1, 3),
)
def test_frame_maps_are_the_mean_over_windows(
    windows: int, stride: int, tubelet: int, future: int, offset: int, tail: int, step: int
) -> None:
    starts = [stride * i for i in range(windows)]
    frames = starts[-1] + (offset + future * tubelet) * step + tail
    maps = torch.randn(windows, future, 2, 2, dtype=torch.float64)
    ours = frame_maps(maps, [Window(start, step) for start in starts], offset, tubelet, frames)
    assert ours.shape == (frames, 2, 2)
    for frame in range(frames):
        speaking = [
            maps[i, ((frame - start) // step - offset) // tubelet]
            for i, start in enumerate(starts)
            if (frame - start) % step == 0
            and 0 <= (frame - start) // step - offset < future * tubelet
        ]
        if speaking:
            expected = torch.stack(speaking).mean(dim=0)
            torch.testing.assert_close(ours[frame], expected, rtol=0, atol=1e-12)
        else:
            assert ours[frame].isnan().all()


def test_a_clip_without_a_clock_has_no_times() -> None:
    (span,) = window_spans([Window(0, 2)], 4, 2, range(7), [math.nan] * 7)
    assert span[:3] == (0, 4, 6) and all(math.isnan(t) for t in span[3:6])
    assert span.frame_stride == 2


@given(
    size=SIZES,
    stride=st.integers(1, 9),
    steps=FRAME_STRIDES,
    kept=st.integers(1, 12),
)
def test_the_shortest_video_has_just_the_windows_that_are_kept(
    size: int, stride: int, steps: list[int], kept: int
) -> None:
    config = SurpriseConfig(
        window_size=size,
        context_frames=1,
        stride=stride,
        mode=f"topk{kept}",
        frame_strides=tuple(steps),
    )
    longest, frames = max(steps), config.min_frames
    assert len(cut_windows(frames, size, stride, (longest,))) == kept
    if frames > reach(size, longest):
        assert len(cut_windows(frames - 1, size, stride, (longest,))) == kept - 1
