"""Plain, guided and chosen side by side, and one sentence: which of them is more plausible, and who says so.

A judge that guided or chose proves little by what it says: it was asked for just that, and another rule or
rate of the same model is no other judge. ``--judge`` names a world model that had no part in it; where an
embedded one guides or chooses, the other embedded one is asked unbidden.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wmreward.generation.inputs import opens_output
from wmreward.generation.steering import LoadedRewards
from wmreward.pictures.side_by_side import Side, write_side_by_side
from wmreward.rewards.choice import RewardChoice
from wmreward.rewards.shown import in_words
from wmreward.rewards.world import SurpriseReward
from wmreward.search.best_of_n import ALL_FRAMES, Choice, FileJudge
from wmreward.search.candidates import Candidate
from wmreward.surprise.config import SurpriseConfig
from wmreward.surprise.models import ModelChoice, embedded_besides

PLAIN = "plain"

_SHOWN_BEFORE = 16
"""Given frames that a comparison begins with."""


def other_judge(values: Mapping[str, Any], rewards: RewardChoice | None) -> RewardChoice | None:
    """Who says which of the compared videos is more plausible, by the paper's rule; None: who guided.

    Where nobody is named, windows are no longer than those that guide, so that no video is too short.
    """
    if not values["compare"] or rewards is None:
        return None
    named = values["judge"]
    name = named or embedded_besides(rewards.world_models)
    if name is None:
        return None
    config = SurpriseConfig() if named else _no_longer_than(rewards.config)
    model = ModelChoice(name=name, device=values["device"])
    judge = RewardChoice(weights={SurpriseReward.name: 1.0}, how="sum", model=model, config=config)
    judge.check()
    return judge


def _no_longer_than(guiding: SurpriseConfig) -> SurpriseConfig:
    paper = SurpriseConfig()
    return replace(
        paper,
        window_size=min(paper.window_size, guiding.window_size),
        context_frames=min(paper.context_frames, guiding.context_frames),
    )


@dataclass(frozen=True)
class Compared:
    """What stands side by side.

    Attributes:
        shown: From left to right, by what they are called.
        winner: Its name, if there was a choice.
    """

    shown: Mapping[str, Candidate]
    winner: str | None

    @classmethod
    def of(cls, choice: Choice, plain: Choice | None, steered: str) -> Compared:
        """Those that are the same once.

        Args:
            choice: The candidates, of which the first is shown, and the best.
            plain: That of the plain candidate of the first seed, if the others are steered.
            steered: What a steered one is called.
        """
        first = choice.candidates[0]
        shown = {} if plain is None else {PLAIN: plain.winner}
        shown[PLAIN if plain is None else steered] = first
        if choice.winner.name != first.name:
            shown["winner"] = choice.winner
        return cls(shown, choice.winner.name if len(choice.candidates) > 1 else None)

    @property
    def scores(self) -> dict[str, dict[str, float]]:
        """What chose said of each."""
        return {name: candidate.record["scores"] for name, candidate in self.shown.items()}

    def lines(self) -> list[str]:
        """Of each, what chose said."""
        return [
            f"{name} (seed {self.shown[name].record['seed']}): {in_words(own)}"
            for name, own in self.scores.items()
        ]

    def write(self, path: Path, folder: Path, given: Tensor | None) -> None:
        """The video.

        Args:
            path: Where it goes.
            folder: Where the candidates are.
            given: Frames that they continue, uint8 ``[T, H, W, 3]``; a few are in each of them already.
        """
        before = [] if given is None or opens_output(given) else [given[-_SHOWN_BEFORE:].numpy()]
        sides = []
        for name, candidate in self.shown.items():
            made = next(ALL_FRAMES.clips(folder / candidate.name)).frames
            note = f"seed {candidate.record['seed']}   {in_words(self.scores[name], 4, '   ')}"
            wins = candidate.name == self.winner
            sides.append(Side(name, np.concatenate([*before, made]), note, wins=wins))
        fps = next(iter(self.shown.values())).record["fps"]
        write_side_by_side(path, sides, fps, given=sum(map(len, before)))

    def judged(
        self, judge: RewardChoice, folder: Path, device: torch.device, before: Tensor | None
    ) -> dict[str, dict[str, float]]:
        """What another judge says of each; ``before``: frames that they continue."""
        ask = FileJudge(LoadedRewards(judge, device), device, before=before)
        return {name: ask(folder / candidate.name).scores for name, candidate in self.shown.items()}


def verdict(scores: Mapping[str, Mapping[str, float]]) -> str:
    """Which videos are more plausible than the plain one, by scores of which more is better.

    Of several rewards, all have to say so.
    """
    found: dict[str, list[str]] = {}
    for name in scores:
        if name != PLAIN:
            found.setdefault(_beside(scores[name], scores[PLAIN]), []).append(name)
    if not found:
        return "the plain video is the winner itself, so nothing stands beside it"
    parts = [
        f"{' and '.join(names)} {'are' if len(names) > 1 else 'is'} {what} plain"
        for what, names in found.items()
    ]
    return ", ".join(parts)


def _beside(own: Mapping[str, float], plain: Mapping[str, float]) -> str:
    gains = [own[reward] - plain[reward] for reward in plain]
    if all(gain > 0 for gain in gains):
        return "more plausible than"
    if all(gain < 0 for gain in gains):
        return "less plausible than"
    return "neither more nor less plausible than"


def sentence(
    rewards: RewardChoice,
    judge: RewardChoice | None,
    own: Mapping[str, Mapping[str, float]],
    said: Mapping[str, Mapping[str, float]],
) -> str:
    """The end of a comparison.

    Args:
        rewards: What guided and chose.
        judge: Another one that was asked, or None.
        own: Scores of each video by what guided and chose.
        said: The same by the judge, if there is one.
    """
    told = verdict(own)
    if not own.keys() - {PLAIN}:
        return told
    names = " and ".join(model.name for model in rewards.world_models) or " and ".join(
        rewards.weights
    )
    if judge is None:
        return (
            f"{told}, says {names}, which was asked for just that: it proves little, and --judge NAME asks "
            "another world model"
        )
    numbers = ", ".join(f"{name} {in_words(scores)}" for name, scores in said.items())
    found = f"{verdict(said)} ({numbers})"
    who = f"{judge.model.name}, which neither guided nor chose,"
    if agree(own, said):
        return f"{who} agrees with {names}, which did: {found}"
    return f"{who} disagrees with {names}, which did: {found}, but {names} says that {told}"


def agree(own: Mapping[str, Mapping[str, float]], said: Mapping[str, Mapping[str, float]]) -> bool:
    """Whether two judges say the same of every video beside the plain one."""
    return verdict(own) == verdict(said)
