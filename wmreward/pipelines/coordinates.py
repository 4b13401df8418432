"""Where a scheduler's sample is between noise and data, and what its model output says of both.

Every scheduler here has x = α x₀ + σ ε. With t = α / (α + σ) and x̃ = x / (α + σ) that is the straight line
x̃ = t x₀ + (1 − t) ε of `wmreward.protocols.DenoiseStep`, whose velocity is v = x₀ − ε.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from wmreward.errors import UsageError


@dataclass(frozen=True)
class Level:
    """x = ``alpha`` · x₀ + ``sigma`` · ε."""

    alpha: float
    sigma: float

    @property
    def size(self) -> float:
        """x = size · x̃."""
        return self.alpha + self.sigma

    @property
    def time(self) -> float:
        """t: 0 noise, 1 data."""
        return self.alpha / self.size


@dataclass(frozen=True)
class Prediction:
    """What a model output stands for.

    Attributes:
        clean: x₀ from the level, x and the output.
        output: The output from the level, x₀ and ε.
    """

    clean: Callable[[Level, Tensor, Tensor], Tensor]
    output: Callable[[Level, Tensor, Tensor], Tensor]


FLOW = Prediction(
    clean=lambda level, x, output: x - level.sigma * output,
    output=lambda level, clean, noise: noise - clean,
)
"""ε − x₀, where α = 1 − σ."""

INVERTED_FLOW = Prediction(
    clean=lambda level, x, output: x + level.sigma * output,
    output=lambda level, clean, noise: clean - noise,
)
"""x₀ − ε."""

NOISE = Prediction(
    clean=lambda level, x, output: (x - level.sigma * output) / level.alpha,
    output=lambda level, clean, noise: noise,
)
"""ε."""

V = Prediction(
    clean=lambda level, x, output: level.alpha * x - level.sigma * output,
    output=lambda level, clean, noise: level.alpha * noise - level.sigma * clean,
)
"""α ε − σ x₀, where α² + σ² = 1."""


@dataclass(frozen=True)
class Position:
    """One step of a scheduler.

    Attributes:
        index: Which step, from 0.
        level, following: Before and after it.
        prediction: What the model output is.
    """

    index: int
    level: Level
    following: Level
    prediction: Prediction

    @property
    def moves(self) -> bool:
        """Whether anything that a step does to the velocity can show."""
        return self.level.sigma > 0 and self.level != self.following


def flow_position(scheduler: Any, timestep: Any) -> Position:
    """Of schedulers whose ``sigmas`` are those of a flow: Euler, UniPC, DPM++.

    Sigmas, never ``timestep / 1000``: UniPC and DPM++ round their timesteps.
    """
    index = step_index(scheduler, timestep)
    now, following = (float(sigma) for sigma in scheduler.sigmas[index : index + 2])
    if scheduler.config.get("invert_sigmas"):
        return Position(index, Level(now, 1 - now), Level(following, 1 - following), INVERTED_FLOW)
    return Position(index, Level(1 - now, now), Level(1 - following, following), FLOW)


def edm_position(scheduler: Any, timestep: Any) -> Position:
    """Of sigmas without an end, x = x₀ + σ ε, and a model output that is ε."""
    index = step_index(scheduler, timestep)
    now, following = (float(sigma) for sigma in scheduler.sigmas[index : index + 2])
    return Position(index, Level(1.0, now), Level(1.0, following), NOISE)


def diffusion_position(scheduler: Any, timestep: Any) -> Position:
    """Of CogVideoX's schedulers: α = √ᾱ, v-prediction."""
    numbers = scheduler.timesteps.tolist()
    index = numbers.index(int(timestep))
    before = int(timestep) - scheduler.config.num_train_timesteps // len(numbers)
    products = scheduler.alphas_cumprod
    last = float(scheduler.final_alpha_cumprod)
    now, following = (
        float(products[int(timestep)]),
        float(products[before]) if before >= 0 else last,
    )
    levels = [Level(product**0.5, (1 - product) ** 0.5) for product in (now, following)]
    return Position(index, levels[0], levels[1], V)


def step_index(scheduler: Any, timestep: Any) -> int:
    """Which step comes next; before the first one, schedulers do not know ``step_index``."""
    for name in ("step_index", "begin_index"):
        if (found := getattr(scheduler, name, None)) is not None:
            return int(found)
    return int(scheduler.index_for_timestep(timestep))


Places = Callable[[Any, Any], Position]
"""From a scheduler and a timestep to where that is."""

_FLOWS = (
    "FlowMatchEulerDiscreteScheduler",
    "UniPCMultistepScheduler",
    "DPMSolverMultistepScheduler",
)
_DIFFUSIONS = ("CogVideoXDDIMScheduler", "CogVideoXDPMScheduler")


def places_of(scheduler: Any) -> Places:
    """How to read a scheduler.

    Raises:
        UsageError: it is not known how.
    """
    name, config = type(scheduler).__name__, scheduler.config
    kind = config.get("prediction_type")
    solves_flow = config.get("use_flow_sigmas") and kind == "flow_prediction"
    if name in _FLOWS[:1] or (name in _FLOWS and solves_flow):
        return flow_position
    if name in _DIFFUSIONS and kind == "v_prediction":
        return diffusion_position
    raise UsageError(
        f"{name}{f' with prediction_type={kind}' if kind else ''} cannot be guided; use one of "
        f"{', '.join(_FLOWS)} (the last two with use_flow_sigmas=True and flow_prediction), "
        f"{', '.join(_DIFFUSIONS)} (with v_prediction)"
    )
