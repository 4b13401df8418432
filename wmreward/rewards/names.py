"""Rewards as they are asked for: names, weights, and what goes together. Nothing heavy is imported here."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vjepa2.config import MODELS
from wmreward.errors import UsageError
from wmreward.factories import find_factory, is_import_path
from wmreward.surprise.config import SurpriseConfig
from wmreward.surprise.models.choice import ModelChoice, reading_values

SURPRISE, SEAM, GEOMETRY, CONSENSUS = "surprise", "seam", "geometry", "consensus"

PREDICTS = (SURPRISE, SEAM)
"""Rewards that need a world model's prediction."""
DESCRIBES = (GEOMETRY, CONSENSUS)
"""Rewards that go by what an encoder sees: the world model's, unless another is chosen."""
ASKS = ("vlm", "adherence")
"""Rewards that ask a vision-language model."""
CURVED = (*PREDICTS, GEOMETRY)
"""Rewards of ours that say when a video is implausible."""
LEAST_FEATURES = 4
"""Of a trajectory that geometry goes by: three steps, with two angles between them."""
OWN = (*PREDICTS, *DESCRIBES, *ASKS)
"""All rewards of ours."""
FINISHED_ONLY = frozenset({CONSENSUS, *ASKS})
"""Those that judge finished videos only: they neither guide nor weigh particles."""


ALONE = "there is a single reward (--reward names several)"
"""Why --combine has no effect."""


def parse_weights(entries: Sequence[str]) -> dict[str, float]:
    """Names and weights of ``NAME[=WEIGHT]``; what is to be imported is looked up, but not made.

    Raises:
        UsageError: an unknown name, one that cannot be imported or is given twice, a weight that is none, or
            none but 0.
    """
    weights: dict[str, float] = {}
    for entry in entries:
        name, equals, number = entry.partition("=")
        if name in weights:
            raise UsageError(f"reward {name!r} is given twice")
        if name not in OWN:
            if not is_import_path(name):
                raise UsageError(
                    f"unknown reward {name!r}: use {', '.join(OWN)} or package.module:factory"
                )
            find_factory(name, "reward")
        weights[name] = _weight(entry, number) if equals else 1.0
    if weights and not any(weights.values()):
        raise UsageError(
            f"reward {entries[0]!r}: with no weight but 0 nothing is better than anything else"
        )
    return weights


def weightless(weights: Mapping[str, float]) -> list[str]:
    """A line for each reward that only costs time: it is recorded and shown, but counts for nothing."""
    return [
        f"--reward {name}=0 is without effect on the outcome: the reward is computed and shown only"
        for name, weight in weights.items()
        if weight == 0
    ]


def _weight(entry: str, number: str) -> float:
    try:
        weight = float(number)
    except ValueError:
        weight = math.nan
    # Python also reads 1_000, and digits of other scripts.
    if not math.isfinite(weight) or not number.isascii() or "_" in number:
        raise UsageError(f"reward {entry!r}: {number!r} is not a weight")
    return weight


@dataclass(frozen=True)
class AskedRewards:
    """What flags ask for, checked.

    Attributes:
        weights: Of each reward, by name or import path.
        model: The world model.
        config: How its windows are cut, compared and pooled.
        encoder: Whose features geometry and consensus go by; None: the world model's.
    """

    weights: Mapping[str, float]
    model: ModelChoice
    config: SurpriseConfig
    encoder: str | None

    @classmethod
    def of(
        cls, values: Mapping[str, Any], *, default_model: str, context_grad: bool = False
    ) -> AskedRewards:
        """From the flags of rewards and ``device``.

        Raises:
            UsageError: names, numbers or rules that cannot be, or do not go together.
        """
        config = SurpriseConfig(
            mode=values["aggregate"],
            context_grad=context_grad,
            **{name: values[name] for name in _WINDOWS},
        )
        weights = parse_weights(values["reward"] or [SURPRISE])
        model = ModelChoice(
            name=values["model"] or default_model,
            weights=values["weights"],
            device=values["device"],
            **reading_values(values),
        )
        encoder, vlm = values["encoder"] is not None, values["vlm"] is not None
        if not vlm and (values["question"] is not None or values["vlm_fps"] is not None):
            raise UsageError(
                "--question and --vlm_fps are of a model that is asked: name it with --vlm"
            )
        check_kinds(weights, encoder=encoder, vlm=vlm)
        if needs_model(weights, encoder=encoder):
            check_model(weights, model, config, encoder=encoder)
        return cls(weights, model, config, values["encoder"])

    @property
    def world_models(self) -> list[ModelChoice]:
        """The V-JEPAs that judge."""
        needed = needs_model(self.weights, encoder=self.encoder is not None)
        model = [self.model] if needed else []
        if self.encoder is None or self.encoder not in MODELS:
            return model
        return [*model, ModelChoice(name=self.encoder)]

    @property
    def min_frames(self) -> int:
        """Frames of the shortest video that can be judged, as far as is known before anything is loaded."""
        frames, names = 1, self.weights.keys()
        if needs_model(names, encoder=self.encoder is not None):
            others = names & {*PREDICTS, *DESCRIBES} - {SEAM}
            frames = self.config.min_frames if others else self.config.shortest
        if GEOMETRY not in names:
            return frames
        if self.encoder is not None and self.encoder not in MODELS:  # it sees single frames
            return max(frames, LEAST_FEATURES)
        seen = self.model.config if self.encoder is None else MODELS[self.encoder]
        return max(frames, self.config.window_size + (LEAST_FEATURES - 1) * seen.tubelet)


_WINDOWS = ("window_size", "context_frames", "stride", "similarity", "score", "frame_strides")


def needs_model(names: Collection[str], *, encoder: bool) -> bool:
    """Whether any of the rewards is the world model's; ``encoder``: whether another encoder is chosen."""
    needing = PREDICTS if encoder else (*PREDICTS, *DESCRIBES)
    return any(name in needing for name in names)


def check_kinds(names: Collection[str], *, encoder: bool, vlm: bool) -> None:
    """Raise ``UsageError`` unless an encoder and a model that is asked are given where rewards need them.

    Args:
        names: Of the rewards.
        encoder, vlm: Whether one is given.
    """
    describes, asks = (any(name in kind for name in names) for kind in (DESCRIBES, ASKS))
    if encoder and not describes:
        raise UsageError(f"--encoder is of the rewards {' and '.join(DESCRIBES)}: name one")
    if asks and not vlm:
        raise UsageError(
            f"--reward {' and '.join(ASKS)} ask a vision-language model: name it with --vlm, such as "
            "Qwen/Qwen2.5-VL-7B-Instruct"
        )
    if vlm and not asks:
        raise UsageError(f"--vlm is of the rewards {' and '.join(ASKS)}: name one")


def check_model(
    names: Collection[str], model: ModelChoice, config: SurpriseConfig, *, encoder: bool
) -> None:
    """Raise ``UsageError`` if a world model cannot be what these rewards judge by."""
    model.check(config)
    if model.acts:
        raise UsageError(f"model {model.name} needs actions: it cannot judge videos")
    if model.is_own and not encoder and GEOMETRY in names:
        raise UsageError(
            f"--reward {GEOMETRY} goes by an encoder, which a model of your own need not have: name one with "
            "--encoder"
        )
