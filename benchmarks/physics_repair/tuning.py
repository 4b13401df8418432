"""Which way to guide? A grid of settings on scenes of their own, sorted by what counts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, fields, replace
from functools import partial
from typing import Any

from benchmarks.physics_repair.guides import ALSO, EVERY_STEP, GuideMaker, GuideSettings
from benchmarks.physics_repair.parts import Part, Variant, Workshop
from benchmarks.physics_repair.rows import Row, part_row

MISS_ALLOWED, SHARP_ALLOWED, PHYSICS_ALLOWED = 0.01, 0.003, 1.0
"""What a guidance may cost at most: objects that vanish, sharpness, and points of Physics-IQ's score."""

CRITERION = (
    "A setting passes if position and motion errors fall while misses rise by no more than "
    f"{MISS_ALLOWED}, sharpness falls by no more than {SHARP_ALLOWED} and Physics-IQ's score by no more "
    f"than {PHYSICS_ALLOWED:g}; those that pass come first, then by gain: the mean of how much both errors "
    "fall, as a part of plain's."
)

_LONG: dict[str, Any] = {"window_size": 48, "context": 24, "frame_strides": (1,)}

_CHANGES: list[dict[str, Any]] = [
    *ALSO.values(),
    {"scale": 0.15, **EVERY_STEP},
    {"scale": 0.3, "times": (0.05, 0.6)},
    {"scale": 0.3, "frequency": 1},
    {"score": "plain", "scale": 0.3, "times": (0.05, 0.6)},
    {"scale": 0.15, "frame_strides": (1,), **EVERY_STEP},
    {"scale": 0.15, **EVERY_STEP, **_LONG},
    {"scale": 0.3, **EVERY_STEP, **_LONG},
]


def grid() -> list[GuideSettings]:
    """The default, and what else is tried."""
    default = GuideSettings()
    return [default, *(replace(default, **change) for change in _CHANGES)]


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
        and change["physics"] >= -PHYSICS_ALLOWED
    )
    return record | {"passes": passes, "gain": (share("position") + share("motion")) / 2}


def tune(
    workshop: Workshop,
    plain: Part,
    candidates: int,
    settings: list[GuideSettings],
    maker: Callable[[GuideSettings, int], GuideMaker],
) -> Iterator[Mapping[str, Mapping[str, Any]]]:
    """Try settings on so many candidates each; after each, all results so far in the order of `CRITERION`."""
    results: dict[str, dict[str, Any]] = {}
    for one, variant in zip(settings, tuned_variants(settings, candidates, maker), strict=True):
        guided = workshop.make(variant)[variant.name]
        results[variant.name] = judged(part_row(guided, plain)) | {
            "settings": asdict(one),
            "effect": guided.effect,
        }
        yield dict(sorted(results.items(), key=lambda item: _order(item[1])))


def tuned_variants(
    settings: list[GuideSettings],
    candidates: int,
    maker: Callable[[GuideSettings, int], GuideMaker],
) -> list[Variant]:
    """Candidates of each setting, named by it."""
    return [Variant(title(one), candidates, guide=partial(maker, one)) for one in settings]


def _order(result: Mapping[str, Any]) -> tuple[bool, float]:
    gain = result["gain"]
    return not result["passes"], math.inf if math.isnan(gain) else -gain
