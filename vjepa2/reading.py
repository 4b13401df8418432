"""How a model is used: which stored encoders, and what of a V-JEPA 2.1. Nothing heavy is imported here."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

from vjepa2.config import VJEPA21Config
from vjepa2.refusal import SettingError

Positions = Literal["rescaled", "hub", "raw"]
Levels = Literal["last", "all"]
Observed = Literal["own", "teacher", "student"]


@dataclass(frozen=True)
class Branches:
    """Which stored encoder serves which side: ``online`` was trained to feed the predictor,
    ``ema`` to be the target.
    """

    context: str = "online"
    target: str = "online"

    def __post_init__(self) -> None:
        for side in (self.context, self.target):
            if side not in ("online", "ema"):
                raise ValueError(f"encoder must be 'online' or 'ema', not {side!r}")


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How a V-JEPA 2.1 model is read. Scores of different readings are different quantities.

    Attributes:
        positions: How rows and columns count where upstream contradicts itself: ``rescaled`` as in its
            training code, ``hub`` as its hub does (not in the predictor), ``raw`` as its evaluation
            does. All the same at 256 pixels.
        levels: Compare the ``last`` level, or ``all`` that were trained; a distilled model has the last only.
        observed: What a prediction is compared with. A model that predicts its ``own`` encoder's latents
            has no choice. A distilled one predicts its ``teacher``'s; or compare with its own view of
            them, the ``student``'s: another quantity, ours and unverified. ``None``: own or teacher.
    """

    positions: Positions = "rescaled"
    levels: Levels = "last"
    observed: Observed | None = None

    def __post_init__(self) -> None:
        for name, kind in (("positions", Positions), ("levels", Levels), ("observed", Observed)):
            value = getattr(self, name)
            if value not in get_args(kind) and not (name == "observed" and value is None):
                raise SettingError(name, value, f" must be one of {', '.join(get_args(kind))}")

    def of(self, config: VJEPA21Config) -> Reading:
        """The same with ``observed`` settled for a model; raises ``ValueError`` if it cannot be read so."""
        if config.teacher is None:
            if self.observed not in (None, "own"):
                raise SettingError(
                    "observed",
                    self.observed,
                    f": model {config.name!r} predicts its own latents; only distilled models have a teacher",
                )
            return replace(self, observed="own")
        if self.observed == "own":
            raise SettingError(
                "observed",
                "own",
                f": model {config.name!r} predicts the latents of {config.teacher.name}; choose teacher or "
                "student",
            )
        if self.levels != "last":
            raise SettingError(
                "levels",
                self.levels,
                f": model {config.name!r} is distilled and predicts the last level only",
            )
        return replace(self, observed=self.observed or "teacher")
