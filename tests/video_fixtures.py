"""Small videos for tests, made with PyAV."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame

FPS = 24
STEP = 4  # grey levels between one frame and the next


def grey(index: int, height: int = 48, width: int = 64) -> np.ndarray:
    """A frame whose grey level says its number; the 2 leaves room for rounding downwards."""
    return np.full((height, width, 3), STEP * index + 2, np.uint8)


def numbers(frames: Iterable[np.ndarray]) -> list[int]:
    """Read the frame numbers back."""
    return [int(frame.mean() + 0.5) // STEP for frame in frames]


def encode(
    path: Path,
    frames: Iterable[np.ndarray] | None = None,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    *,
    options: dict[str, str] | None = None,
    pts: Sequence[int] | None = None,
    time_base: Fraction = Fraction(1, FPS),
    colorspace: int | None = None,
    color_range: int | None = None,
    source_format: str = "rgb24",
) -> Path:
    """Write a small video; skips the test where this PyAV has no such encoder."""
    if codec not in av.codecs_available:
        pytest.skip(f"PyAV was built without {codec}")
    frames = [grey(i) for i in range(60)] if frames is None else list(frames)
    quiet = {"libx265": {"x265-params": "log-level=none"}}.get(codec, {})
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=FPS, options=quiet | (options or {}))
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = pix_fmt
        if pts is not None:
            stream.codec_context.time_base = time_base
        if colorspace is not None:
            stream.codec_context.colorspace = colorspace
        if color_range is not None:
            stream.codec_context.color_range = color_range
        for index, picture in enumerate(frames):
            frame = VideoFrame.from_ndarray(picture, format=source_format)
            frame = frame.reformat(format=pix_fmt)
            frame.pts = index if pts is None else pts[index]
            frame.time_base = time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def noisy(count: int = 60) -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    return [generator.integers(0, 255, (48, 64, 3), dtype=np.uint8) for _ in range(count)]


def one_line(error: Exception, path: Path) -> str:
    """The message, after checking that it is one line which names the path."""
    message = str(error)
    assert "\n" not in message and message.startswith(f"{path}: ") and len(message) > len(str(path))
    return message
