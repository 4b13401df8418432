"""World models: ours by name, and users' own.

choice.py      which model, and how it runs
loading.py     from a choice to the model: loaded once and kept
own.py         models that users bring along
fault.py       why a model makes no numbers of a video
simulated.py   what the embedded models can judge
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from wmreward.surprise.models.choice import ModelChoice, embedded_besides, reading_values

if TYPE_CHECKING:
    from wmreward.surprise.models.loading import LoadedModel, load, taken

__all__ = [
    "LoadedModel",
    "ModelChoice",
    "embedded_besides",
    "load",
    "reading_values",
    "taken",
]


def __getattr__(name: str) -> Any:
    """What loads, imported when it is asked for: a choice is checked before PyTorch is there."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.loading"), name)
