"""The settings that define a score. Two scores are comparable only if these agree."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from numbers import Integral
from typing import Any, Literal, get_args

from wmreward.errors import UsageError, named
from wmreward.surprise.rules import reach, selection_size

Similarity = Literal["feature", "token"]
ScoreRule = Literal["plain", "top", "excess", "relative"]


@dataclass(frozen=True, kw_only=True)
class SurpriseConfig:
    """How windows are cut, compared and pooled.

    Attributes:
        window_size: Frames per window, w.
        context_frames: Frames the model may see before it predicts, c.
        stride: Frames from one window to the next. The published function uses 2, its command line 8.
        frame_strides: Frames from one frame of a window to the next; several: windows of each, which count
            alike. At 3 a window looks three times as far, at a third of the frame rate. All phases are
            used (:func:`wmreward.surprise.windows.cut_windows`), and ``stride`` counts frames of the window.
        mode: How windows make a score: see :mod:`wmreward.surprise.aggregate`.
        similarity: Axis of the cosine. ``feature`` is the paper's equation (one value per token);
            ``token`` is what the published scorer computes (one value per feature channel). They
            differ in value and in ranking.
        score: ``plain`` surprise (the paper's), that of its ``top`` tokens, or relative to what
            copying the last context latent would get: ``excess`` and ``relative``, see
            :mod:`wmreward.surprise.tokens`.
        context_grad: Let the gradient flow through the prediction too (off in the reference).
    """

    window_size: int = 16
    context_frames: int = 8
    stride: int = 2
    mode: str = "mean"
    similarity: Similarity = "feature"
    score: ScoreRule = "plain"
    context_grad: bool = False
    frame_strides: tuple[int, ...] = (1,)

    def __post_init__(self) -> None:
        for name in ("window_size", "context_frames", "stride"):
            if not isinstance(getattr(self, name), Integral):
                raise UsageError(f"{named(name, getattr(self, name))} must be a whole number")
        if not isinstance(self.frame_strides, Iterable):
            raise UsageError(f"{named('frame_strides')} must be several: [{self.frame_strides}]")
        if self.window_size < 2:
            raise UsageError(f"{named('window_size', self.window_size)} must be at least 2")
        if not 0 < self.context_frames < self.window_size:
            raise UsageError(
                f"{named('context_frames', self.context_frames)} must be at least 1 and below "
                f"{named('window_size', self.window_size)}"
            )
        if self.stride < 1:
            raise UsageError(f"{named('stride', self.stride)} must be at least 1")
        steps = tuple(self.frame_strides)
        if not steps or min(steps) < 1 or len(set(steps)) < len(steps):
            raise UsageError(
                f"{named('frame_strides')} must be different whole numbers from 1 on, not "
                f"{' '.join(map(str, steps))}"
            )
        object.__setattr__(self, "frame_strides", tuple(sorted(steps)))
        for name, kind in (("similarity", Similarity), ("score", ScoreRule)):
            if getattr(self, name) not in get_args(kind):
                raise UsageError(
                    f"{named(name, getattr(self, name))} must be one of {', '.join(get_args(kind))}"
                )
        if self.similarity == "token" and self.score != "plain":
            raise UsageError(
                f"{named('score', self.score)} compares tokens one by one: it needs "
                f"{named('similarity', 'feature')}"
            )
        selection_size(self.mode, sys.maxsize)  # whether topkK has its K windows shows later

    def check_tubelet(self, tubelet: int, model: str) -> None:
        """Raise ``UsageError`` unless a window holds context and future for a model of this tubelet."""
        seen, whole = self.context_frames // tubelet, self.window_size // tubelet
        if not 0 < seen < whole:
            raise UsageError(
                f"{named('context_frames', self.context_frames)} of "
                f"{named('window_size', self.window_size)}: model {model!r} sees {tubelet} frames at a time "
                f"and needs at least {tubelet} to see and {tubelet} to predict"
            )

    def check_whole(self, tubelet: int, model: str) -> None:
        """The same, and raise ``UsageError`` unless windows and contexts are whole tubelets of the model.

        Of what is left over a model sees nothing: a scorer leaves it out, but a record would say that it was
        seen.
        """
        self.check_tubelet(tubelet, model)
        for name in ("window_size", "context_frames"):
            value = getattr(self, name)
            if value % tubelet:
                below = value // tubelet * tubelet
                fits = name == "window_size" or below + tubelet < self.window_size
                raise UsageError(
                    f"{named(name, value)} must be a multiple of {tubelet}, as model {model!r} sees "
                    f"{tubelet} frames at a time: {below}"
                    + (f" or {below + tubelet}" if fits else "")
                )

    @property
    def min_frames(self) -> int:
        """Frames of the shortest video that can be scored."""
        windows = int(self.mode.removeprefix("topk")) if self.mode.startswith("topk") else 1
        longest = max(self.frame_strides)
        later, phase = divmod(windows - 1, longest)
        return reach(self.window_size, longest) + longest * self.stride * later + phase

    @property
    def shortest(self) -> int:
        """Frames of the shortest window: that of the smallest frame stride."""
        return reach(self.window_size, min(self.frame_strides))

    def to_json(self) -> dict[str, Any]:
        """All settings; without ``frame_strides`` where every frame counts, as in records before it."""
        settings = asdict(self)
        steps = settings.pop("frame_strides")
        return settings if steps == (1,) else {**settings, "frame_strides": list(steps)}

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> SurpriseConfig:
        unknown = set(fields) - set(cls.__dataclass_fields__)
        if unknown:
            raise UsageError(f"unknown setting {', '.join(sorted(unknown))}")
        return cls(**fields)


RELEASED = SurpriseConfig(stride=8, mode="mean", similarity="token")
"""What the published command line computes (``--compat released``)."""
