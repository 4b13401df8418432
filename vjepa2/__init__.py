"""V-JEPA 2: the latent world model whose surprise is the physics score."""

from vjepa2.checkpoint import WeightsInfo, load_model
from vjepa2.config import MODELS, PredictorConfig, VJEPA2Config, get_config
from vjepa2.errors import WeightsError
from vjepa2.world_model import VJEPA2, Branches, FutureLatents

__all__ = [
    "MODELS",
    "VJEPA2",
    "Branches",
    "FutureLatents",
    "PredictorConfig",
    "VJEPA2Config",
    "WeightsError",
    "WeightsInfo",
    "get_config",
    "load_model",
]
