"""V-JEPA 2 and 2.1: the latent world models whose surprise is the physics score."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vjepa2.build import build_model
    from vjepa2.config import (
        MODELS,
        ModelConfig,
        PredictorConfig,
        VJEPA2Config,
        VJEPA21Config,
        get_config,
    )
    from vjepa2.errors import WeightsError
    from vjepa2.files.checkpoint import WeightsInfo, load_model
    from vjepa2.reading import Branches, Reading
    from vjepa2.world_model import VJEPA2, FutureLatents, WorldModel
    from vjepa2.world_model21 import VJEPA21

_HOME = {
    "MODELS": "config",
    "VJEPA2": "world_model",
    "VJEPA21": "world_model21",
    "Branches": "reading",
    "FutureLatents": "world_model",
    "ModelConfig": "config",
    "PredictorConfig": "config",
    "Reading": "reading",
    "VJEPA2Config": "config",
    "VJEPA21Config": "config",
    "WeightsError": "errors",
    "WeightsInfo": "files.checkpoint",
    "WorldModel": "world_model",
    "build_model": "build",
    "get_config": "config",
    "load_model": "files.checkpoint",
}

__all__ = [
    "MODELS",
    "VJEPA2",
    "VJEPA21",
    "Branches",
    "FutureLatents",
    "ModelConfig",
    "PredictorConfig",
    "Reading",
    "VJEPA2Config",
    "VJEPA21Config",
    "WeightsError",
    "WeightsInfo",
    "WorldModel",
    "build_model",
    "get_config",
    "load_model",
]


def __getattr__(name: str) -> Any:
    """The public names, imported when asked for: sizes and names of models are known without PyTorch."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
