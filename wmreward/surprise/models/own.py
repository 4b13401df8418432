"""World models that users bring along: checked, moved where they are to run, described for records."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

import torch
from torch import nn

from wmreward.errors import UsageError, named
from wmreward.factories import make, origin
from wmreward.protocols import WorldModel
from wmweights import fingerprint

_CONFIG = ("name", "crop", "grid", "tubelet")
_METHODS = ("preprocess", "future_latents")


@dataclass(frozen=True)
class OwnInfo:
    """What there is to say of a user's world model; the counterpart of :class:`vjepa2.WeightsInfo`.

    Attributes:
        model: Its name.
        source: Its module and class.
        source_sha256: Of the file of that module, where there is one.
        sha256: Of its weights, if it is a module of PyTorch.
    """

    model: str
    source: str
    source_sha256: str | None
    sha256: str | None

    def __str__(self) -> str:
        return "\n".join(
            (
                f"model            {self.model}",
                f"source           {self.source}",
                f"source sha256    {self.source_sha256 or 'unknown: there is no file'}",
                f"sha256           {self.sha256 or 'unknown: it is no torch.nn.Module'}",
            )
        )

    def remarks(self) -> list[str]:
        """Nothing that should be known besides."""
        return []

    def settings(self) -> dict[str, Any]:
        """What decides a score, for records."""
        known = {
            "model": self.model,
            "weights_sha256": self.sha256,
            "module": self.source,
            "module_sha256": self.source_sha256,
        }
        return {key: value for key, value in known.items() if value is not None}


def described(model: WorldModel, name: str | None = None) -> OwnInfo:
    """What there is to say of a model, under its own name or that which it was asked for by."""
    found = origin(model)
    weights = None
    if isinstance(model, nn.Module):
        tensors = {
            key: value for key, value in model.state_dict().items() if torch.is_tensor(value)
        }
        weights = fingerprint({key: value.cpu() for key, value in tensors.items()})
    return OwnInfo(
        name or str(model.config.name), found["module"], found.get("module_sha256"), weights
    )


@lru_cache(maxsize=2)
def made(path: str) -> WorldModel:
    """The model of ``package.module:factory``, made once and kept (the last two are).

    Raises:
        UsageError: it cannot be made, or is no world model.
    """
    return as_world_model(make(path, "world model"), path)


def on(model: WorldModel, device: torch.device) -> WorldModel:
    """The model on ``device``.

    Raises:
        UsageError: it is elsewhere and cannot be moved.
    """
    if _same(model.device, device):
        return model
    if hasattr(model, "to"):
        model = cast(Any, model).to(device)
    if not _same(model.device, device):
        raise UsageError(
            f"world model {model.config.name!r} stays on {model.device} instead of {device}: let its to() "
            f"move it and its device, or pass {named('device', str(model.device))}"
        )
    return model


def as_world_model(thing: Any, name: str | None = None) -> WorldModel:
    """``thing``, if it has what :class:`wmreward.protocols.WorldModel` asks for.

    Raises:
        UsageError: it lacks something.
    """
    what = f"world model {name!r}" if name else "the world model"
    if isinstance(thing, type):
        raise UsageError(
            f"{what} is a class: pass an object that it makes, such as {thing.__name__}()"
        )
    lacks = [
        *(method for method in _METHODS if not callable(getattr(thing, method, None))),
        *(field for field in ("device", "config") if not hasattr(thing, field)),
    ]
    if "config" not in lacks:
        lacks += [f"config.{field}" for field in _CONFIG if not hasattr(thing.config, field)]
    if lacks:
        raise UsageError(
            f"{what} is of type {type(thing).__name__}, which lacks {', '.join(lacks)}: see "
            "wmreward.protocols.WorldModel"
        )
    return cast(WorldModel, thing)


def _same(one: torch.device, other: torch.device) -> bool:
    return (one.type, one.index or 0) == (other.type, other.index or 0)
