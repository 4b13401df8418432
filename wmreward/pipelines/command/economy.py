"""``--pipeline_economy``: what guidance gives up for memory and time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from wmreward.errors import UsageError

_EXACT = ("apart", "on_host")
_APPROXIMATE = ("pieces", "scored", "shrink")


def economy_of(words: Sequence[str]) -> dict[str, Any]:
    """Fields of `wmreward.pipelines.Economy` from words such as ``on_host`` and ``shrink=2``.

    Raises:
        UsageError: a word that is none.
    """
    fields: dict[str, Any] = {}
    for word in words:
        name, _, value = word.partition("=")
        if word in _EXACT:
            fields[name] = True
        elif name in _APPROXIMATE and value.isdecimal() and int(value) > 0:
            fields[name] = int(value)
        else:
            known = (*_EXACT, *(f"{name}=N" for name in _APPROXIMATE))
            raise UsageError(
                f"--pipeline_economy {word} must be one of {', '.join(known)}, with a whole number N from 1"
            )
    return fields


def changing(economy: Mapping[str, Any]) -> dict[str, Any]:
    """What of it changes a guided video."""
    return {name: value for name, value in economy.items() if name in _APPROXIMATE}
