"""Decoded frames of any pixel format to RGB, upright.

Colours are converted by FFmpeg's `scale` filter with bilinear chroma, which is what the FFmpeg
and decord command lines of most pipelines do: limited or full range and BT.601, BT.709 or BT.2020
are taken from the stream's own tags, and an untagged stream counts as limited-range BT.601.
(PyAV's own `to_ndarray(format="rgb24")` ignored the tags before version 17.)
"""

from __future__ import annotations

from fractions import Fraction
from math import atan2, degrees
from typing import Any, cast

import av
import av.filter
import numpy as np
from av.sidedata.sidedata import Type as SideDataType
from av.video.frame import VideoFrame

from wmreward.video.types import UInt8Array

Matrix = tuple[int, int, int, int]
"""The upper left of a display matrix: source (x, y) is shown at (a x + c y, b x + d y)."""


class RgbConverter:
    """Frames of any pixel format to RGB, through one FFmpeg filter for as long as it fits.

    Pictures with transparency are laid on black (decord drops the transparency instead, which
    shows whatever colour lies under it). A stream that changes its picture size is scaled to the
    size of its first frame, and turned as that asks for, as FFmpeg does.
    """

    def __init__(self) -> None:
        self._key: tuple[Any, ...] = ()
        self._size: tuple[int, int] | None = None
        self._matrix: Matrix | None = None
        self._graph: av.filter.Graph

    def __call__(self, frame: VideoFrame) -> UInt8Array:
        """Convert one frame to uint8 [H, W, 3], turned as its display matrix says."""
        if self._size is None:
            self._size = frame.width, frame.height
            # Not of every frame: asked for its side data, a frame of PyAV lives on in a cycle of
            # references, and frames pile up until Python's garbage collector comes by.
            self._matrix = display_matrix(frame)
        transparent = _has_alpha(frame)
        key = (frame.width, frame.height, frame.format.name, frame.colorspace, frame.color_range)
        if key != self._key:
            self._key = key
            self._graph = _scale_graph(frame, self._size, "rgba" if transparent else "rgb24")
        self._graph.push(frame)
        picture = cast(UInt8Array, cast(VideoFrame, self._graph.pull()).to_ndarray())
        if transparent:
            picture = _on_black(picture)
        return np.ascontiguousarray(turn(picture, self._matrix))


def _scale_graph(frame: VideoFrame, size: tuple[int, int], pix_fmt: str) -> av.filter.Graph:
    graph, source = _graph_of(frame)
    scale = graph.add("scale", f"{size[0]}:{size[1]}:flags=bilinear")
    convert = graph.add("format", pix_fmt)
    sink = graph.add("buffersink")
    for output, to in ((source, scale), (scale, convert), (convert, sink)):
        output.link_to(to)
    graph.configure()
    return graph


def _graph_of(frame: VideoFrame) -> tuple[av.filter.Graph, Any]:
    """A graph, and its source for frames like this one."""
    graph = av.filter.Graph()
    source = graph.add_buffer(
        width=frame.width,
        height=frame.height,
        format=frame.format,
        time_base=frame.time_base or Fraction(1, 1000),
    )
    return graph, source


def _has_alpha(frame: VideoFrame) -> bool:
    # The palette of pal8 (GIF, PNG) can hold transparent entries.
    return frame.format.name == "pal8" or any(part.is_alpha for part in frame.format.components)


def _on_black(rgba: UInt8Array) -> UInt8Array:
    alpha = rgba[..., 3:]
    if alpha.min() == 255:
        return rgba[..., :3]
    blended = (rgba[..., :3].astype(np.uint16) * alpha + 127) // 255
    return blended.astype(np.uint8)


def display_matrix(frame: VideoFrame) -> Matrix | None:
    """How a frame is to be turned; None if it says nothing.

    FFmpeg makes it of the rotation in a video's header and of the EXIF orientation of a picture.
    """
    data: Any = _only_matrix(frame).side_data.get("DISPLAYMATRIX")
    if data is None:
        return None
    values = np.frombuffer(bytes(data), dtype=np.int32)
    a, b, c, d = (int(values[i]) for i in (0, 1, 3, 4))
    return a, b, c, d


_SIDE_DATA_KINDS = 64  # FFmpeg numbers them from 0; it has 32 of them now


def _only_matrix(frame: VideoFrame) -> VideoFrame:
    """The same frame without other side data, which is not for PyAV to see.

    Its table of them fails as a whole at a kind that it has no name for, such as EXIF; and what has notes of
    its own, such as the colour profile of a PNG, is freed twice, which ends the process.
    """
    graph, last = _graph_of(frame)
    for kind in sorted(set(range(_SIDE_DATA_KINDS)) - {SideDataType.DISPLAYMATRIX.value}):
        step = graph.add("sidedata", f"mode=delete:type={kind}")
        last.link_to(step)
        last = step
    last.link_to(graph.add("buffersink"))
    graph.configure()
    graph.push(frame)
    return cast(VideoFrame, graph.pull())


def turns_sideways(matrix: Matrix | None) -> bool:
    return matrix is not None and abs(matrix[0]) < abs(matrix[1])


def rotation(matrix: Matrix | None) -> float:
    """The angle of a display matrix in degrees, from 0 up to 360; that of a mirror image counts backwards."""
    if matrix is None:
        return 0.0
    return degrees(atan2(matrix[1], matrix[0])) % 360


def turn(picture: UInt8Array, matrix: Matrix | None) -> UInt8Array:
    """Apply quarter turns and mirrorings; other angles go to the nearest of these."""
    if matrix is None:
        return picture
    a, b, c, d = matrix
    if turns_sideways(matrix):
        picture = picture.swapaxes(0, 1)
        a, d = c, b
    if a < 0:
        picture = picture[:, ::-1]
    if d < 0:
        picture = picture[::-1]
    return picture
