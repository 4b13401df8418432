"""A configuration → the network it describes, without weights."""

from __future__ import annotations

from vjepa2.config import ModelConfig, VJEPA2Config, VJEPA21Config
from vjepa2.reading import Branches, Reading
from vjepa2.world_model import VJEPA2, WorldModel
from vjepa2.world_model21 import VJEPA21


def build_model(
    config: ModelConfig,
    *,
    branches: Branches | None = None,
    mask_token: int | None = None,
    reading: Reading | None = None,
) -> WorldModel:
    """The world model of either generation; see :func:`vjepa2.load_model` for the arguments.

    Raises:
        ValueError: a reading that the model does not have.
    """
    branches = branches or Branches(config.default_branch, config.default_branch)
    mask_token = config.default_mask_token if mask_token is None else mask_token
    if isinstance(config, VJEPA21Config):
        return VJEPA21(config, branches=branches, mask_token=mask_token, reading=reading)
    if reading is not None:
        raise ValueError(
            f"model {config.name!r} is {config.generation}: positions, levels and observed are choices "
            "of V-JEPA 2.1"
        )
    assert isinstance(config, VJEPA2Config)
    return VJEPA2(config, branches=branches, mask_token=mask_token)
