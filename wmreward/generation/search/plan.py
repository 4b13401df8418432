"""One video, or several to choose from: what the flags of any generator say of that. Flags are read, and
found wrong, without anything heavy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from wmreward.errors import UsageError, WMRewardError
from wmreward.pictures.extra import check_pictures

if TYPE_CHECKING:
    from torch import Tensor

    from wmreward.generation.output import Output
    from wmreward.generation.steering import Steering
    from wmreward.rewards.choice import RewardChoice


@dataclass(frozen=True, kw_only=True)
class SearchPlan:
    """Candidates of one request.

    Attributes:
        seeds: Of the candidates.
        batch: At once on a device; None: all, as particles.
        keep: How many videos stay; None: all.
        compare: Write the plain, the guided and the chosen one side by side.
        judge: Another world model that says which of these is more plausible; None: what guides and chooses.
        settings: All that decides a candidate but its seed.
        context: Given frames before a continued video, which are judged with it, uint8 ``[T, H, W, 3]``.
    """

    seeds: tuple[int, ...]
    batch: int | None
    keep: int | None
    compare: bool
    judge: RewardChoice | None
    settings: dict[str, Any]
    context: Tensor | None

    @property
    def candidates_id(self) -> str:
        from wmreward.generation.output import settings_id

        return settings_id(self.settings)


@dataclass(frozen=True)
class Candidates:
    """Which ones are asked for.

    Attributes:
        values: All flags.
        seeds: Of the candidates.
        keep: How many videos stay; None: all.
    """

    values: Mapping[str, Any]
    seeds: tuple[int, ...]
    keep: int | None

    @classmethod
    def of(cls, values: Mapping[str, Any], first: int) -> Candidates:
        """From flags; ``first`` is the first seed where no flag says another.

        Raises:
            UsageError: flags that contradict each other.
            WMRewardError: what draws pictures is not installed.
        """
        asked = cls(values, _seeds(values, first), _kept(values["keep"]))
        if values["preview"] and asked.searches:
            raise UsageError("--preview shows a single video as it grows: leave it out here")
        for flag in ("plot", "compare"):
            if values[flag]:
                check_pictures(f"--{flag}")
        return asked

    @property
    def searches(self) -> bool:
        """Whether finished videos are judged; else a single one is made."""
        values = self.values
        return bool(
            len(self.seeds) > 1
            or values["search"] == "particles"
            or values["reward"]
            or values["compare"]
        )

    @property
    def at_once(self) -> int:
        """How many are made in one batch."""
        if self.values["search"] == "particles":
            return len(self.seeds)
        return min(len(self.seeds), int(self.values["candidate_batch"]))

    def videos(self, steering: Steering) -> int:
        """How many are made in all: to compare with, a plain one comes to those that are steered."""
        steered = steering.guidance is not None or steering.particles is not None
        return len(self.seeds) + bool(self.values["compare"] and steered)

    def planned(
        self,
        settings: Mapping[str, Any],
        rewards: RewardChoice | None,
        judge: RewardChoice | None = None,
        context: Tensor | None = None,
    ) -> tuple[SearchPlan | None, Output]:
        """What is chosen from, or None for a single video; and where the outcome goes.

        Args:
            settings: All that decides a candidate but its seed.
            rewards: What judges; needed where anything is judged.
            judge, context: See `SearchPlan`.

        Raises:
            WMRewardError: see `Output.check`.
        """
        from wmreward.generation.output import Output

        values, search = self.values, None
        decisive: dict[str, Any] = {"seed": self.seeds[0]}
        if self.searches:
            assert rewards is not None
            seeds, together = list(self.seeds), values["search"] == "particles"
            search = SearchPlan(
                seeds=self.seeds,
                batch=None if together else values["candidate_batch"],
                keep=self.keep,
                compare=values["compare"],
                judge=judge,
                settings={**settings, **({"together": seeds} if together else {})},
                context=context,
            )
            judged = {"rewards": rewards.settings(), "combine": rewards.how}
            decisive = {"search": {"seeds": seeds, **judged}}
            if judge is not None:
                decisive["search"]["compared_by"] = judge.settings()
        output = Output.check(
            values["output"],
            overwrite=values["overwrite"],
            settings={**settings, **decisive},
            search=None if search is None else search.candidates_id,
        )
        return search, output


def _seeds(values: Mapping[str, Any], first: int) -> tuple[int, ...]:
    """Of the candidates; ``first`` is the first one where no flag says another."""
    count, given = values["best_of"], values["seeds"]
    if given is None:
        return tuple(range(first, first + count))
    if values["seed"] is not None:
        raise UsageError("--seed and --seeds: leave out one")
    if count not in (1, len(given)):
        raise UsageError(f"--best_of {count} with {len(given)} --seeds: leave out one")
    return tuple(given)


def _kept(keep: str) -> int | None:
    """How many videos stay; None: all."""
    if keep == "all":
        return None
    if keep == "best":
        return 1
    if keep.isdecimal() and len(keep) < 10 and int(keep) > 0:
        return int(keep)
    raise UsageError(f"--keep {keep} must be all, best or a number from 1 on")


def check_rewards(rewards: RewardChoice, *, needed: bool) -> None:
    """Their weights; guidance is on where no flag says so, and its user may not know that it needs any."""
    try:
        rewards.check_weights()
    except WMRewardError as error:
        if needed:
            raise
        raise WMRewardError(
            f"{error}; --guidance_scale 0 generates without a world model"
        ) from error
