"""The world models that the page offers: those that come along, and those whose weights are here."""

from __future__ import annotations

from vjepa2.config import MODELS, VJEPA21Config
from vjepa2.files.sources import find_weights, is_here
from wmreward.errors import UsageError
from wmreward.surprise.models import ModelChoice

SMALL = "tiny"


def offered(first: str = SMALL) -> list[str]:
    """Names, ``first`` first.

    Raises:
        UsageError: ``first`` is no model, or one that cannot judge a video alone.
        WeightsError: its weights can neither be found nor be fetched.
    """
    config = ModelChoice(name=first).config
    if config.action_conditioned:
        raise UsageError(
            f"model {first} needs what a robot did: it cannot judge the clips of this page"
        )
    find_weights(first)
    found = [name for name in MODELS if _can_judge(name)]
    return [first, *(name for name in found if name != first)]


def _can_judge(name: str) -> bool:
    """Whether nothing of it is missing."""
    config = MODELS[name]
    if config.action_conditioned or not is_here(name):
        return False
    teacher = config.teacher if isinstance(config, VJEPA21Config) else None
    return teacher is None or is_here(teacher.name)
