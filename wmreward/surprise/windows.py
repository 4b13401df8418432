"""Sliding context/future windows over a video: pure index arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from wmreward.errors import UsageError


class WindowSpan(NamedTuple):
    """Where one window lies in the source video.

    Attributes:
        start: Source frame number of the first context frame.
        target: Source frame number of the first predicted frame.
        end: Source frame number of the last frame.
        start_s, target_s, end_s: Their presentation times in seconds (``nan`` for a video without a clock).
    """

    start: int
    target: int
    end: int
    start_s: float
    target_s: float
    end_s: float


def window_starts(num_frames: int, window_size: int, stride: int) -> range:
    """First frames of all windows: 0, s, 2s, …; ⌊(T − w)/s⌋ + 1 of them."""
    if num_frames < window_size:
        raise UsageError(
            f"too short: {num_frames} frames, but a window needs {window_size}; "
            "use a longer video, a higher --fps or a smaller --window_size"
        )
    return range(0, num_frames - window_size + 1, stride)


def window_spans(
    starts: Sequence[int],
    window_size: int,
    target_offset: int,
    indices: Sequence[int],
    times_s: Sequence[float],
) -> list[WindowSpan]:
    """The windows in source frame numbers and seconds, from what each sampled frame was in the source."""
    spans = []
    for start in starts:
        a, b, c = start, start + target_offset, start + window_size - 1
        spans.append(
            WindowSpan(indices[a], indices[b], indices[c], times_s[a], times_s[b], times_s[c])
        )
    return spans


def gather_windows(pixels: Tensor, which: Sequence[tuple[int, int]], window_size: int) -> Tensor:
    """Windows ``[len(which), C, w, H, W]`` of ``pixels [B, C, T, H, W]``; ``which`` lists (video,
    first frame).
    """
    return torch.stack([pixels[video, :, start : start + window_size] for video, start in which])


def frame_maps(
    maps: Tensor, starts: Sequence[int], target_offset: int, tubelet: int, num_frames: int
) -> Tensor:
    """Spread per-window token maps over the frames they speak of.

    Args:
        maps: ``[W, t, g, g]``.
        starts: First frame of each window.
        target_offset: Frames from a window's start to its first predicted frame.
        tubelet: Frames per token.
        num_frames: Frames of the clip, T.

    Returns:
        ``[T, g, g]``: the mean over all windows that predicted the frame; NaN where none did.
    """
    total = maps.new_zeros(num_frames, *maps.shape[2:])
    count = maps.new_zeros(num_frames, 1, 1)
    per_frame = maps.repeat_interleave(tubelet, dim=1)
    for start, window in zip(starts, per_frame, strict=True):
        span = slice(start + target_offset, start + target_offset + len(window))
        total[span] += window
        count[span] += 1
    return total / count  # 0 / 0 = NaN marks the frames that no window predicts
