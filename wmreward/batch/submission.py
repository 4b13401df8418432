"""Clips as the Physics-IQ benchmark wants them: official names, exact length, one whole frame rate."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from wmreward.errors import UsageError, VideoError
from wmreward.files import atomic_path
from wmreward.physics_iq.clips import Header, change_rate, first_frames, read_header, same_rate
from wmreward.video.container import open_video
from wmreward.video.types import UInt8Array
from wmreward.video.write import write_video

_CRF = 10
"""Of clips that have to be encoded again: nearly lossless, as masks react to small differences."""
_DURATION_S = 0.001
"""How far the benchmark lets a container's duration be off."""


@dataclass(frozen=True, kw_only=True)
class ClipForm:
    """What all clips of a submission have in common.

    Attributes:
        seconds: Their length.
        fps: Their frame rate; a video at another one is brought to it as the benchmark does with its own.
        skip_s: Seconds at the beginning of each video that come before the part that is compared.

    Raises:
        UsageError: not a length, a rate or a beginning.
    """

    seconds: float
    fps: int
    skip_s: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.seconds < 1e6:
            raise UsageError(f"seconds must be above 0, got {self.seconds}")
        if not 0 < self.fps <= 1000:
            raise UsageError(f"fps must be a whole number from 1 to 1000, got {self.fps}")
        if not 0 <= self.skip_s < 1e6:
            raise UsageError(f"skip must be 0 s or more, got {self.skip_s}")

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def span(self, path: Path, header: Header) -> tuple[int, int]:
        """First frame of a video that is taken, and how many are.

        Raises:
            VideoError: it is too short.
        """
        skip, count = round(self.skip_s * header.rate), round(self.seconds * header.rate)
        if header.num_frames < skip + count:
            raise VideoError(
                path,
                f"has {header.num_frames} frames at {header.rate:g} fps "
                f"({header.num_frames / header.rate:.2f} s); a clip of {self.seconds:g} s"
                + (f" after {self.skip_s:g} s" if skip else "")
                + f" takes {skip + count}: generate longer videos, or compare fewer --seconds",
            )
        return skip, count


def whole_rate(path: Path) -> int:
    """Frames per second of a video.

    Raises:
        VideoError: it cannot be read, or its rate is not a whole number.
    """
    rate = read_header(path).rate
    if rate != round(rate):
        raise VideoError(path, f"is at {rate:g} fps, not a whole number; --fps F brings it to one")
    return round(rate)


def write_clip(source: Path, target: Path, form: ClipForm) -> None:
    """Write what the benchmark is to see of a video; the file appears only when it is complete.

    A video that is as it should be is copied byte for byte.

    Raises:
        VideoError: it cannot be read or is too short.
        WMRewardError: the clip cannot be written.
    """
    header = read_header(source)
    skip, count = form.span(source, header)
    if not skip and count == header.num_frames and _is_exact(source, form):
        with atomic_path(target) as temporary:
            shutil.copyfile(source, temporary)
        return
    write_video(target, _frames(source, header, skip, count, form), form.fps, crf=_CRF)


def _frames(
    path: Path, header: Header, skip: int, count: int, form: ClipForm
) -> Iterator[UInt8Array]:
    frames = islice(first_frames(path, skip + count), skip, None)
    if same_rate(header.rate, form.fps):
        return frames
    return change_rate(frames, count, round(form.seconds * form.fps))


def _is_exact(source: Path, form: ClipForm) -> bool:
    """Whether the file itself would pass the benchmark's checks."""
    with open_video(source) as (container, stream):
        rate = stream.average_rate
        duration = (container.duration or 0) / 1e6
        return (
            source.suffix == ".mp4"
            and rate == form.fps
            and len(container.streams) == 1
            and abs(duration - form.seconds) <= _DURATION_S
        )
