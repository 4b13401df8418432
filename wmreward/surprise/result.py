"""What scoring a video returns: a number that knows where it came from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, overload

from torch import Tensor

from wmreward.surprise.windows import WindowSpan
from wmreward.video_io import Faults


class SurpriseResult(float):
    """The surprise of one video. Behaves as a float; the lower, the more plausible (reward = −surprise).

    Attributes:
        score: The same number as a 0-d tensor; carries the graph if the video required gradients.
        per_window: Surprise of each window, ``[W]``.
        surprise_map: Per token, ``[W, t, g, g]`` (t future time steps of each window); ``None`` for
            ``similarity="token"``.
        windows: Where each window lies, in source frames and seconds.
        effective_fps: Sampled frames per second of the source; ``None`` for a video without a clock.
        source_fps: Frames per second of the source; ``None`` likewise.
        num_frames: Frames that were sampled.
        unused_tail_frames: Sampled frames after the last window, which no window saw.
        settings: Everything that determined the number: model, weights hash, windows, sampling, versions.
        faults: What is doubtful about the file; empty, and so false, for a sound one and for a tensor.
    """

    score: Tensor
    per_window: Tensor
    surprise_map: Tensor | None
    windows: list[WindowSpan]
    effective_fps: float | None
    source_fps: float | None
    num_frames: int
    unused_tail_frames: int
    settings: dict[str, Any]
    faults: Faults

    def __new__(cls, score: Tensor, **_: Any) -> SurpriseResult:
        return super().__new__(cls, score.item())

    def __init__(
        self,
        score: Tensor,
        *,
        per_window: Tensor,
        surprise_map: Tensor | None,
        windows: list[WindowSpan],
        effective_fps: float | None,
        source_fps: float | None,
        num_frames: int,
        unused_tail_frames: int,
        settings: dict[str, Any],
        faults: Faults | None = None,
    ) -> None:
        self.score = score
        self.per_window = per_window
        self.surprise_map = surprise_map
        self.windows = windows
        self.effective_fps = effective_fps
        self.source_fps = source_fps
        self.num_frames = num_frames
        self.unused_tail_frames = unused_tail_frames
        self.settings = settings
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
