"""The generator of one's own in `example/my_generator.py`: steered by everything that steers ours."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from example.my_generator import sample
from example.my_reward import Steady
from wmreward import Guidance, GuidanceConfig, GuidanceSchedule
from wmreward.protocols import DenoiseStep

TARGET = torch.rand(2, 4, 6, 4, 4, generator=torch.Generator().manual_seed(0))
NOISE = torch.randn(2, 4, 6, 4, 4, generator=torch.Generator().manual_seed(1))
MIXING = torch.randn(4, 3, generator=torch.Generator().manual_seed(2)) / 2


def flow(x: Tensor, time: Tensor) -> Tensor:
    return (TARGET - x) / (1 - time).clamp_min(0.05)


def decoder(x: Tensor) -> Tensor:
    video = torch.einsum("bcthw,cd->bdthw", x, MIXING).tanh()
    return video.repeat_interleave(2, dim=2)


def plain(step: DenoiseStep) -> Tensor:
    return step.velocity


def test_it_samples_and_is_steered_towards_the_reward() -> None:
    reward = Steady()
    unguided = sample(flow, decoder, NOISE, 8, plain)
    torch.testing.assert_close(unguided, decoder(TARGET), rtol=0, atol=1e-5)
    schedule = GuidanceSchedule.make(8, scale=0.3)
    guidance = Guidance(reward, GuidanceConfig(schedule=schedule))
    guided = sample(flow, decoder, NOISE, 8, guidance)
    assert len(guidance.records) == 8
    assert (reward(guided).scores > reward(unguided).scores).all()


def test_through_the_network_too() -> None:
    def lazy(x: Tensor, time: Tensor) -> Tensor:  # where it ends depends on how it began
        return TARGET - x

    reward, schedule = Steady(), GuidanceSchedule.make(8, scale=0.3)
    config = GuidanceConfig(schedule=schedule, through="dit")
    unguided = sample(lazy, decoder, NOISE, 8, plain)
    guided = sample(lazy, decoder, NOISE, 8, Guidance(reward, config))
    assert (reward(guided).scores > reward(unguided).scores).all()


def test_it_goes_on_with_copies_of_rows() -> None:
    def second_only(step: DenoiseStep) -> Tensor:
        step.resample(torch.tensor([1, 1]))
        return step.velocity

    video = sample(lambda x, time: torch.zeros_like(x), decoder, NOISE, 2, second_only)
    torch.testing.assert_close(video, decoder(NOISE)[[1, 1]])


def test_it_is_as_short_as_it_says() -> None:
    source = (Path(__file__).parents[2] / "example" / "my_generator.py").read_text()
    body = source[source.index("@dataclass") :].splitlines()
    assert len([line for line in body if line.strip()]) <= 50
