"""World models by name.

choice.py   which model, and how it runs; loaded once and kept
seen.py     what a model sees of a frame
fault.py    why a model makes no numbers of a video
"""

from wmreward.surprise.models.choice import (
    DTYPES,
    LoadedModel,
    ModelChoice,
    load,
    reading_values,
)

__all__ = ["DTYPES", "LoadedModel", "ModelChoice", "load", "reading_values"]
