"""Which model a set of tensors is, whatever its file is called."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from vjepa2.config import MODELS, ModelConfig, VJEPA2Config, VJEPA21Config
from vjepa2.errors import WeightsError
from vjepa2.files.key_maps import is_vjepa21


class OtherModelError(WeightsError):
    """The file is whole, and of another model than was asked for."""


_BLOCK = re.compile(r"^blocks\.(\d+)\.")


def refuse_others(encoder: Mapping[str, Tensor], config: ModelConfig, where: str | Path) -> None:
    """Refuse an encoder of the other generation, or of another V-JEPA 2.1 model that is known.

    Decided from the tensors: the official files of ``vitg21`` and ``vitG21`` have names that some file
    systems cannot tell apart. All else is left to the strict fit, which says what differs.

    Args:
        encoder: Tensors by our names, without the prefix ``encoder.``.
        config: The model that was asked for.
        where: The file, for the message.

    Raises:
        OtherModelError: names what the file holds.
    """
    kind = _generation(encoder)
    if kind is None:
        return
    known = _models_of(kind, encoder)
    if not isinstance(config, kind):
        named = f" ({' or '.join(known)})" if known else ""
        raise OtherModelError(
            f"{where} holds {kind.generation} weights{named}, but model {config.name!r} is "
            f"{config.generation}; models of {kind.generation}: {', '.join(_names(kind))}"
        )
    if kind is VJEPA21Config and known and config.name not in known:
        case = (
            " (their official files have names that differ only in case: keep them in different folders)"
            if config.name.lower() in map(str.lower, known)
            else ""
        )
        raise OtherModelError(
            f"{where} holds the weights of {' or '.join(known)}, not of {config.name}{case}"
        )


def _generation(encoder: Mapping[str, Tensor]) -> type[ModelConfig] | None:
    names = set(encoder)
    if is_vjepa21(names):
        return VJEPA21Config
    return VJEPA2Config if {"patch_embed.proj.weight", "norm.weight"} <= names else None


def _names(kind: type[ModelConfig]) -> list[str]:
    return [name for name, config in MODELS.items() if isinstance(config, kind)]


def _models_of(kind: type[ModelConfig], encoder: Mapping[str, Tensor]) -> list[str]:
    """The models of a generation whose encoder has this width and depth."""
    found = encoder.get("patch_embed.proj.weight")
    blocks = {int(match[1]) for name in encoder if (match := _BLOCK.match(name))}
    if found is None or not found.ndim:
        return []
    return [
        name
        for name in _names(kind)
        if (MODELS[name].width, MODELS[name].depth) == (found.shape[0], len(blocks))
    ]
