"""Masks and raw measures: equal to the benchmark's own, and to the definitions written out slowly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from physics_iq_goldens import IOU, MSE, Case, cases, frames, sha256_bgr

from wmreward.errors import UsageError
from wmreward.physics_iq.measures import masks
from wmreward.physics_iq.measures.masks import motion_masks
from wmreward.physics_iq.measures.metrics import (
    compare,
    iou,
    looks,
    mean_squared_error,
    sampled,
    weighted_iou,
)
from wmreward.physics_iq.measures.resize import Bilinear, target_size
from wmreward.physics_iq.official_csv import read_csv

CASES = cases("d16_short", further=("a30_lossless", "b24_lossy_clips", "c16_edges"))


@pytest.mark.parametrize("case", CASES)
def test_masks_are_the_benchmarks(case: Case) -> None:
    """Two of each side: at the clip's size, and how many pixels are on at the target size."""
    tested = 0
    for name in [*list(case.masks)[:2], *list(case.masks)[-2:]]:
        clip = case.clip(name)
        if sha256_bgr(clip) != case.expected["clips"][_key(case, clip)]["sha256_bgr"]:
            assert "lossy" in case.folder.name  # this FFmpeg converts colours in another way
            continue
        ours = motion_masks(frames(clip))
        np.testing.assert_array_equal(ours, case.masks[name], err_msg=name)
        first_take = next(iter(case.masks.values()))
        small = [look.moving for look in looks(frames(clip), target_size(*first_take.shape[1:]))]
        on = case.expected["masks"][name]["lossless_on_quarter"]
        assert np.count_nonzero(small) == on, name
        tested += 1
    assert tested or "lossy" in case.folder.name


def _key(case: Case, clip: Path) -> str:
    return clip.relative_to(case.folder).as_posix()


@pytest.mark.parametrize("case", cases("d16_short"))
def test_metrics_are_the_benchmarks(case: Case) -> None:
    clips = [np.stack(list(frames(case.clip(name)))) for name in case.masks]
    ours = compare(*clips)
    row = read_csv(case.folder / "metrics_lossless_masks.csv")[0]
    for name, theirs in vars(row.metrics).items():
        atol = MSE if "mse" in name else IOU
        np.testing.assert_allclose(getattr(ours, name), theirs, rtol=0, atol=atol, err_msg=name)


def slow_masks(clip: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """The definition, pixel by pixel where that is clearer."""
    height, width = clip.shape[1:3]
    kernel = np.outer([1, 4, 6, 4, 1], [1, 4, 6, 4, 1])
    result = np.zeros(clip.shape[:3], bool)
    average = np.zeros((height, width))
    for t, rgb in enumerate(clip.astype(int)):
        grey = (9798 * rgb[..., 0] + 19235 * rgb[..., 1] + 3735 * rgb[..., 2] + 16384) >> 15
        padded = np.pad(grey, 2, mode="reflect")
        blurred = np.array(
            [
                [(np.sum(padded[y : y + 5, x : x + 5] * kernel) + 128) >> 8 for x in range(width)]
                for y in range(height)
            ]
        )
        if t == 0:
            average = blurred.astype(float)
            continue
        average = 0.7 * average + 0.3 * blurred
        mask = np.abs(blurred - np.rint(average.astype(np.float32))) > 10
        for size in ("erode", "dilate", "dilate", "erode"):
            mask = slow_morphology(mask, size)
        result[t] = mask
    return result


def slow_morphology(mask: NDArray[np.bool_], operation: str) -> NDArray[np.bool_]:
    height, width = mask.shape
    combine = np.all if operation == "erode" else np.any
    return np.array(
        [
            [combine(mask[max(0, y - 2) : y + 3, max(0, x - 2) : x + 3]) for x in range(width)]
            for y in range(height)
        ]
    )


@given(
    height=st.integers(2, 24),
    width=st.integers(2, 24),
    seed=st.integers(0, 1000),
    band=st.sampled_from([1, 50, 1 << 16]),
)
def test_masks_follow_the_definition(height: int, width: int, seed: int, band: int) -> None:
    """At any size, also below the kernel's, and in bands of any height."""
    clip = blocky_clip(height, width, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(masks, "_BAND_PIXELS", band)
        np.testing.assert_array_equal(motion_masks(clip), slow_masks(clip))


@given(
    height=st.integers(1, 40),
    first=st.integers(0, 40),
    rows=st.integers(0, 16),
    seed=st.integers(0, 1000),
)
def test_rows_that_hold_nothing_make_no_difference(
    height: int, first: int, rows: int, seed: int
) -> None:
    """Anywhere between the edges, where the squares end differently than at rows of zeros."""
    drawn = np.random.default_rng(seed).random((-(-height // 3), 12)) < 0.7
    mask = drawn.repeat(3, axis=0).repeat(3, axis=1)[:height].astype(np.uint8)
    mask[:first] = mask[first + rows :] = 0
    tidied = masks.open_and_close(mask)
    np.testing.assert_array_equal(tidied, masks._open_and_close(mask))
    assert tidied.shape == mask.shape and tidied.dtype == bool
    size = (max(1, height // 4), 9)
    (small,) = sampled([mask * np.uint8(255)], size)
    np.testing.assert_array_equal(small, Bilinear(mask.shape, size)(mask * np.uint8(255)) > 127)


def blocky_clip(height: int, width: int, seed: int) -> NDArray[np.uint8]:
    """Four frames of large blocks whose brightness changes, so that masks are neither empty nor full."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (4, height // 6 + 1, width // 6 + 1, 3))
    large = small.repeat(6, axis=1).repeat(6, axis=2)[:, :height, :width]
    noisy = large + rng.integers(-12, 13, large.shape)
    return noisy.clip(0, 255).astype(np.uint8)


def test_a_step_of_14_levels_does_not_show_and_one_of_15_does() -> None:
    """Because the average takes the frame in first: 0.7 of the step is seen."""
    for step, shows in ((14, False), (15, True)):
        clip = np.full((2, 20, 20, 3), 100, np.uint8)
        clip[1] += np.uint8(step)
        assert motion_masks(clip)[1].all() == shows, step


def test_what_is_narrower_than_5_pixels_does_not_move() -> None:
    for side, shows in ((3, False), (9, True)):
        clip = np.zeros((2, 64, 64, 3), np.uint8)
        clip[1, 20 : 20 + side, 30 : 30 + side] = 60
        assert motion_masks(clip)[1].any() == shows, side


def test_a_moving_thing_leaves_a_ghost() -> None:
    clip = np.zeros((6, 32, 32, 3), np.uint8)
    clip[0, 8:20, 8:20] = 200
    there = motion_masks(clip)[:, 14, 14]
    assert there[1:].any() and not there[0]


@given(
    size=st.tuples(st.integers(4, 60), st.integers(4, 60)),
    target=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    seed=st.integers(0, 100),
)
def test_bilinear_is_near_the_real_numbers(
    size: tuple[int, int], target: tuple[int, int], seed: int
) -> None:
    picture = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    exact = picture.astype(float)
    for axis in (0, 1):
        x = (np.arange(target[axis]) + 0.5) * size[axis] / target[axis] - 0.5
        x = x.clip(0, size[axis] - 1)
        first = np.floor(x).astype(int)
        share = (x - first).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
        after = np.minimum(first + 1, size[axis] - 1)
        exact = exact.take(first, axis) * (1 - share) + exact.take(after, axis) * share
    ours = Bilinear(size, target)(picture)
    assert ours.shape == (*target, 3)
    assert np.abs(ours - exact).max() < 1.3
    rows = Bilinear(size, target).reached(size[0] // 3, size[0] // 2 + 1)
    assert rows.stop > rows.start or target[0] < size[0]
    np.testing.assert_array_equal(Bilinear(size, target)(picture, rows), ours[rows])
    for channel in range(3):
        alone = Bilinear(size, target)(np.ascontiguousarray(picture[..., channel]))
        np.testing.assert_array_equal(alone, ours[..., channel])


def test_scaling_is_opencvs_where_no_size_divides_the_other() -> None:
    """Positions are float32 there, and at an edge rows, but not columns, keep their weights."""
    y, x = np.mgrid[:148, :8]
    picture = ((y * y * 13 + x * 97) % 256).astype(np.uint8)
    assert Bilinear((148, 8), (75, 8))(picture)[59, 2:4].tolist() == [212, 75]
    assert Bilinear((8, 148), (8, 75))(np.ascontiguousarray(picture.T))[2, 59] == 212
    small = np.array([[3, 250], [77, 14], [201, 90]], np.uint8)
    assert Bilinear((3, 2), (8, 5))(small).tolist() == [
        [3, 28, 126, 225, 250],
        [8, 30, 121, 212, 235],
        [35, 46, 91, 135, 147],
        [63, 62, 60, 58, 58],
        [100, 93, 64, 35, 28],
        [147, 138, 102, 66, 57],
        [193, 182, 139, 96, 85],
        [201, 190, 145, 101, 90],
    ]


def test_half_on_is_on() -> None:
    """127.5 becomes 128: the tie that lossy mask files decide by codec noise."""
    mask = np.zeros((8, 8), np.uint8)
    mask[:, :2] = 255
    mask[4:, 2] = 255
    grey = Bilinear((8, 8), (2, 2))(mask)
    assert grey.tolist() == [[128, 0], [255, 0]]


def test_overlaps() -> None:
    empty, full = np.zeros((2, 2), bool), np.ones((2, 2), bool)
    half = np.array([[True, True], [False, False]])
    assert iou(empty, empty) == 1 and iou(empty, full) == 0 and iou(half, full) == 0.5
    never, often = np.zeros((2, 2), np.int64), np.full((2, 2), 3)
    assert weighted_iou(never, never) == 1 and weighted_iou(never, often) == 0
    assert weighted_iou(often, often * 2) == 0.5
    black, white = np.zeros((3, 3, 3), np.uint8), np.full((3, 3, 3), 255, np.uint8)
    assert mean_squared_error(black, white) == 1 and mean_squared_error(white, white) == 0


def test_clips_in_memory_may_differ_in_size_but_not_in_length() -> None:
    clips = [blocky_clip(side, side, seed) for seed, side in enumerate((64, 64, 48))]
    result = compare(*clips)
    assert len(result.v1_mse) == 4 and result.spatiotemporal_iou_v1[0] == 1
    same = compare(clips[0], clips[0], clips[0])
    assert set(same.v1_mse) == {0.0} and same.spatial_iou_v1 == same.weighted_spatial_iou_v1 == 1
    with pytest.raises(UsageError, match=r"equally many frames, got \[4, 4, 3\]"):
        compare(clips[0], clips[1], clips[2][:3])
    with pytest.raises(UsageError, match="uint8"):
        compare(clips[0], clips[1], clips[2] / 255)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="without frames"):
        motion_masks(clips[0][:0])
    with pytest.raises(UsageError, match="too small"):
        compare(*(clip[:, :3] for clip in clips))


def test_take_1_is_the_reference() -> None:
    """Swapping the takes swaps v1 and v2 and leaves the variance."""
    a, b, made = (blocky_clip(64, 64, seed) for seed in (1, 2, 3))
    one, other = compare(a, b, made), compare(b, a, made)
    assert one.v1_mse == other.v2_mse != one.v2_mse
    assert one.spatial_iou_v2 == other.spatial_iou_v1
    assert one.variance_mse == other.variance_mse
    assert one.variance_weighted_spatial == other.variance_weighted_spatial
