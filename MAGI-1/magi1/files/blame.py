"""What is at fault when a network makes infinity or NaN of finite numbers: found by looking."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from magi1.errors import MagiError
from magi1.files.checkpoint import LoadedWeights
from wmweights import first_not_finite


def check_finite(
    result: Tensor, what: str, part: str, model: nn.Module, weights: Iterable[LoadedWeights] = ()
) -> None:
    """Refuse a result that is not finite.

    Args:
        result: Of any shape.
        what: The result, in words, in the plural.
        part: The network that made it, as in ``weights``.
        model: The network.
        weights: What was loaded.

    Raises:
        MagiError: see :func:`blamed`.
    """
    if not torch.isfinite(result).all():
        raise blamed(f"{what} are infinite or not numbers", part, model, weights)


def blamed(what: str, part: str, model: nn.Module, weights: Iterable[LoadedWeights]) -> MagiError:
    """The error that says why, as far as can be seen: damaged weights, or numbers that grew too large."""
    if (name := first_not_finite(model)) is not None:
        folder = next((f" in {loaded.folder}" for loaded in weights if loaded.part == part), "")
        return MagiError(
            f"{part}: the weights{folder} are damaged: {name} holds infinity or no numbers at all; "
            "download them again"
        )
    dtype = next(model.parameters()).dtype
    wider = "" if dtype == torch.float32 else f"{dtype} may be too narrow: try --dtype float32, or "
    return MagiError(f"{what}, though the {part}'s weights are in order; {wider}milder settings")
