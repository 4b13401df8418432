"""What scoring a video returns: a number that knows where it came from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import isfinite
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from torch import Tensor

from wmreward.surprise.windows import WindowSpan
from wmreward.video.types import UInt8Array
from wmreward.video_io import Faults

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
            UsageError: the extra ``plot`` is not installed.
        """
        from wmreward.pictures.plot import surprise_figure, write_figure
        from wmreward.surprise.show import curve_of, note_of

        figure = surprise_figure([curve_of(self)], note=note_of(self), seconds=self.has_clock)
        if path is not None:
            write_figure(path, figure)
        return figure

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
        return f"SurpriseResult({float(self):.6f}, {rule}, {len(self.windows)} windows)"

    def __reduce__(self) -> Any:
        raise TypeError(
            "a SurpriseResult holds tensors of a graph; store float(result) or its fields"
        )


class SurpriseBatch(Sequence[SurpriseResult]):
    """The results of a batch of videos.

    Attributes:
        scores: ``[B]``; carries the graph if the videos required gradients.
        per_window: ``[B, W]``.
        surprise_map: ``[B, W, t, g, g]`` or ``None``.
    """

    def __init__(
        self,
        results: list[SurpriseResult],
        scores: Tensor,
        per_window: Tensor,
        surprise_map: Tensor | None,
    ) -> None:
        self._results = results
        self.scores = scores
        self.per_window = per_window
        self.surprise_map = surprise_map

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
