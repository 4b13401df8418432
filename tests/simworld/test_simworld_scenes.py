"""A seed means the same scenes for ever: training sets and benchmarks are named by their seeds."""

from __future__ import annotations

import pytest
import torch

from simworld import sample_scenes

SUMS = {
    "train": (497, 899.616, 1.228, 1867.174, 14.126, 301.348, 778.581, 556),
    "id": (486, 898.339, 2.465, 1666.388, -0.133, 293.909, 790.297, 558),
    "ood": (475, 915.797, 1.795, 1874.004, 0.556, 280.167, 784.890, 575),
}
# Drawn early and late, so that a draw more or less shows.
FIELDS = (
    "exists",
    "position",
    "velocity",
    "angle",
    "spin",
    "friction",
    "static_center",
    "static_exists",
)


@pytest.mark.parametrize("split", SUMS)
def test_a_seed_keeps_its_scenes(split) -> None:
    scenes = sample_scenes(256, split=split, seed=3)
    sums = [float(getattr(scenes, name).double().sum()) for name in FIELDS]
    assert sums == pytest.approx(SUMS[split], abs=2e-3)


def test_half_of_the_scenes_run_to_the_left() -> None:
    scenes = sample_scenes(2000, seed=0, scenario="roll")
    to_the_right = (scenes.velocity[:, 0, 0] > 0).double().mean()
    assert 0.45 < float(to_the_right) < 0.55


def test_nothing_starts_inside_the_protagonist() -> None:
    scenes = sample_scenes(500, seed=1, scenario="flight")
    apart = torch.hypot(*(scenes.position[:, 1:] - scenes.position[:, :1]).unbind(-1))
    room = 0.5 * (scenes.size[:, 1:] + scenes.size[:, :1])
    assert bool((apart > room)[scenes.exists[:, 1:]].all())
