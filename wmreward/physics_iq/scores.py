"""From raw measures to the two published scores of Physics-IQ, and how sure they are.

**Original** (0..100): a ratio of means over the whole set. Each IoU mean is divided by that of the two
real takes, the three ratios are averaged, the excess of MSE is subtracted. A subset has its own score;
it is not a mean of per-scenario scores, and the overall score is no mean of categories.

**Verified** (0..1): each scenario and view has four ratios, clipped to [0, 1] and averaged; the score is
the mean over these samples. A category's score is the mean of its samples.

Both published codes round the per-frame numbers to 4 decimals first, and so does this. In the Verified
score that matters: a scene whose takes differ by an MSE below 0.00005 counts as repeating exactly, and
the MSE part then is 1 for a generated clip that close and about 0 for all others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from wmreward.errors import UsageError
from wmreward.physics_iq.measures.metrics import Metrics

FloatArray = NDArray[np.float64]

_EPSILON = 1e-8
_RESAMPLES = 4000


@dataclass(frozen=True)
class Sample:
    """One scenario seen from one view, measured.

    Attributes:
        scenario: its name, such as "trimmed-ball-falls.mp4".
        view: such as "perspective-left".
        metrics: the raw measures.
        category: such as "Optics", if known.
        id: of the generated clip, such as "0001", if it has one.
    """

    scenario: str
    view: str
    metrics: Metrics
    category: str | None = None
    id: str | None = None


@dataclass(frozen=True)
class OriginalScore:
    """The score of the first publication.

    Attributes:
        score: 0..100, two decimals; NaN where a ratio is 0 / 0.
        spatiotemporal, spatial, weighted_spatial: mean IoUs of the generated clips over those of the
            real takes; above 1 where the generated clip is nearer to take 1 than take 2 is.
        mse: mean squared error in excess of that between the takes.
        physical_variance: the agreement of the real takes, all measures in one number.
    """

    score: float
    spatiotemporal: float
    spatial: float
    weighted_spatial: float
    mse: float
    physical_variance: float


@dataclass(frozen=True)
class VerifiedScore:
    """The score of the verified benchmark: means over samples, each number in 0..1.

    Attributes:
        score: the mean of the four parts.
        spatiotemporal, spatial, weighted_spatial, mse: the parts; here a high `mse` is good.
        samples: the score of each sample, in the order given.
    """

    score: float
    spatiotemporal: float
    spatial: float
    weighted_spatial: float
    mse: float
    samples: tuple[float, ...]


@dataclass(frozen=True)
class Interval:
    """A 95 % interval."""

    low: float
    high: float


@dataclass(frozen=True)
class Intervals:
    """Of both scores, in their own units."""

    original: Interval
    verified: Interval


class Table:
    """The measures of many samples as arrays [scenario, view], NaN where a view is missing.

    Lists become sums over their frames, after rounding each number to 4 decimals as the published codes
    do (Python's `round`), and `frames` says over how many: each list has its own length.
    """

    def __init__(self, rows: Sequence[Sample]) -> None:
        if not rows:
            raise UsageError("there is nothing to score: no scenario was measured")
        scenarios = list(dict.fromkeys(row.scenario for row in rows))
        views = list(dict.fromkeys(row.view for row in rows))
        self.places = [(scenarios.index(row.scenario), views.index(row.view)) for row in rows]
        if len(set(self.places)) < len(rows):
            raise UsageError("a scenario was given twice for one view")
        self.shape = len(scenarios), len(views)
        self._values: dict[str, FloatArray] = {}
        self.frames: dict[str, FloatArray] = {}
        for field in fields(Metrics):
            values = [getattr(row.metrics, field.name) for row in rows]
            self._values[field.name] = self._array([_total(value) for value in values])
            if isinstance(values[0], tuple):
                self.frames[field.name] = self._array([len(value) for value in values])

    def _array(self, values: Sequence[float]) -> FloatArray:
        array = np.full(self.shape, np.nan)
        for place, value in zip(self.places, values, strict=True):
            array[place] = value
        return array

    def __getitem__(self, name: str) -> FloatArray:
        """Of a measure that is one number per sample, that number; of a list, its sum."""
        return self._values[name]

    def frame_means(self, name: str) -> FloatArray:
        """Of a list measure, its mean [scenario, view]."""
        return self._values[name] / self.frames[name]


def _total(value: float | tuple[float, ...]) -> float:
    if isinstance(value, tuple):
        return float(np.sum([round(float(number), 4) for number in value]))
    return value


def original_score(rows: Sequence[Sample]) -> OriginalScore:
    """The Original score of a set of samples. Scenarios may lack a view.

    Raises:
        UsageError: for no samples, or the same one twice.
    """
    table = Table(rows)
    (parts,) = _original(table, np.ones((1, table.shape[0])), rounded=True)
    return OriginalScore(*(float(part) for part in parts))


def verified_score(rows: Sequence[Sample]) -> VerifiedScore:
    """The Verified score of a set of samples.

    Raises:
        UsageError: for no samples, or the same one twice.
    """
    table = Table(rows)
    ratios = verified_ratios(table)
    clipped = {name: np.clip(ratio, 0.0, 1.0) for name, ratio in ratios.items()}
    of_samples = np.mean(list(clipped.values()), axis=0)
    parts = {name: float(np.nanmean(values)) for name, values in clipped.items()}
    return VerifiedScore(
        score=float(np.nanmean(of_samples)),
        samples=tuple(float(of_samples[place]) for place in table.places),
        **parts,
    )


def verified_ratios(table: Table) -> dict[str, FloatArray]:
    """The four ratios of every sample before they are clipped, [scenario, view]; may be infinite."""

    def over(value: FloatArray, variance: FloatArray) -> FloatArray:
        return value / (variance + _EPSILON)

    with np.errstate(divide="ignore"):
        return {
            "spatiotemporal": over(
                table.frame_means("spatiotemporal_iou_v1"),
                table.frame_means("variance_spatiotemporal_iou"),
            ),
            "spatial": over(table["spatial_iou_v1"], table["variance_spatial"]),
            "weighted_spatial": over(
                table["weighted_spatial_iou_v1"], table["variance_weighted_spatial"]
            ),
            "mse": 1 / over(table.frame_means("v1_mse"), table.frame_means("variance_mse")),
        }


def _original(table: Table, weights: FloatArray, *, rounded: bool) -> FloatArray:
    """[R, 6], in the order of `OriginalScore`, for scenarios that count `weights` [R, S] times each."""
    means = set_means(table, weights)
    variances = set_variances(table, weights)
    if rounded:
        decimals = {"mse": 4, "spatiotemporal": 4, "spatial": 5, "weighted_spatial": 4}
        variances = {name: np.round(value, decimals[name]) for name, value in variances.items()}
    with np.errstate(divide="ignore", invalid="ignore"):
        names = ("spatiotemporal", "spatial", "weighted_spatial")
        ratios = [means[name] / variances[name] for name in names]
    excess = means["mse"] - variances["mse"]
    score = np.clip(100 * (sum(ratios) / 3 - excess), 0, 100)
    variance = sum(variances[name] for name in names) - variances["mse"]
    if rounded:
        score, variance = np.round(score, 2), np.round(variance, 4)
    return np.stack([score, *ratios, excess, variance], axis=-1)


def set_means(table: Table, weights: FloatArray) -> dict[str, FloatArray]:
    """The four set means [R] of the generated clips."""

    def over_frames(name: str) -> FloatArray:
        # The frames of a scenario's views count equally, then the scenarios do.
        frames = np.nansum(table.frames[name], axis=1)
        return _mean(weights, np.nansum(table[name], axis=1) / frames)

    return {
        "mse": over_frames("v1_mse"),
        "spatiotemporal": over_frames("spatiotemporal_iou_v1"),
        "spatial": _mean_of_views(weights, table["spatial_iou_v1"]),
        "weighted_spatial": _mean_of_views(weights, table["weighted_spatial_iou_v1"]),
    }


def set_variances(table: Table, weights: FloatArray) -> dict[str, FloatArray]:
    """The four set means [R] of the real takes against each other."""

    def over_frames(name: str) -> FloatArray:
        return _mean_of_views(weights, table.frame_means(name), table.frames[name])

    return {
        "mse": over_frames("variance_mse"),
        "spatiotemporal": over_frames("variance_spatiotemporal_iou"),
        "spatial": _mean_of_views(weights, table["variance_spatial"]),
        "weighted_spatial": _mean_of_views(weights, table["variance_weighted_spatial"]),
    }


def _mean(weights: FloatArray, values: FloatArray) -> FloatArray:
    return weights @ values / weights.sum(axis=1)


def _mean_of_views(
    weights: FloatArray, values: FloatArray, counts: FloatArray | None = None
) -> FloatArray:
    """Mean over views of the mean over the scenarios [S, V] that have the view, each `counts` times."""
    known = (~np.isnan(values)).astype(np.float64)
    counts = known if counts is None else np.nan_to_num(counts)
    with np.errstate(invalid="ignore"):  # a draw of scenarios may lack a view
        of_views = weights @ (np.nan_to_num(values) * counts) / (weights @ counts)
    return np.nanmean(of_views, axis=1)


def intervals(rows: Sequence[Sample]) -> Intervals:
    """95 % intervals of both scores: percentile bootstrap over scenarios, 4000 draws, fixed seed.

    Scenarios are drawn with all their views, since the views of one scene tell the same story.
    """
    table = Table(rows)
    number = table.shape[0]
    drawn = np.random.default_rng(0).integers(number, size=(_RESAMPLES, number))
    weights = np.stack([np.bincount(draw, minlength=number) for draw in drawn]).astype(np.float64)
    original = _original(table, weights, rounded=True)[:, 0]
    clipped = [np.clip(ratio, 0.0, 1.0) for ratio in verified_ratios(table).values()]
    of_samples = np.mean(clipped, axis=0)
    counted = (~np.isnan(of_samples)).sum(axis=1)
    verified = weights @ np.nansum(of_samples, axis=1) / (weights @ counted)
    return Intervals(original=_interval(original), verified=_interval(verified))


def _interval(values: FloatArray) -> Interval:
    known = values[~np.isnan(values)]
    if not len(known):
        return Interval(np.nan, np.nan)
    low, high = np.quantile(known, [0.025, 0.975])
    return Interval(float(low), float(high))


def by_category(rows: Sequence[Sample]) -> dict[str, list[Sample]]:
    """Samples by category, largest category first; those without one are left out."""
    groups: dict[str, list[Sample]] = {}
    for row in rows:
        if row.category is not None:
            groups.setdefault(row.category, []).append(row)
    return dict(sorted(groups.items(), key=lambda item: (-len(item[1]), item[0])))


def published_summary(rows: Sequence[Sample]) -> dict[str, float]:
    """The numbers of the verified benchmark's own `_metrics.json`, by its keys.

    `final_score_view` is the Verified score. `final_score_orig` is the Original one as a fraction and
    with unrounded variances, `final_score_origround` the Original score itself (0..100).
    """
    table = Table(rows)
    once = np.ones((1, table.shape[0]))
    means = {name: float(value[0]) for name, value in set_means(table, once).items()}
    variances = {name: float(value[0]) for name, value in set_variances(table, once).items()}
    names = ("spatiotemporal", "spatial", "weighted_spatial")
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = {name: float(np.float64(means[name]) / variances[name]) for name in names}
    excess = means["mse"] - variances["mse"]
    raw = sum(ratios.values()) / 3 - excess
    stable = sum(_unit(ratio) for ratio in ratios.values()) / 3 - _unit(excess)
    verified = verified_score(rows)
    return {
        **{f"score_{name}": ratio for name, ratio in ratios.items()},
        "score_mse": excess,
        "final_score_raw": raw,
        "final_score_stable": stable,
        "final_score_orig": _unit(raw),
        "final_score_origround": original_score(rows).score,
        "variance_mse": variances["mse"],
        "variance_spatiotemporal_iou": variances["spatiotemporal"],
        "variance_spatial": variances["spatial"],
        "variance_weighted_spatial": variances["weighted_spatial"],
        "final_score_view": verified.score,
        "score_spatiotemporal_view": verified.spatiotemporal,
        "score_spatial_view": verified.spatial,
        "score_weighted_spatial_view": verified.weighted_spatial,
        "score_mse_view": verified.mse,
    }


def _unit(value: float) -> float:
    return float(np.clip(value, 0.0, 1.0))
