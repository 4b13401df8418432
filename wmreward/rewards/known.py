"""Rewards by name: ours, and those of users, which are imported."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from wmreward.errors import UsageError
from wmreward.factories import find_factory, make, takes_one
from wmreward.protocols import InformedReward, Reward, SetReward
from wmreward.rewards.compare import Compare
from wmreward.rewards.features import Trajectory
from wmreward.rewards.geometry import GeometryReward
from wmreward.rewards.names import ASKS, CONSENSUS, DESCRIBES, OWN
from wmreward.rewards.vlm import VLMReward
from wmreward.rewards.world import (
    Consensus,
    EncoderConsensus,
    SeamReward,
    SurpriseReward,
    nearness,
)
from wmreward.surprise.scorer import SurpriseScorer

AnyReward = Reward | SetReward | InformedReward


@dataclass(frozen=True)
class Judges:
    """What rewards of ours judge by, each as far as one of them is asked for.

    Attributes:
        surprise: The world model, with windows and rule.
        features: Another encoder than the world model's.
        asked: The rewards that ask, by name.
    """

    surprise: SurpriseScorer | None = None
    features: Trajectory | None = None
    asked: dict[str, VLMReward] | None = None

    def reward(self, name: str) -> AnyReward:
        """The reward of this name; raises ``UsageError`` if it cannot be made."""
        if name in ASKS:
            if self.asked is None:
                raise UsageError(
                    f"reward {name!r} asks a vision-language model: make a "
                    "wmreward.rewards.vlm.VLMReward, and mix it in by RewardMix"
                )
            return self.asked[name]
        if name in DESCRIBES and self.features is not None:
            made = GeometryReward if name == GeometryReward.name else EncoderConsensus
            return made(self.features)
        if name in OWN:
            if self.surprise is None:
                raise UsageError(
                    f"reward {name!r} needs a world model: pass surprise=SurpriseScorer(…)"
                )
            return _OF_SCORER[name](self.surprise)
        return imported(name)


def _geometry(scorer: SurpriseScorer) -> GeometryReward:
    from wmreward.rewards.encoders import of_world_model

    encoder = of_world_model(scorer.model, scorer.config.window_size)
    sizes = {"batch_size": scorer.batch_size, "grad_batch_size": scorer.grad_batch_size}
    return GeometryReward(Trajectory(encoder, **sizes))


_OF_SCORER: dict[str, Callable[[SurpriseScorer], AnyReward]] = {
    SurpriseReward.name: SurpriseReward,
    SeamReward.name: SeamReward,
    Consensus.name: Consensus,
    GeometryReward.name: _geometry,
}


def comparing(name: str) -> Compare:
    """How a reward of this name compares embeddings; nothing of ours is loaded.

    Raises:
        UsageError: it cannot be imported, or compares nothing.
    """
    if name == CONSENSUS:
        return nearness
    compare = None if name in OWN else getattr(imported(name), "compare", None)
    if compare is None:
        raise UsageError(f"reward {name!r} judges videos one by one: it compares nothing")
    found: Compare = compare
    return found


def imported(path: str) -> AnyReward:
    """A user's reward: a function of videos, or made by a factory, which takes no arguments.

    Raises:
        UsageError: it cannot be imported or made, or returns something else.
    """
    found = find_factory(path, "reward")
    return as_reward(found if takes_one(found) else make(path, "reward"), path)


def as_reward(made: Any, name: str) -> AnyReward:
    """``made``, if it can judge videos or compare them; raises ``UsageError`` if it can do neither."""
    judges = callable(made) or isinstance(made, InformedReward)
    if not judges and not (hasattr(made, "embed") and hasattr(made, "compare")):
        raise UsageError(
            f"reward {name!r} is a {type(made).__name__}, which can neither judge videos nor compare them"
        )
    reward: AnyReward = made
    return reward
