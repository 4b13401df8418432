"""What scoring a video returns: a number that knows where it came from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import isfinite, nan
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import torch
from torch import Tensor

from wmreward.errors import UsageError
from wmreward.surprise.aggregate import WindowScores
from wmreward.surprise.rules import reach
from wmreward.surprise.windows import Layout, WindowSpan, frame_maps, window_spans
from wmreward.video.types import UInt8Array
from wmreward.video_io import Clip, Faults

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from wmreward.pictures.map_video import MapScale


class SurpriseResult(float):
    """The surprise of one video. Behaves as a float; the lower, the more plausible (reward = −surprise).

    Attributes:
        score: The same number as a 0-d tensor; carries the graph if the video required gradients.
        per_window: Surprise of each window, ``[W]``.
        surprise_map: Per token, ``[W, t, g, g]`` (t future time steps of each window); ``None`` for
            ``similarity="token"``.
        frame_map: The same spread over the frames it speaks of, ``[T, g, g]``; NaN where none was predicted.
        windows: Where each window lies, in source frames and seconds.
        effective_fps: Sampled frames per second of the source; ``None`` for a video without a clock.
        source_fps: Frames per second of the source; ``None`` likewise.
        num_frames: Frames that were sampled.
        unused_tail_frames: Sampled frames after the last window, which no window saw.
        settings: Everything that determined the number: model, weights hash, windows, sampling, versions.
        path: The file or folder that was scored; ``None`` for a tensor.
        faults: What is doubtful about the file; empty, and so false, for a sound one and for a tensor.
    """

    score: Tensor
    per_window: Tensor
    surprise_map: Tensor | None
    frame_map: Tensor | None
    windows: list[WindowSpan]
    effective_fps: float | None
    source_fps: float | None
    num_frames: int
    unused_tail_frames: int
    settings: dict[str, Any]
    path: Path | None
    faults: Faults

    def __new__(cls, score: Tensor, **_: Any) -> SurpriseResult:
        return super().__new__(cls, score.item())

    def __init__(
        self,
        score: Tensor,
        *,
        per_window: Tensor,
        surprise_map: Tensor | None,
        frame_map: Tensor | None,
        windows: list[WindowSpan],
        effective_fps: float | None,
        source_fps: float | None,
        num_frames: int,
        unused_tail_frames: int,
        settings: dict[str, Any],
        path: Path | None = None,
        faults: Faults | None = None,
    ) -> None:
        self.score = score
        self.per_window = per_window
        self.surprise_map = surprise_map
        self.frame_map = frame_map
        self.windows = windows
        self.effective_fps = effective_fps
        self.source_fps = source_fps
        self.num_frames = num_frames
        self.unused_tail_frames = unused_tail_frames
        self.settings = settings
        self.path = path
        self.faults = faults or Faults()

    @property
    def reward(self) -> float:
        """The reward of the paper: minus the surprise."""
        return -float(self)

    @property
    def speed(self) -> float | None:
        """How much faster than in the source things move in the sampled frames (1 = true speed)."""
        if not self.effective_fps or not self.source_fps:
            return None
        return self.source_fps / self.effective_fps

    @property
    def has_clock(self) -> bool:
        """Whether its times are known; those of a tensor are not."""
        return isfinite(self.windows[0].end_s)

    def plot(self, path: str | PathLike[str] | None = None) -> Figure:
        """Draw surprise over time, for a file with its frames under the curve.

        Args:
            path: Also write it there, as a PNG.

        Returns:
            A Matplotlib figure, which a notebook shows.

        Raises:
            UsageError: the extra ``plot`` is not installed, or ``path`` does not end in .png.
        """
        from wmreward.surprise.show import plotted

        return plotted([self], path)

    def map_video(
        self,
        path: str | PathLike[str],
        *,
        frames: UInt8Array | None = None,
        scale: MapScale | None = None,
    ) -> None:
        """Write the video beside a heat map that shows when and where it is surprising.

        Args:
            path: Ends in .mp4, .mov or .mkv.
            frames: The frames that were scored, uint8 ``[T, H, W, 3]``; those of a file are read once more.
            scale: Of the colours; several videos need one scale to be compared. Its own by default.

        Raises:
            UsageError: the extra ``plot`` is not installed, frames are missing, or ``similarity="token"``.
            WMRewardError: the video cannot be written.
        """
        from wmreward.surprise.show import write_map_video

        write_map_video(path, self, frames, scale)

    def __repr__(self) -> str:
        rule = self.settings.get("score", "plain")
        count = len(self.windows)
        windows = f"{count} window{'' if count == 1 else 's'}"
        return f"SurpriseResult({float(self):.6f}, {rule}, {windows})"

    def __reduce__(self) -> Any:
        raise TypeError(
            "a SurpriseResult holds tensors of a graph; store float(result) or its fields"
        )


class SurpriseBatch(Sequence[SurpriseResult]):
    """The results of several videos, in their order.

    Attributes:
        scores: ``[B]``; carries the graph if the videos required gradients.
        per_window: ``[B, W]``, if all have equally many windows.
        surprise_map: ``[B, W, t, g, g]`` or ``None``, likewise.
    """

    def __init__(self, results: list[SurpriseResult], scores: Tensor) -> None:
        self._results = results
        self.scores = scores

    @property
    def per_window(self) -> Tensor:
        self._check_alike()
        return torch.stack([result.per_window for result in self])

    @property
    def surprise_map(self) -> Tensor | None:
        self._check_alike()
        maps = [result.surprise_map for result in self if result.surprise_map is not None]
        return torch.stack(maps) if maps else None

    def plot(self, path: str | PathLike[str] | None = None) -> Figure:
        """Draw the curves of all videos in one chart, as :meth:`SurpriseResult.plot` draws one.

        Raises:
            UsageError: likewise; or some are files, which have a clock, and others are not.
        """
        from wmreward.surprise.show import plotted

        return plotted(self, path)

    def _check_alike(self) -> None:
        counts = sorted({len(result.windows) for result in self})
        if len(counts) > 1:
            raise UsageError(
                f"the videos have {' and '.join(map(str, counts))} windows: take those of each result"
            )

    def __repr__(self) -> str:
        return f"SurpriseBatch([{', '.join(map(repr, self))}])"

    @overload
    def __getitem__(self, index: int) -> SurpriseResult: ...
    @overload
    def __getitem__(self, index: slice) -> list[SurpriseResult]: ...
    def __getitem__(self, index: int | slice) -> SurpriseResult | list[SurpriseResult]:
        return self._results[index]

    def __len__(self) -> int:
        return len(self._results)

    def __iter__(self) -> Iterator[SurpriseResult]:
        return iter(self._results)


class Clock:
    """Which frames of its source a video consists of, and when they are shown.

    Attributes:
        indices: Source frame number of each sampled frame.
        times_s: Its presentation time in seconds; NaN where there is no clock.
        source_fps: Frames per second of the source.
        faults: What is doubtful about the source.
    """

    def __init__(self) -> None:
        self.indices: list[int] = []
        self.times_s: list[float] = []
        self.source_fps: float | None = None
        self.faults = Faults()

    @classmethod
    def unknown(cls, frames: int) -> Clock:
        """That of a tensor."""
        clock = cls()
        clock.indices, clock.times_s = list(range(frames)), [nan] * frames
        return clock

    def noting(self, clips: Iterable[Clip]) -> Iterator[Clip]:
        """The same clips; what they say of time is kept, but not their frames."""
        for clip in clips:
            self.indices += clip.indices.tolist()
            self.times_s += clip.times_s.tolist()
            self.source_fps = clip.source.fps
            self.faults = clip.faults
            yield clip

    @property
    def effective_fps(self) -> float | None:
        """Sampled frames per second of the source."""
        span = self.times_s[-1] - self.times_s[0]
        return (len(self.times_s) - 1) / span if span > 0 else None


def results_of(
    score: Tensor,
    scores: WindowScores,
    layout: Layout,
    clock: Clock,
    settings: Mapping[str, Any],
    path: Path | None = None,
) -> SurpriseBatch:
    """Scores ``[B]`` and the windows behind them, with all that is known of where they lie."""
    windows, frames = scores.windows, len(clock.indices)
    used = max(start + reach(layout.size, step) for start, step in windows)
    spans = window_spans(windows, layout.size, layout.target, clock.indices, clock.times_s)
    per_window = scores.values.detach().cpu()
    maps = None if scores.maps is None else scores.maps.detach().cpu()

    def of_frames(own: Tensor) -> Tensor:
        return frame_maps(own, windows, layout.target, layout.tubelet, frames)

    results = [
        SurpriseResult(
            score[i],
            per_window=per_window[i],
            surprise_map=None if maps is None else maps[i],
            frame_map=None if maps is None else of_frames(maps[i]),
            windows=spans,
            effective_fps=clock.effective_fps,
            source_fps=clock.source_fps,
            num_frames=frames,
            unused_tail_frames=frames - used,
            settings=dict(settings),
            path=path,
            faults=clock.faults,
        )
        for i in range(len(per_window))
    ]
    return SurpriseBatch(results, score)
