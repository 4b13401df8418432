"""From frames that are decoded one by one to clips, in bounded memory."""

from __future__ import annotations

from contextlib import nullcontext
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wmreward.errors import VideoError
from wmreward.video.types import Clip, Faults, Reduction, SourceFrame, VideoInfo

MAX_CLIP_BYTES = 4 << 30
"""Memory that the frames of one clip may take."""

LARGE_PIXELS = 12_000_000
"""Frames above this size (4K has 8 million pixels) are converted one at a time in the whole process."""

_LARGE = Lock()


class Collector:
    """Gathers frames, and gives them as a clip.

    Args:
        capacity: frames of a clip at most.
        num_source_frames: frames in the video, as far as it is known.
        faults: of the video; every clip refers to it.
        reduction: what to keep of each frame; all of it by default.
    """

    def __init__(
        self,
        capacity: int,
        num_source_frames: int,
        faults: Faults,
        reduction: Reduction | None = None,
    ) -> None:
        self.capacity = capacity
        self.num_source_frames = num_source_frames
        self._faults = faults
        self._reduction = reduction
        self._frames: NDArray[Any] | None = None
        self._indices: list[int] = []
        self._times_s: list[float] = []

    def __len__(self) -> int:
        return len(self._indices)

    def keep(self, frame: SourceFrame, info: VideoInfo) -> NDArray[Any]:
        """Convert a frame and reduce it."""
        is_large = info.width * info.height > LARGE_PIXELS
        with _LARGE if is_large else nullcontext():
            whole = frame.rgb()
            return whole if self._reduction is None else self._reduction(whole)

    def add(self, frame: SourceFrame, kept: NDArray[Any], info: VideoInfo) -> None:
        """Append a frame; there must be room for it.

        Raises:
            VideoError: the clip would take more than `MAX_CLIP_BYTES`.
        """
        count = len(self._indices)
        if (count + 1) * kept.nbytes > MAX_CLIP_BYTES:
            raise VideoError(
                info.path,
                f"its frames of {info.width} x {info.height} pixels are too large to hold "
                f"{count + 1} of them: at most {MAX_CLIP_BYTES >> 30} GiB; take fewer frames, or "
                "scale it down first",
            )
        if self._frames is None:
            self._frames = np.empty((self.capacity, *kept.shape), kept.dtype)
        self._frames[count] = kept
        self._indices.append(frame.index)
        self._times_s.append(float(frame.time))

    def clip(self, info: VideoInfo) -> Clip:
        """What was gathered, one frame or more; the next clip begins."""
        count = len(self._indices)
        assert self._frames is not None and count
        clip = Clip(
            frames=self._frames[:count],
            indices=np.array(self._indices, dtype=np.int64),
            times_s=np.array(self._times_s, dtype=np.float64),
            source=info,
            num_source_frames=self.num_source_frames,
            faults=self._faults,
        )
        self._frames = None
        self._indices, self._times_s = [], []
        return clip
