"""The raw measures of one scenario and view: two real takes and a generated clip, frame by frame.

Everything is measured at one small size (`target_size` of the first take), in one pass that holds one
frame of each clip. Masks of another size are sampled, not averaged: bilinear between the grey levels
0 and 255, on above 127.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import gcd
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wmreward.errors import UsageError
from wmreward.physics_iq.measures.masks import BoolArray, MotionMask, rows_with_any
from wmreward.physics_iq.measures.resize import Bilinear, target_size
from wmreward.physics_iq.measures.stored_masks import grey_levels, through_mpeg4
from wmreward.video.types import UInt8Array

ON = 127
"""A resized mask is on above this grey level."""


class Look(NamedTuple):
    """What is compared of one frame, at the target size.

    Attributes:
        picture: uint8 [H, W, 3].
        moving: bool [H, W], the motion mask.
    """

    picture: UInt8Array
    moving: BoolArray


@dataclass(frozen=True)
class Metrics:
    """The raw measures, named as in the benchmark's CSV; lists have one number per frame.

    Take 1 is the reference of every score. The `v2` measures (against take 2) are reported and enter
    none; `variance` measures compare the two takes: how well nature repeats itself. IoUs are in [0, 1]
    and 1 if nothing moves on either side, so that of frame 0 is always 1. MSE is of colours in [0, 1].

    Attributes:
        v1_mse: mean squared error.
        spatiotemporal_iou_v1: IoU of the two masks of each frame.
        spatial_iou_v1: IoU of where anything ever moved.
        weighted_spatial_iou_v1: sum of min over sum of max of how often each pixel moved.
    """

    v1_mse: tuple[float, ...]
    v2_mse: tuple[float, ...]
    variance_mse: tuple[float, ...]
    spatiotemporal_iou_v1: tuple[float, ...]
    spatiotemporal_iou_v2: tuple[float, ...]
    variance_spatiotemporal_iou: tuple[float, ...]
    spatial_iou_v1: float
    spatial_iou_v2: float
    variance_spatial: float
    weighted_spatial_iou_v1: float
    weighted_spatial_iou_v2: float
    variance_weighted_spatial: float


def looks(
    frames: Iterable[UInt8Array], size: tuple[int, int], *, stored_fps: int | None = None
) -> Iterator[Look]:
    """The frames of a clip, uint8 [H, W, 3] RGB from its first on, as they are compared.

    Masks are made at the clip's own resolution; pictures and masks are then stretched to `size`
    (height, width), whatever the aspect ratio.

    Args:
        frames: of the clip.
        size: of the comparison.
        stored_fps: pass the masks through MPEG-4 at this rate, as the benchmark's mask files do.
    """
    pictures: deque[UInt8Array] = deque()

    def masks() -> Iterator[BoolArray]:
        moving: MotionMask | None = None
        for frame in frames:
            if moving is None:
                moving = MotionMask(*frame.shape[:2])
                shrink = Bilinear(moving.size, size)
            pictures.append(shrink(frame))
            yield moving(frame)

    greys = grey_levels(masks()) if stored_fps is None else through_mpeg4(masks(), stored_fps)
    for moving in sampled(greys, size):
        yield Look(pictures.popleft(), moving)


def sampled(greys: Iterable[UInt8Array], size: tuple[int, int]) -> Iterator[BoolArray]:
    """Masks in grey levels, uint8 [H, W], at the size that they are compared at: bool."""
    shrink: Bilinear | None = None
    for grey in greys:
        height, width = grey.shape[:2]
        shrink = shrink or Bilinear((height, width), size)
        small = np.zeros(size, np.bool_)
        rows = shrink.reached(*rows_with_any(grey))  # elsewhere nothing moves
        np.greater(shrink(grey, rows), ON, out=small[rows])
        yield small


def compare(
    take_1: UInt8Array,
    take_2: UInt8Array,
    generated: UInt8Array,
    *,
    size: tuple[int, int] | None = None,
) -> Metrics:
    """Compare clips in memory, uint8 [T, H, W, 3] RGB, with equal T; resolutions may differ.

    At small resolutions mind the kernels of the masks (see `.masks`): at 64 × 64 things narrower
    than 5 pixels do not move, and the comparison is made at 16 × 16.

    Args:
        take_1: the real clip that scores are against.
        take_2: another recording of the same scene.
        generated: the clip under test.
        size: height and width of the comparison; a quarter of `take_1` by default.

    Raises:
        UsageError: for other shapes or types, or clips of different length.
    """
    clips = (take_1, take_2, generated)
    for clip in clips:
        if clip.ndim != 4 or clip.shape[-1] != 3 or clip.dtype != np.uint8 or 0 in clip.shape:
            raise UsageError(
                f"a clip must be uint8 [T, H, W, 3], got {clip.dtype} {list(clip.shape)}"
            )
    lengths = [len(clip) for clip in clips]
    if len(set(lengths)) > 1:
        raise UsageError(f"clips must have equally many frames, got {lengths}")
    size = size or target_size(*take_1.shape[1:3])
    streams = [looks(clip, size) for clip in clips]
    return measure(zip(*streams, strict=True))


def measure(frames: Iterable[tuple[Look, Look, Look]]) -> Metrics:
    """Compare streams of (take 1, take 2, generated), all at one size.

    Raises:
        UsageError: for no frames.
    """
    errors: list[list[float]] = []
    overlaps: list[list[float]] = []
    counts: NDArray[np.int32] | None = None  # how often each pixel moved, [clip, H, W]
    for trio in frames:
        first, second, made = trio
        pairs = ((first, made), (second, made), (first, second))
        errors.append([mean_squared_error(a.picture, b.picture) for a, b in pairs])
        overlaps.append([iou(a.moving, b.moving) for a, b in pairs])
        moving = np.stack([look.moving for look in trio])
        counts = moving.astype(np.int32) if counts is None else np.add(counts, moving, out=counts)
    if counts is None:
        raise UsageError("there are no frames to compare")
    of_pairs = ((counts[0], counts[2]), (counts[1], counts[2]), (counts[0], counts[1]))
    spatial = [iou(a > 0, b > 0) for a, b in of_pairs]
    weighted = [weighted_iou(a, b) for a, b in of_pairs]
    v1_mse, v2_mse, variance_mse = zip(*errors, strict=True)
    iou_v1, iou_v2, iou_variance = zip(*overlaps, strict=True)
    return Metrics(
        v1_mse=v1_mse,
        v2_mse=v2_mse,
        variance_mse=variance_mse,
        spatiotemporal_iou_v1=iou_v1,
        spatiotemporal_iou_v2=iou_v2,
        variance_spatiotemporal_iou=iou_variance,
        spatial_iou_v1=spatial[0],
        spatial_iou_v2=spatial[1],
        variance_spatial=spatial[2],
        weighted_spatial_iou_v1=weighted[0],
        weighted_spatial_iou_v2=weighted[1],
        variance_weighted_spatial=weighted[2],
    )


def mean_squared_error(a: UInt8Array, b: UInt8Array) -> float:
    """Of colours in [0, 1], over pixels and channels."""
    difference = np.maximum(a, b)
    difference -= np.minimum(a, b)
    # Sums of up to 256 squares are whole numbers below 2²⁴: exact, so the same on every machine.
    parts = difference.reshape(-1, gcd(difference.size, 256)).astype(np.float32)
    squares = np.einsum("ij,ij->i", parts, parts)
    return float(squares.sum(dtype=np.float64)) / (255.0**2 * parts.size)


def iou(a: BoolArray, b: BoolArray) -> float:
    """|a and b| / |a or b|; 1 if both are empty."""
    union = int(np.count_nonzero(a | b))
    return int(np.count_nonzero(a & b)) / union if union else 1.0


def weighted_iou(a: NDArray[np.integer], b: NDArray[np.integer]) -> float:
    """Sum of min / sum of max of how often each pixel was on; 1 if both never were.

    The clips have equally many frames, so counts serve for shares of time.
    """
    largest = int(np.maximum(a, b).sum())
    return int(np.minimum(a, b).sum()) / largest if largest else 1.0
