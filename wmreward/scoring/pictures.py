"""From a result to its pictures: a plot of surprise over time, and a video with a heat map."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from wmfiles.names import cut
from wmreward.pictures.map_video import MapScale
from wmreward.pictures.plot import Curve
from wmreward.scoring.report import Row
from wmreward.video.find import MAP_ENDING

if TYPE_CHECKING:
    from wmreward.surprise.result import SurpriseResult

_LONGEST_STEM = 120
"""Bytes of a video's name in those of its pictures."""


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
        wanted = (("plot.png", self.plot), (MAP_ENDING, self.map))
        # Long names leave no room for what is added to them.
        stem = cut(stem, _LONGEST_STEM)
        return [self.folder / f"{stem}-{key}-{kind}" for kind, draw in wanted if draw]

    def draw_plot(self, paths: Iterable[Path], result: SurpriseResult) -> list[Path]:
        """Write the plot, if it is among ``paths``; returns what was written."""
        plots = [path for path in paths if path.suffix == ".png"]
        for path in plots:
            result.plot(path)
        return plots


class WaitingMaps:
    """Map videos are drawn when all videos are scored: then the scale is known on which they compare.

    The small token maps wait in memory, frames are read once more. What is not drawn as a run is
    interrupted, the next run draws.
    """

    def __init__(self) -> None:
        self._waiting: list[tuple[Path, SurpriseResult]] = []

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, paths: Iterable[Path], result: SurpriseResult) -> None:
        """Keep a result whose map video is among ``paths``."""
        for path in paths:
            if path.suffix == ".mp4":
                result.surprise_map = None  # windows overlap: the map of the frames is smaller
                self._waiting.append((path, result))

    def scale(self) -> MapScale:
        """The scale of all."""
        maps = (result.frame_map for _, result in self._waiting)
        return MapScale.of(values.double().numpy() for values in maps if values is not None)

    def draw(self, scale: MapScale) -> Iterator[Path]:
        """Write them; yields the name of each."""
        for path, result in self._waiting:
            result.map_video(path, scale=scale)
            yield path


def widest(scales: Iterable[MapScale]) -> MapScale:
    """The scale that holds all of these."""
    every = list(scales)
    return MapScale(max(one.token for one in every), max(one.frame for one in every))


def curve_of(row: Row, name: str) -> Curve | None:
    """The curve of a video from its record; None where there is none, as when it failed."""
    record = row.record
    if record is None or not record.get("windows"):
        return None
    spans = np.array([(window["target_s"], window["end_s"]) for window in record["windows"]])
    return Curve(name, record["surprise"], spans, np.array(record["per_window"]))
