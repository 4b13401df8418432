"""The families that come along, and which one a pipeline is of."""

from __future__ import annotations

from typing import Any

from wmreward.errors import UsageError
from wmreward.pipelines.families.base import Family
from wmreward.pipelines.families.cogvideox import CogVideoX, CogVideoXImage
from wmreward.pipelines.families.ltx import LTX, LTXImage
from wmreward.pipelines.families.others import Cosmos2, Hunyuan, Mochi
from wmreward.pipelines.families.wan import Wan, WanImage

FAMILIES: tuple[type[Family], ...] = (
    *(Wan, WanImage, CogVideoX, CogVideoXImage, LTX, LTXImage),
    *(Hunyuan, Mochi, Cosmos2),
)
"""All that come along."""


def family_of(pipe: Any) -> type[Family]:
    """The family of a pipeline; see :func:`family_named`."""
    return family_named(type(pipe).__name__)


def family_named(name: str) -> type[Family]:
    """The family of a class of pipelines.

    Raises:
        UsageError: none of these.
    """
    for family in FAMILIES:
        if name in family.pipelines:
            return family
    known = ", ".join(sorted(name for family in FAMILIES for name in family.pipelines))
    raise UsageError(
        f"{name} is not a pipeline that can be guided: {known}; for another one, give guide_pipeline "
        "family=, a class that describes it"
    )
