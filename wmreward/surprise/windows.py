"""Sliding context/future windows over a video: pure index arithmetic."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from wmreward.errors import UsageError, named
from wmreward.surprise.rules import reach


class Window(NamedTuple):
    """One window of a clip.

    Attributes:
        start: Its first frame.
        frame_stride: Frames of the clip from one of its frames to the next.
    """

    start: int
    frame_stride: int = 1

    def frames(self, first: int, last: int) -> slice:
        """Its frames from number ``first`` on and before ``last``, as frames of the clip."""
        start, step = self.start, self.frame_stride
        return slice(start + first * step, start + (last - 1) * step + 1, step)


class Layout(NamedTuple):
    """How the frames of a window are divided.

    Attributes:
        size: Frames of a window.
        target: Those before the first predicted one: the context in whole tubelets.
        tubelet: Frames per token.
    """

    size: int
    target: int
    tubelet: int


class WindowSpan(NamedTuple):
    """Where one window lies in the source video.

    Attributes:
        start: Source frame number of the first context frame.
        target: Source frame number of the first predicted frame.
        end: Source frame number of the last frame.
        start_s, target_s, end_s: Their presentation times in seconds (``nan`` for a video without a clock).
        frame_stride: Sampled frames from one frame of the window to the next.
    """

    start: int
    target: int
    end: int
    start_s: float
    target_s: float
    end_s: float
    frame_stride: int = 1


def window_starts(num_frames: int, window_size: int, stride: int) -> range:
    """First frames of all windows: 0, s, 2s, …; ⌊(T − w)/s⌋ + 1 of them."""
    if num_frames == 1 < window_size:
        raise UsageError(
            f"too short: a single frame, but a window needs {window_size}; if it is one of many pictures "
            "that make a video, name their folder"
        )
    if num_frames < window_size:
        raise UsageError(
            f"too short: {num_frames} frames, but a window needs {window_size}; "
            f"use a longer video, more of its frames a second, or a smaller {named('window_size')}"
        )
    return range(0, num_frames - window_size + 1, stride)


def cut_windows(
    num_frames: int, window_size: int, stride: int, frame_strides: Sequence[int] = (1,)
) -> list[Window]:
    """All windows of a clip, by frame stride in the given order and then by their first frame.

    At frame stride k the clip is k clips of every k-th frame, one for each of the frames 0 … k − 1 that
    it can begin with (the phases). Windows are cut from each of them as from any clip.
    """
    windows = []
    window_starts(num_frames, window_size, stride)  # raises: too short
    for step in frame_strides:
        if step > 1 and num_frames < (needed := reach(window_size, step)):
            raise UsageError(
                f"too short: {num_frames} frames, but a window of every frame in {step} needs {needed}; "
                f"use a longer video, smaller {named('frame_strides')} (or higher "
                f"{named('rates')}, where those were given) or a smaller {named('window_size')}"
            )
        windows += sorted(
            Window(phase + step * start, step)
            for phase in range(step)
            for start in range(0, -((phase - num_frames) // step) - window_size + 1, stride)
        )
    return windows


class WindowQueue:
    """Which windows are complete as the frames of a clip arrive, and which frames later ones still need."""

    def __init__(self, window_size: int, stride: int, frame_strides: Sequence[int]) -> None:
        self._size, self._stride = window_size, stride
        # The next window of every phase of every frame stride.
        self._next = [Window(phase, step) for step in frame_strides for phase in range(step)]

    def complete(self, num_frames: int) -> list[Window]:
        """Windows that end within the first ``num_frames`` frames and were not told before."""
        ready: list[Window] = []
        for place, (start, step) in enumerate(self._next):
            begins = range(start, num_frames - reach(self._size, step) + 1, self._stride * step)
            ready += [Window(begin, step) for begin in begins]
            self._next[place] = Window(start + len(begins) * self._stride * step, step)
        return ready

    @property
    def needed(self) -> int:
        """The first frame that a later window sees."""
        return min(window.start for window in self._next)


def seam_windows(
    num_frames: int, given: int, window_size: int, context: int, frame_strides: Sequence[int]
) -> list[Window]:
    """The windows of a clip whose ``context`` first frames are given ones and all others new.

    One for each phase of each frame stride, as far as they fit; the first ``given`` frames are given.
    """
    return [
        Window(start, step)
        for step in frame_strides
        for start in range(given - context * step, given - context * step + step)
        if start >= 0 and start + reach(window_size, step) <= num_frames
    ]


def window_spans(
    windows: Sequence[Window],
    window_size: int,
    target_offset: int,
    indices: Sequence[int],
    times_s: Sequence[float],
) -> list[WindowSpan]:
    """The windows in source frame numbers and seconds, from what each sampled frame was in the source."""
    spans = []
    for start, step in windows:
        a, b, c = start, start + target_offset * step, start + (window_size - 1) * step
        frames, times = (indices[a], indices[b], indices[c]), (times_s[a], times_s[b], times_s[c])
        spans.append(WindowSpan(*frames, *times, step))
    return spans


def gather_windows(pixels: Tensor, which: Iterable[tuple[int, Window]], window_size: int) -> Tensor:
    """Windows ``[N, C, w, H, W]`` of ``pixels [B, C, T, H, W]``; ``which`` lists N of (video, window)."""
    return torch.stack([pixels[video, :, window.frames(0, window_size)] for video, window in which])


def frame_maps(
    maps: Tensor,
    windows: Sequence[Window],
    target_offset: int,
    tubelet: int,
    num_frames: int,
) -> Tensor:
    """Spread per-window token maps over the frames they speak of.

    Args:
        maps: ``[W, t, g, g]``.
        windows: Where they lie.
        target_offset: Frames of a window before its first predicted one.
        tubelet: Frames per token.
        num_frames: Frames of the clip, T.

    Returns:
        ``[T, g, g]``: the mean over all windows that predicted the frame; NaN where none did.
    """
    total = maps.new_zeros(num_frames, *maps.shape[2:])
    count = maps.new_zeros(num_frames, 1, 1)
    per_frame = maps.repeat_interleave(tubelet, dim=1)
    for window, values in zip(windows, per_frame, strict=True):
        span = window.frames(target_offset, target_offset + len(values))
        total[span] += values
        count[span] += 1
    return total / count  # 0 / 0 = NaN marks the frames that no window predicts
