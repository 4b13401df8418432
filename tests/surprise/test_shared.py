"""Windows shared by several processes are those of one: over gloo on the CPU."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from fakes import NANO, random_model
from processes import server
from torch import Tensor
from torch import distributed as dist

from vjepa2.world_model import VJEPA2
from wmreward.rewards.world import SeamReward, SurpriseReward
from wmreward.surprise.config import SurpriseConfig
from wmreward.surprise.scorer import SurpriseScorer
from wmreward.surprise.shared import SharedScorer

PROCESSES = (2, 4)
CONFIG = SurpriseConfig(window_size=8, context_frames=4, stride=2)
CONFIGS = {
    "mean": CONFIG,
    "max": replace(CONFIG, mode="max"),
    "two strides": replace(CONFIG, frame_strides=(1, 2)),
    "a single window": replace(CONFIG, window_size=16, context_frames=8, stride=16),
}
EXACT = 1e-12


class Counting(VJEPA2):
    """Counts the windows that it sees."""

    windows = 0

    def future_latents(self, pixels: Tensor, *args: Any, **options: Any) -> Any:
        self.windows += len(pixels)
        return super().future_latents(pixels, *args, **options)


def scored(group: Any) -> dict[str, tuple[Tensor, ...]]:
    """Score, gradient, rules, and how many windows this process saw for it."""
    model = random_model(NANO, dtype=torch.float64)
    model.__class__ = Counting
    torch.manual_seed(1)
    video = torch.rand(2, 3, 17, 20, 24, dtype=torch.float64) * 2 - 1
    found: dict[str, tuple[Tensor, ...]] = {}
    for name, config in CONFIGS.items():
        scorer: SurpriseScorer = SurpriseScorer(model, config, batch_size=3, grad_batch_size=2)
        if group is not None:
            scorer = SharedScorer(scorer, group)
        model.windows = 0
        leaf = video.clone().requires_grad_()
        score = SurpriseReward(scorer)(leaf).scores
        (gradient,) = torch.autograd.grad(score.sum(), leaf)
        rules = SurpriseReward(scorer)(video)
        seam = SeamReward(scorer).after(video, 9)
        parts = [rules.parts[key] for key in sorted(rules.parts)]
        seen = torch.tensor(model.windows)
        found[name] = (score.detach(), gradient, rules.scores, *parts, seam.scores, seen)
    return found


def work(rank: int, size: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=size
    )
    torch.save(scored(dist.group.WORLD), folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module", params=PROCESSES)
def shared(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> list[dict[str, tuple[Tensor, ...]]]:
    """What each of the processes has."""
    folder = tmp_path_factory.mktemp("shared")
    team = [
        server().Process(target=work, args=(rank, request.param, folder))
        for rank in range(request.param)
    ]
    for process in team:
        process.start()
    for process in team:
        process.join()
    assert [process.exitcode for process in team] == [0] * request.param
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(request.param)]


@pytest.fixture(scope="module")
def alone() -> dict[str, tuple[Tensor, ...]]:
    return scored(None)


@pytest.mark.parametrize("name", CONFIGS)
def test_several_processes_are_one(
    shared: list[dict[str, tuple[Tensor, ...]]], alone: dict[str, tuple[Tensor, ...]], name: str
) -> None:
    *expected, windows = alone[name]
    for found in shared:
        *values, seen = found[name]
        for value, own in zip(values, expected, strict=True):
            torch.testing.assert_close(value, own, rtol=EXACT, atol=EXACT)
        for value, first in zip(values, shared[0][name], strict=False):
            assert torch.equal(value, first), "processes must not drift apart"
        most = -(-int(windows) // len(shared)) + 6  # each of the calls may leave one more
        assert name == "a single window" or seen <= most < windows
    assert sum(int(found[name][-1]) for found in shared) == windows
