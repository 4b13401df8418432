"""Pairs of a possible and an impossible video of one scene, drawn by rejection."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from simworld.batch import Draw, make_generator
from simworld.looks import Looks, sample_looks
from simworld.physics import simulate
from simworld.scenes import Split, check_split
from simworld.staging import sample_scenes
from simworld.trajectories import Trajectories
from simworld.twins import HIDDEN, KIND_SCENARIOS, VIOLATIONS, make_twins

_MOST_ROUNDS = 60


@dataclasses.dataclass(frozen=True)
class Pairs:
    """N matched pairs of one kind: equal until the violation frame, seen with the same looks."""

    kind: str
    """One of `VIOLATIONS`."""
    split: str
    possible: Trajectories
    impossible: Trajectories
    looks: Looks
    violation_frame: Tensor
    """[N] first frame at which the twin differs."""

    def __len__(self) -> int:
        return len(self.violation_frame)

    def to(self, device: torch.device | str) -> Pairs:
        """The same pairs on `device`."""
        return dataclasses.replace(
            self,
            possible=self.possible.to(device),
            impossible=self.impossible.to(device),
            looks=self.looks.to(device),
            violation_frame=self.violation_frame.to(device),
        )

    def __getitem__(self, index: int | slice | Sequence[int] | Tensor) -> Pairs:
        """Some of the pairs; an integer gives one pair, with the batch dimension kept."""
        looks = self.looks[index]
        if isinstance(index, int):
            index = slice(index, index + 1 or None)
        return dataclasses.replace(
            self,
            possible=self.possible[index],
            impossible=self.impossible[index],
            looks=looks,
            violation_frame=self.violation_frame[index],
        )


def make_pairs(
    kind: str,
    count: int,
    *,
    split: Split = "id",
    seed: int = 0,
    frames: int = 40,
    device: torch.device | str = "cpu",
) -> Pairs:
    """Draw `count` pairs of one kind in which the violation can be seen.

    Scenes are drawn until enough of them pass the rules of the kind (see `twins`). The result
    depends on all arguments and on the type of the device, and on nothing else.

    Args:
        kind: one of `VIOLATIONS`.
        split: "id" and "ood" are meant for evaluation; "train" is allowed.
        frames: length T of the videos; violations begin between 0.325 T and 0.65 T.
    """
    check_split(split)
    if kind not in VIOLATIONS:
        raise ValueError(f"kind must be one of {', '.join(VIOLATIONS)}; got {kind!r}")
    if count < 1:
        raise ValueError(f"count must be positive; got {count}")
    generator = make_generator(seed, f"pairs/{kind}/{split}/{frames}", device)
    batch = min(max(64, 4 * count), 768)
    possible: list[Trajectories] = []
    impossible: list[Trajectories] = []
    looks: list[Looks] = []
    violation: list[Tensor] = []
    found = 0
    for _ in range(_MOST_ROUNDS):
        scenes = sample_scenes(
            batch,
            split=split,
            generator=generator,
            scenario=KIND_SCENARIOS[kind],
            occlusion=1.0 if kind in HIDDEN else 0.3,
        )
        view = sample_looks(batch, split=split, generator=generator)
        if kind in HIDDEN:
            # A shadow beside the occluder would tell what is behind it.
            view = dataclasses.replace(view, shadow=torch.zeros_like(view.shadow))
        draw = Draw(batch, generator)
        twins = make_twins(kind, scenes, simulate(scenes, frames), view, draw, split)
        possible.append(twins.possible)
        impossible.append(twins.impossible)
        looks.append(view[twins.rows])
        violation.append(twins.violation_frame)
        found += len(twins.rows)
        if found >= count:
            break
    else:
        raise RuntimeError(
            f"found {found} of {count} pairs of kind {kind!r} in {_MOST_ROUNDS * batch} scenes of "
            f"{frames} frames; use more frames"
        )
    return Pairs(
        kind=kind,
        split=split,
        possible=Trajectories.cat(possible)[:count],
        impossible=Trajectories.cat(impossible)[:count],
        looks=Looks.cat(looks)[:count],
        violation_frame=torch.cat(violation)[:count],
    )
