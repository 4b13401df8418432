"""From a result to its pictures: a plot of surprise over time, and a video with a heat map."""

from __future__ import annotations

import hashlib
import math
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from wmfiles.names import cut
from wmreward.errors import WMRewardError
from wmreward.pictures.map_video import surprise_map_video
from wmreward.pictures.plot import Curve, surprise_figure, write_figure
from wmreward.surprise.compute import VideoScorer
from wmreward.surprise.result import SurpriseResult
from wmreward.surprise.windows import Window, frame_maps
from wmreward.video.resize import as_shown
from wmreward.video_io import Clip

MAP_SIZE = 480, 1920
"""Frames beside a heat map are shrunk to this many rows and columns at most: maps have 8 to 24."""
_LONGEST_STEM = 120
"""Bytes of a video's name in those of its pictures."""
SLOWEST_MAP = 4.0
"""Frames per second of a map video at least; few frames of an hour would otherwise stand for minutes."""


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """Which pictures are drawn, and where.

    Attributes:
        folder: Where they go.
        plot: Draw surprise over time.
        map: Write the video with the heat map.
    """

    folder: Path
    plot: bool = False
    map: bool = False

    def paths(self, video: Path, sha256: str, settings: str) -> list[Path]:
        """Where the pictures of one video go.

        The names hold a hash of content and settings: a picture that is there is the right one, and
        videos of the same name in different folders keep apart.
        """
        stem = video.name if video.is_dir() else video.stem
        key = hashlib.sha256(f"{sha256}{settings}".encode()).hexdigest()[:8]
        wanted = (("plot.png", self.plot), ("map.mp4", self.map))
        # Long names leave no room for what is added to them.
        stem = cut(stem, _LONGEST_STEM)
        return [self.folder / f"{stem}-{key}-{kind}" for kind, draw in wanted if draw]

    def draw(
        self,
        paths: Iterable[Path],
        video: Path,
        result: SurpriseResult,
        scorer: VideoScorer,
        frames: FrameStore | None,
    ) -> None:
        """Write the pictures to ``paths``; ``frames`` are those that were scored, for the map."""
        for path in paths:
            if path.suffix == ".png":
                _plot(path, video, result)
            elif frames is not None:
                _map(path, result, scorer, frames)


def _plot(path: Path, video: Path, result: SurpriseResult) -> None:
    spans = np.array([(window.target_s, window.end_s) for window in result.windows])
    curve = Curve(video.name, float(result), spans, result.per_window.numpy())
    write_figure(path, surprise_figure([curve]))


def _map(path: Path, result: SurpriseResult, scorer: VideoScorer, frames: FrameStore) -> None:
    assert result.surprise_map is not None, "similarity='token' is refused before"
    maps = result.surprise_map.float()
    model = scorer.loaded.model.config
    count = result.num_frames
    if model.action_conditioned:  # each step predicts the frame after it
        steps = [Window(start) for start in range(count - 1)]
        per_frame = frame_maps(maps, steps, 1, 1, count)
    else:
        windows = scorer.scorer.windows(count)
        per_frame = frame_maps(maps, windows, scorer.scorer.target_offset, model.tubelet, count)
    fps = max(result.effective_fps or SLOWEST_MAP, SLOWEST_MAP)
    surprise_map_video(path, frames.frames(), per_frame.double().numpy(), fps)


class FrameStore:
    """The frames of a video as they pass by, kept in a nameless file: a long video has too many for memory.

    Args:
        folder: Where there is room for the file.
    """

    def __init__(self, folder: Path) -> None:
        self._file: Any = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115, closed by `close`
        self._shape: tuple[int, ...] = ()
        self._count = 0

    def passing(self, clips: Iterable[Clip]) -> Iterator[Clip]:
        """The same clips, whose ``pictures`` (made by `shrunk`) are kept, as wide as a player shows them."""
        for clip in clips:
            assert clip.pictures is not None, "clips are read with a reduction that makes pictures"
            small = as_shown(clip.pictures, clip.source)
            self._shape = small.shape[1:]
            self._count += len(small)
            try:
                self._file.write(small.tobytes())
            except OSError as error:
                raise WMRewardError(
                    f"no room for the frames of --map ({error.strerror})"
                ) from error
            yield clip

    def frames(self) -> NDArray[np.uint8]:
        """All frames, ``[T, H, W, 3]``, read from the file as they are used."""
        self._file.flush()
        return np.memmap(self._file, dtype=np.uint8, mode="r", shape=(self._count, *self._shape))

    def close(self) -> None:
        self._file.close()


def shrunk(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A frame ``[H, W, 3]`` of at most `MAP_SIZE`, each pixel the mean of what it stands for."""
    height, width = frame.shape[:2]
    scale = min(MAP_SIZE[0] / height, MAP_SIZE[1] / width)
    if scale >= 1:
        return frame
    size = max(1, math.floor(height * scale)), max(1, math.floor(width * scale))
    pixels = torch.from_numpy(np.ascontiguousarray(frame)).movedim(-1, 0)[None].float()
    small = F.interpolate(pixels, size, mode="area")[0].round().byte()
    return small.movedim(0, -1).contiguous().numpy()
