"""Both published scores against the benchmark's own numbers, at the edges too."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from physics_iq_goldens import ORIGINAL, VERIFIED, Case, cases

from wmreward.errors import UsageError
from wmreward.physics_iq.categories import CATEGORIES
from wmreward.physics_iq.measures.metrics import Metrics
from wmreward.physics_iq.official_csv import read_csv, write_csv
from wmreward.physics_iq.scores import (
    Sample,
    Table,
    by_category,
    intervals,
    original_score,
    published_summary,
    verified_ratios,
    verified_score,
)

FILES = {"metrics.csv": "scores", "metrics_lossless_masks.csv": "scores_lossless_masks"}
FURTHER = ("a30_lossless", "b24_lossy_clips", "c16_edges", "d16_short", "r24_real_footage")


@pytest.mark.parametrize("case", cases("d16_short", "c16_edges", further=FURTHER))
def test_scores_are_the_benchmarks(case: Case, tmp_path: Path) -> None:
    for file, key in FILES.items():
        if key not in case.expected or not list(case.folder.glob(f"{file}*")):
            continue
        expected = case.expected[key]
        rows = case.rows(file, tmp_path)
        original, verified = original_score(rows), verified_score(rows)
        assert abs(original.score - expected["original_score"]) < ORIGINAL
        variance = expected["original_physical_variance_all"]
        assert original.physical_variance == pytest.approx(variance, abs=1e-4)
        summary = published_summary(rows)
        for name, value in expected["iqtable"].items():
            assert summary[name] == pytest.approx(value, abs=VERIFIED), name
        of_views = expected["by_view_unclipped"]
        np.testing.assert_allclose(
            verified.samples, of_views["final_arithmetic"], rtol=0, atol=VERIFIED
        )
        ratios = verified_ratios(Table(rows))
        for ours, theirs in (
            ("spatial", "spatial_iou_v1_score"),
            ("weighted_spatial", "weighted_spatial_iou_v1_score"),
            ("spatiotemporal", "spatiotemporal_iou_v1_score"),
            ("mse", "v1_mse_score"),
        ):
            np.testing.assert_allclose(ratios[ours].ravel(), of_views[theirs], rtol=1e-9)


def metrics(iou: float = 0.5, mse: float = 0.01, variance: float = 0.8, frames: int = 4) -> Metrics:
    return Metrics(
        v1_mse=(mse,) * frames,
        v2_mse=(mse,) * frames,
        variance_mse=(0.002,) * frames,
        spatiotemporal_iou_v1=(iou,) * frames,
        spatiotemporal_iou_v2=(iou,) * frames,
        variance_spatiotemporal_iou=(variance,) * frames,
        spatial_iou_v1=iou,
        spatial_iou_v2=iou,
        variance_spatial=variance,
        weighted_spatial_iou_v1=iou,
        weighted_spatial_iou_v2=iou,
        variance_weighted_spatial=variance,
    )


def test_original_by_hand() -> None:
    rows = [Sample("a", "left", metrics(0.4)), Sample("b", "left", metrics(0.6))]
    score = original_score(rows)
    assert score.score == round(100 * (0.5 / 0.8 - (0.01 - 0.002)), 2)
    assert score.spatial == pytest.approx(0.5 / 0.8) and score.mse == pytest.approx(0.008)
    assert score.physical_variance == round(3 * 0.8 - 0.002, 4)


def test_original_rounds_the_variances_and_spatial_to_a_decimal_more() -> None:
    score = original_score([Sample("a", "left", metrics(0.01, variance=0.123456))])
    assert score.spatial == pytest.approx(0.01 / 0.12346)
    assert score.weighted_spatial == pytest.approx(0.01 / 0.1235)
    assert score.spatiotemporal == pytest.approx(0.01 / 0.1235)


def test_verified_by_hand() -> None:
    """Clipped per sample, so one very good sample cannot make up for a bad one."""
    rows = [Sample("a", "left", metrics(0.9)), Sample("b", "left", metrics(0.4, mse=0.001))]
    score = verified_score(rows)
    assert score.samples[0] == pytest.approx((3 * 1 + 0.2) / 4, abs=1e-5)
    assert score.samples[1] == pytest.approx((3 * 0.5 + 1) / 4, abs=1e-5)
    assert score.score == pytest.approx(np.mean(score.samples))


def test_every_frame_is_rounded_to_4_decimals_before_anything_is_averaged() -> None:
    still = dataclasses.replace(metrics(), v1_mse=(0.00004,) * 4, variance_mse=(0.00004,) * 4)
    assert verified_score([Sample("a", "left", still)]).mse == 1  # 0 / 0: as near as the takes
    worse = dataclasses.replace(still, v1_mse=(0.00006,) * 4)
    assert verified_score([Sample("a", "left", worse)]).mse == pytest.approx(1e-4, rel=1e-3)


def test_zero_variance() -> None:
    """The Original score divides by zero, which clips to 100; 0 / 0 has no value."""
    assert original_score([Sample("a", "left", metrics(0.5, variance=0.0))]).score == 100
    assert np.isnan(original_score([Sample("a", "left", metrics(0.0, variance=0.0))]).score)
    verified = verified_score([Sample("a", "left", metrics(0.0, variance=0.0))])
    assert verified.spatial == 0
    assert verified_score([Sample("a", "left", metrics(0.5, variance=0.0))]).spatial == 1


def test_views_may_be_missing_and_clips_of_any_length() -> None:
    rows = [
        Sample("a", "left", metrics(0.4, frames=2)),
        Sample("a", "right", metrics(0.8, frames=6)),
        Sample("b", "left", metrics(0.6, frames=4)),
    ]
    score = original_score(rows)
    # Frames count equally within a scenario, scenarios within a view, and views among each other.
    assert score.spatiotemporal == pytest.approx((0.7 + 0.6) / 2 / 0.8)
    assert score.spatial == pytest.approx(((0.4 + 0.6) / 2 + 0.8) / 2 / 0.8)
    assert verified_score(rows).spatial == pytest.approx((0.5 + 1 + 0.75) / 3)


def test_each_list_has_its_own_length() -> None:
    """As in a CSV of the older published code, where takes may have had other lengths."""
    short = dataclasses.replace(metrics(), variance_mse=(0.002,), spatiotemporal_iou_v1=(0.2, 0.4))
    assert original_score([Sample("a", "left", short)]).spatiotemporal == pytest.approx(0.3 / 0.8)
    assert original_score([Sample("a", "left", short)]).mse == pytest.approx(0.008)
    assert verified_score([Sample("a", "left", short)]).mse == pytest.approx(0.2, abs=1e-5)


def test_nothing_to_score_or_twice_the_same() -> None:
    with pytest.raises(UsageError, match="nothing to score"):
        original_score([])
    with pytest.raises(UsageError, match="twice"):
        verified_score([Sample("a", "left", metrics())] * 2)


def test_intervals_hold_the_scores_and_are_the_same_each_time() -> None:
    rng = np.random.default_rng(0)
    rows = [
        Sample(f"s{number}", view, metrics(float(rng.uniform(0.2, 0.8))))
        for number in range(20)
        for view in ("left", "right")
    ]
    spread = intervals(rows)
    assert spread == intervals(rows)
    assert spread.original.low < original_score(rows).score < spread.original.high
    assert spread.verified.low < verified_score(rows).score < spread.verified.high
    of_means = np.std([np.mean(verified_score(rows).samples[i : i + 2]) for i in range(0, 40, 2)])
    width = 2 * 1.96 * of_means / np.sqrt(20)
    assert spread.verified.high - spread.verified.low == pytest.approx(width, rel=0.15)
    alone = intervals(rows[:2])
    assert alone.verified.low == alone.verified.high


def test_categories_of_the_data_set() -> None:
    counts = {name: list(CATEGORIES.values()).count(name) for name in set(CATEGORIES.values())}
    assert counts == {
        "Solid Mechanics": 38,
        "Fluid Dynamics": 15,
        "Optics": 8,
        "Thermodynamics": 3,
        "Magnetism": 2,
    }
    rows = [Sample(name, "left", metrics(), category) for name, category in CATEGORIES.items()]
    groups = by_category([*rows, Sample("other", "left", metrics())])
    assert next(iter(groups)) == "Solid Mechanics" and sum(map(len, groups.values())) == 66


def test_csv_there_and_back(tmp_path: Path) -> None:
    rows = [
        Sample("a, b", "left", metrics(1 / 3)),
        Sample("a, b", "right", metrics(frames=3)),
        Sample("c", "right", metrics()),
    ]
    write_csv(tmp_path / "out.csv", rows)
    assert read_csv(tmp_path / "out.csv") == rows
    header = (tmp_path / "out.csv").read_text().splitlines()[0].split(",")
    assert header[:3] == ["scenario", "v1_mse_left", "v2_mse_left"] and len(header) == 25


def test_csv_of_the_benchmark_has_our_columns(tmp_path: Path) -> None:
    case = Case(Path(__file__).parents[1] / "golden" / "physics_iq" / "d16_short")
    theirs = case.folder / "metrics_lossless_masks.csv"
    write_csv(tmp_path / "out.csv", read_csv(theirs))
    ours = (tmp_path / "out.csv").read_text()
    assert ours.splitlines()[0] == theirs.read_text().splitlines()[0]
    assert ours == theirs.read_text()


def test_csv_without_a_value_is_no_csv(tmp_path: Path) -> None:
    """Not a number would count as a view that is missing, and an empty list has no mean."""
    write_csv(tmp_path / "good.csv", [Sample("a", "left", metrics(0.5))])
    good = (tmp_path / "good.csv").read_text()
    for name, old, new in (
        ("spatial_iou_v1", ",0.5,", ",nan,"),
        ("v1_mse", '"[0.01, 0.01, 0.01, 0.01]"', "[]"),
        ("v1_mse", '"[0.01, 0.01, 0.01, 0.01]"', "[1e999]"),
    ):
        (tmp_path / "bad.csv").write_text(good.replace(old, new, 1))
        with pytest.raises(UsageError, match=rf"a, left: unreadable measures \({name}_left"):
            read_csv(tmp_path / "bad.csv")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no column 'scenario'"),
        ("name\nx\n", "no column 'scenario'"),
        ("scenario,v1_mse_left\na,[0.1]\n", "a, left: unreadable"),
    ],
)
def test_csv_errors_are_one_line(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_text(text)
    with pytest.raises(UsageError, match=message):
        read_csv(tmp_path / "bad.csv")
    with pytest.raises(UsageError, match=r"absent\.csv"):
        read_csv(tmp_path / "absent.csv")
