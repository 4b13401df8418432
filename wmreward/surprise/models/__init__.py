"""World models: ours by name, and users' own.

choice.py   which model, and how it runs; loaded once and kept
own.py      models that users bring along
fault.py    why a model makes no numbers of a video
"""

from wmreward.surprise.models.choice import (
    DTYPES,
    LoadedModel,
    ModelChoice,
    embedded_besides,
    load,
    reading_values,
    taken,
)

__all__ = [
    "DTYPES",
    "LoadedModel",
    "ModelChoice",
    "embedded_besides",
    "load",
    "reading_values",
    "taken",
]
