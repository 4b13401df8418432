"""Which frames of a file are looked at, and how they are read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from math import gcd, lcm
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from wmreward.errors import UsageError, named
from wmreward.video_io import Clip, Reduction, read_uniform, stream_fps

STREAM_FRAMES = 64
"""Frames decoded and held at once when streaming at a true rate."""
IMAGE_FPS = 24.0
"""The rate of a folder of images, where none is stated."""
FASTEST = 240
"""Frames per second that a file is sampled at, at most."""


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Which frames of a file are looked at.

    Attributes:
        max_frames: Uniform sampling: at most this many over the whole video, whatever its length (the
            published rule; it changes the speed of what is seen).
        fps: Sample at this true rate instead, over the whole video.
        decoder: ``pyav``, or ``decord`` where installed.
        image_fps: Frames per second that a folder of images stands for: it does not say itself.
    """

    max_frames: int = 49
    fps: float | None = None
    decoder: str = "pyav"
    image_fps: float = IMAGE_FPS

    def __post_init__(self) -> None:
        if not isinstance(self.max_frames, Integral):
            raise UsageError(f"{named('max_frames', self.max_frames)} must be a whole number")
        for name, rate in (("fps", self.fps), ("image_fps", self.image_fps)):
            if rate is not None and not isinstance(rate, Real):
                raise UsageError(f"{named(name, rate)} must be a number")
        if self.max_frames < 2:
            raise UsageError(f"{named('max_frames', self.max_frames)} must be at least 2")
        if self.fps is not None and not 0 < self.fps <= FASTEST:
            raise UsageError(f"{named('fps', self.fps)} must be above 0 and up to {FASTEST}")
        if self.fps is not None and self.decoder != "pyav":
            raise UsageError(f"sampling at a true rate needs {named('decoder', 'pyav')}")
        if not 0 < self.image_fps < 1000:
            raise UsageError(f"{named('image_fps', self.image_fps)} must be above 0 and below 1000")

    def to_json(self) -> dict[str, Any]:
        """For records and hashes of settings, which from before there was ``image_fps`` do not have it."""
        known = asdict(self)
        return {k: v for k, v in known.items() if k != "image_fps" or v != IMAGE_FPS}

    def clips(self, path: str | Path, reduction: Reduction | None = None) -> Iterator[Clip]:
        """Frames of a file, all at once (uniform) or a bounded number at a time (true rate).

        ``reduction`` is what is kept of each frame, all of it by default.
        """
        if self.fps is None:
            yield read_uniform(
                path,
                self.max_frames,
                decoder=self.decoder,
                image_fps=self.image_fps,
                reduction=reduction,
            )
        else:
            yield from stream_fps(
                path, self.fps, STREAM_FRAMES, image_fps=self.image_fps, reduction=reduction
            )


def at_rates(rates: Sequence[float]) -> tuple[float, tuple[int, ...]]:
    """The rate to sample a file at, and the frame strides at which windows then see it at ``rates``.

    The sampled rate is the lowest that every one of them divides: of 4 and 6 frames per second it is 12, with
    frame strides 3 and 2. What a window sees does not depend on the rate at which the file is stored.

    Raises:
        UsageError: no rate, one twice, one that is not above 0, or rates that have no common multiple up to
            ``FASTEST``.
    """
    if not isinstance(rates, Iterable):
        raise UsageError(f"{named('rates')} must be several: [{rates}]")
    shown = " ".join(f"{rate:g}" for rate in rates)
    if not rates or not all(0 < rate <= FASTEST for rate in rates) or len(set(rates)) < len(rates):
        raise UsageError(
            f"{named('rates')} must be different numbers of frames per second, above 0 and up to {FASTEST}, "
            f"not {shown or 'none'}"
        )
    exact = [Fraction(rate).limit_denominator(1001) for rate in rates]
    common = Fraction(
        lcm(*(rate.numerator for rate in exact)), gcd(*(rate.denominator for rate in exact))
    )
    if common > FASTEST:
        raise UsageError(
            f"{named('rates')} {shown} have no common multiple up to {FASTEST} frames per second: use rates "
            "that divide one another, such as 6 and 12"
        )
    return float(common), tuple(sorted(int(common / rate) for rate in exact))
