"""V-JEPA 2 and 2.1: the latent world models whose surprise is the physics score."""

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
from vjepa2.world_model import VJEPA2, Branches, FutureLatents, WorldModel
from vjepa2.world_model21 import VJEPA21, Reading

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
