"""World models by name, loaded once per process and kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from vjepa2 import WeightsInfo, load_model
from wmreward.protocols import WorldModel
from wmreward.surprise.models.choice import ModelChoice
from wmreward.surprise.models.own import OwnInfo, as_world_model, described, made, on


@dataclass(frozen=True)
class LoadedModel:
    """A world model.

    Attributes:
        model: The network.
        info: The record of its weights, or of a user's model.
        settings: All of it that decides a score, for records.
    """

    model: WorldModel
    info: WeightsInfo | OwnInfo
    settings: Mapping[str, Any] = field(default_factory=dict)


@lru_cache(maxsize=2)
def load(choice: ModelChoice, *, rehash: bool = False) -> LoadedModel:
    """The model, from memory if it was loaded before (the last two are kept).

    With ``rehash`` the hash of its weights is computed, not taken from where it is kept.

    Raises:
        WeightsError: weights that cannot be had; says how to get them.
        UsageError: a model of a user's that cannot be made.
    """
    if choice.is_own:
        return taken(on(made(choice.name), choice.torch_device()), choice.name)
    weights = None if choice.weights is None else Path(choice.weights)
    model, info = load_model(
        choice.name,
        weights=weights,
        branches=choice.branches,
        mask_token=choice.mask_token,
        crop=choice.crop,
        reading=choice.reading,
        teacher_weights=choice.teacher_weights,
        device=choice.torch_device(),
        dtype=choice.torch_dtype(),
        rehash=rehash,
    )
    if choice.compile:
        model.compile_blocks()
    settings = {
        "model": choice.name,
        "weights_sha256": info.sha256,
        "weights_source": info.source,
        "context_encoder": info.context_encoder,
        "target_encoder": info.target_encoder,
        "mask_token": info.mask_token,
        **choice.read_as(),
        **info.compared_with(),
        "dtype": str(choice.torch_dtype()).removeprefix("torch."),
        "device": choice.torch_device().type,
    }
    return LoadedModel(model, info, settings)


def taken(model: WorldModel, name: str | None = None) -> LoadedModel:
    """A model that somebody else has made, as it is; ``name`` is that which it was asked for by.

    Raises:
        UsageError: it is no world model.
    """
    info = described(as_world_model(model, name), name)
    dtype = getattr(model, "dtype", None)
    known = {} if dtype is None else {"dtype": str(dtype).removeprefix("torch.")}
    return LoadedModel(model, info, {**info.settings(), **known, "device": model.device.type})
