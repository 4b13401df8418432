"""Which way to guide? A grid of settings on scenes of their own, sorted by what counts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, fields, replace
from typing import Any

from benchmarks.physics_repair.guides import GuideMaker, GuideSettings
from benchmarks.physics_repair.parts import Variant, Workshop
from benchmarks.physics_repair.rows import PLAIN, Row, part_row

MISS_ALLOWED, SHARP_ALLOWED = 0.01, 0.02
"""What a guidance may cost at most: objects that vanish, and sharpness."""

CRITERION = (
    "A setting passes if position and motion errors fall while misses rise by no more than "
    f"{MISS_ALLOWED} and sharpness falls by no more than {SHARP_ALLOWED}; those that pass come "
    "first, then by gain: the mean of how much both errors fall, as a part of plain's."
)

_CHANGES: dict[str, list[Any]] = {
    "scale": [0.06, 0.3, 0.5],
    "times": [(0.0, 1.0), (0.0, 0.6), (0.2, 1.0), (0.2, 0.6), (0.0, 0.3), (0.05, 0.25), (0.3, 0.8)],
    "score": ["plain", "excess", "relative"],
    "mode": ["topk3"],
    "stride": [2, 4],
    "seam": [0.5, 1.0],
    "repeats": [2],
    "through": ["dit"],
    "keep_edges": [False],
    "trust": [0.05, 0.15],
}
_TOGETHER: list[dict[str, Any]] = [
    {"rule": "tilt", "scale": 100.0},
    {"rule": "tilt", "scale": 1000.0},
    {"through": "dit", "times": (0.0, 0.15)},
    {"through": "dit", "times": (0.0, 0.3)},
    {"through": "dit", "times": (0.0, 0.3), "scale": 0.06},
    {"through": "dit", "times": (0.0, 0.3), "score": "excess"},
    {"times": (0.05, 0.25), "scale": 0.3},
    {"times": (0.05, 0.25), "scale": 0.3, "stride": 2},
    {"seam": 1.0, "keep_edges": False},
    {"stride": 2, "keep_edges": False},
]


def grid() -> list[GuideSettings]:
    """The default, each of its settings changed alone, and some changed together."""
    default = GuideSettings()
    alone = [{name: value} for name, values in _CHANGES.items() for value in values]
    return [default, *(replace(default, **change) for change in (*alone, *_TOGETHER))]


def title(settings: GuideSettings) -> str:
    """What distinguishes settings from the default."""
    default = GuideSettings()
    own = {
        field.name: getattr(settings, field.name)
        for field in fields(settings)
        if getattr(settings, field.name) != getattr(default, field.name)
    }
    return ", ".join(f"{name} {value}" for name, value in own.items()) or "default"


def judged(row: Row) -> dict[str, Any]:
    """Whether a guidance passes, and its gain; see `CRITERION`."""
    record = row.to_json()
    change = {name: value["value"] for name, value in record["differences"].items()}

    def share(name: str) -> float:
        return -change[name] / row.against[name].nanmean().item()

    passes = (
        change["position"] < 0
        and change["motion"] < 0
        and change["miss"] <= MISS_ALLOWED
        and change["sharp"] >= -SHARP_ALLOWED
    )
    return record | {"passes": passes, "gain": (share("position") + share("motion")) / 2}


def tune(
    workshop: Workshop,
    candidates: int,
    settings: list[GuideSettings],
    maker: Callable[[GuideSettings, int], GuideMaker],
) -> Iterator[Mapping[str, Mapping[str, Any]]]:
    """Try settings; after each, all results so far in the order of `CRITERION`."""
    plain = workshop.make(Variant(PLAIN, candidates))[PLAIN]
    results: dict[str, dict[str, Any]] = {}
    for one in settings:
        name = title(one)

        def guide(seed: int, one: GuideSettings = one) -> GuideMaker:
            return maker(one, seed)

        guided = workshop.make(Variant(name, candidates, guide=guide))[name]
        results[name] = judged(part_row(guided, plain)) | {
            "settings": asdict(one),
            "effect": guided.effect,
        }
        yield dict(sorted(results.items(), key=lambda item: _order(item[1])))


def _order(result: Mapping[str, Any]) -> tuple[bool, float]:
    gain = result["gain"]
    return not result["passes"], math.inf if math.isnan(gain) else -gain
