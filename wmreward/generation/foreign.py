"""What the embedded world models cannot judge: videos of any generator but the small one."""

from __future__ import annotations

from wmreward.generation.steering import SMALL_GENERATOR
from wmreward.rewards.choice import RewardChoice


def foreign(generator: str, *choices: RewardChoice | None) -> list[str]:
    """One line if embedded world models are to judge videos whose like they never saw.

    Args:
        generator: What it is called.
        choices: All that guide, choose or judge; those that are not there are None.
    """
    judges = [model for choice in choices if choice for model in choice.world_models]
    names = dict.fromkeys(model.name for model in judges if model.is_embedded)
    if generator == SMALL_GENERATOR or not names:
        return []
    know, their = ("knows", "its") if len(names) == 1 else ("know", "their")
    return [
        f"{' and '.join(names)} {know} simulated balls and boxes only: {their} verdict means nothing on what "
        f"{generator} makes (vitg is the default there)"
    ]
