"""What flags of steering and search are for, so that those without effect are named."""

from __future__ import annotations

from collections.abc import Iterable

from magi1.config import MagiConfig
from magi1.text.chunk_texts import SpecialTokens
from wmreward.commands.flags import Flag, Values
from wmreward.commands.unused import Use, tell, without_effect
from wmreward.generation.flags import SCALES
from wmreward.generation.search.plan import SearchPlan
from wmreward.generation.steering import Steering
from wmreward.generation.steering_flags import GUIDANCE, PARTICLES, REWARDS
from wmreward.rewards.names import ALONE, weightless

_SWITCHES = frozenset({"guidance_scale", "guidance_scales"})
"""Flags that turn guidance on or off, so that they have an effect either way."""
_BRANCHES = frozenset({*SCALES, "negative_prompt"})
"""What is for guidance by several forward passes."""


def tell_unused(
    values: Values,
    steering: Steering,
    search: SearchPlan | None = None,
    config: MagiConfig | None = None,
) -> None:
    """Name what `unused` finds, once if several processes run."""
    tell(unused(values.given, steering, search, config))


def unused(
    given: frozenset[str],
    steering: Steering,
    search: SearchPlan | None = None,
    config: MagiConfig | None = None,
) -> list[str]:
    """A line for each thing that is not there, with the flags that were given for it.

    Args:
        given: Names of the flags that were given.
        steering: What steers and judges.
        search: Which candidates there are; None where a single video is made.
        config: MAGI-1's, where it is the generator.
    """
    together = search is not None and search.batch is None
    uses = (
        Use(
            (_names(GUIDANCE) - _SWITCHES) | {"pipeline_economy"},
            steering.guidance is not None,
            "nothing is guided (--guidance_scale 0.15 guides)",
        ),
        Use(
            frozenset({"guidance_scale"}),
            "guidance_scales" not in given,
            "--guidance_scales has a scale for every step",
        ),
        Use(
            _names(REWARDS),
            steering.rewards is not None,
            "no reward guides or judges here",
        ),
        Use(
            frozenset({"combine"}),
            steering.rewards is None or len(steering.rewards.weights) > 1,
            ALONE,
        ),
        Use(
            _names(PARTICLES),
            steering.particles is not None,
            "there are no particles (--search particles)",
        ),
        Use(
            frozenset({"special_tokens"}),
            any(vars(SpecialTokens.from_environment()).values()),
            "the environment asks for none of these tokens (PAD_HQ=1 does)",
        ),
        Use(
            _BRANCHES,
            config is None or config.runtime_config.cfg_number > 1,
            "a distilled or float8 model takes one pass, without guidance by text and previous chunks",
        ),
        Use(
            frozenset({"keep"}), search is not None, "there is nothing to choose from (--best_of 4)"
        ),
        Use(
            frozenset({"candidate_batch"}),
            search is not None and len(search.seeds) > 1 and not together,
            "particles are made all at once"
            if together
            else "there is a single candidate (--best_of 4)",
        ),
    )
    weights = {} if steering.rewards is None else steering.rewards.weights
    return without_effect(given, uses) + weightless(weights)


def _names(flags: Iterable[Flag]) -> frozenset[str]:
    return frozenset(flag.name for flag in flags)
