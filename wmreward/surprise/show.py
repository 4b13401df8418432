"""Pictures of a result: what the methods of `SurpriseResult` draw. Needs the extra ``plot``."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from functools import partial
from os import PathLike
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from wmreward.errors import UsageError
from wmreward.pictures.map_video import MapScale, surprise_map_video
from wmreward.pictures.plot import MOST_STILLS, Curve, still_times, surprise_figure, write_figure
from wmreward.surprise.sampling import Sampling
from wmreward.video.resize import as_shown
from wmreward.video.types import UInt8Array
from wmreward.video_io import read_uniform

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from wmreward.surprise.result import SurpriseResult

MAP_SIZE = 480, 1920
"""Frames beside a heat map are shrunk to this many rows and columns at most: maps have 8 to 24."""
STILL_SIZE = 144, 576
"""Likewise frames under a curve."""
SLOWEST_MAP = 4.0
"""Frames per second of a map video at least; few frames of an hour would otherwise stand for minutes."""


def curve_of(result: SurpriseResult, label: str = "", *, stills: bool = True) -> Curve:
    """The curve of a result; of a file with frames under it, which are read once more."""
    label = label or (result.path.name if result.path else "this video")
    has_clock = result.has_clock
    spans = np.array(
        [(w.target_s, w.end_s) if has_clock else (w.target, w.end) for w in result.windows]
    )
    curve = partial(Curve, label, float(result), spans, result.per_window.numpy())
    if result.path is None or not stills or not has_clock:
        return curve()
    clip = read_uniform(result.path, 4 * MOST_STILLS, reduction=partial(shrunk, STILL_SIZE))
    wanted = still_times(float(spans.max()))
    places = sorted({int(np.abs(clip.times_s - time).argmin()) for time in wanted})
    return curve(
        stills=as_shown(clip.frames[places], clip.source), still_times=clip.times_s[places]
    )


def plotted(results: Sequence[SurpriseResult], path: str | PathLike[str] | None) -> Figure:
    """One video over time with its frames, or the curves of several; see :meth:`SurpriseResult.plot`."""
    clocks = {result.has_clock for result in results}
    if len(clocks) > 1:
        raise UsageError(
            "some of the videos have a clock and others have frame numbers only: plot each result"
        )
    note = ""
    if len(results) == 1:
        curves, note = [curve_of(results[0])], note_of(results[0])
    else:
        names = _names(results)
        curves = [
            curve_of(result, name, stills=False)
            for name, result in zip(names, results, strict=True)
        ]
    figure = surprise_figure(curves, note=note, seconds=clocks == {True})
    if path is not None:
        write_figure(path, figure)
    return figure


def _names(results: Sequence[SurpriseResult]) -> list[str]:
    """Of files their names, or their paths below the common folder where two have the same name; of others
    their places."""
    paths = [result.path for result in results]
    files = [path.absolute() for path in paths if path is not None]
    alike = len({path.name for path in files}) < len(set(files))
    common = os.path.commonpath([path.parent for path in files]) if alike else ""
    return [
        f"video {place}" if path is None else os.path.relpath(path, common) if alike else path.name
        for place, path in enumerate(paths)
    ]


def note_of(result: SurpriseResult) -> str:
    """What was measured with, in one line."""
    settings = result.settings
    seen, size = settings["context_frames"], settings["window_size"]
    count = len(result.windows)
    return (
        f"{settings['model']} · {settings['score']} surprise, {settings['mode']} of {count} windows · "
        f"{seen} frames seen, {size - seen} predicted"
    )


def write_map_video(
    path_out: str | PathLike[str],
    result: SurpriseResult,
    frames: UInt8Array | None = None,
    scale: MapScale | None = None,
) -> None:
    """Write the video of ``result`` beside its heat map; see :meth:`SurpriseResult.map_video`."""
    if result.frame_map is None:
        raise UsageError(
            "there is no map with similarity='token': its scores are of features, not of places"
        )
    title = f"{result.path.name}   " if result.path else ""
    surprise_map_video(
        path_out,
        _frames_of(result) if frames is None else frames,
        result.frame_map.double().numpy(),
        max(result.effective_fps or SLOWEST_MAP, SLOWEST_MAP),
        scale=scale,
        title=f"{title}surprise {float(result):.4f}",
    )


def _frames_of(result: SurpriseResult) -> Iterator[UInt8Array]:
    """The frames that were scored, read once more, a bounded number at a time."""
    if result.path is None:
        raise UsageError(
            "the frames of a video that came as an array or a tensor are not kept: pass them once more, as "
            "map_video(path, frames=...), uint8 [T, H, W, 3]"
        )
    sampling = Sampling(**result.settings["sampling"])
    for clip in sampling.clips(result.path, partial(shrunk, MAP_SIZE)):
        yield from as_shown(clip.frames, clip.source)


def shrunk(size: Sequence[int], frame: UInt8Array) -> UInt8Array:
    """A frame ``[H, W, 3]`` of at most ``size``, each pixel the mean of what it stands for."""
    height, width = frame.shape[:2]
    scale = min(size[0] / height, size[1] / width)
    if scale >= 1:
        return frame
    smaller = max(1, math.floor(height * scale)), max(1, math.floor(width * scale))
    pixels = torch.from_numpy(np.ascontiguousarray(frame)).movedim(-1, 0)[None].float()
    small = F.interpolate(pixels, smaller, mode="area")[0].round().byte()
    return cast(NDArray[np.uint8], small.movedim(0, -1).contiguous().numpy())
