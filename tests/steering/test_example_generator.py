"""The generator of one's own in `example/my_generator.py`: steered by everything that steers ours."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from example.my_generator import Decoder, sample
from example.my_reward import Steady
from wmreward import Guidance, GuidanceConfig, GuidanceSchedule
from wmreward.errors import UsageError
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


class PullsBackItself:
    """A decoder that says which gradients it was asked for."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def __call__(self, x: Tensor) -> Tensor:
        return decoder(x)

    def pulled_back(self, latents: Tensor, towards: Sequence[Tensor]) -> list[Tensor]:
        self.asked.append(len(towards))
        leaf = latents.detach().requires_grad_()
        with torch.enable_grad():
            video = decoder(leaf)
        return [torch.autograd.grad(video, leaf, one, retain_graph=True)[0] for one in towards]


def guided_by(decoding: Decoder) -> Tensor:
    config = GuidanceConfig(schedule=GuidanceSchedule.make(8, scale=0.3), keep="edges")
    return sample(flow, decoding, NOISE, 8, Guidance(Steady(), config))


def test_its_decoder_may_pull_gradients_back_itself() -> None:
    decoding = PullsBackItself()
    torch.testing.assert_close(guided_by(decoding), guided_by(decoder), rtol=0, atol=0)
    assert decoding.asked == [2] * 8  # the reward's and that of the edges


@pytest.mark.parametrize(
    ("pulled", "told"),
    [
        (
            lambda z, towards: [torch.zeros(2) for _ in towards],
            r"2 of \[2, 4, 6, 4, 4\], not \[2\] and \[2\]",
        ),
        (lambda z, towards: torch.zeros(2, *z.shape).unbind()[:1], r"not \[2, 4, 6, 4, 4\]"),
        (lambda z, towards: [None, z], r"not NoneType and \[2, 4, 6, 4, 4\]"),
        (lambda z, towards: None, "not NoneType"),
        (lambda z, towards: z, "not a single tensor"),
    ],
    ids=["shape", "count", "none", "nothing", "no list"],
)
def test_gradients_of_another_shape_are_named(pulled: Any, told: str) -> None:
    decoding = PullsBackItself()
    decoding.pulled_back = pulled  # type: ignore[method-assign]
    with pytest.raises(UsageError, match=f"pulled_back of PullsBackItself must return .*{told}"):
        guided_by(decoding)


def test_it_is_as_short_as_it_says() -> None:
    source = (Path(__file__).parents[2] / "example" / "my_generator.py").read_text()
    body = source[source.index("@dataclass") :].splitlines()
    assert len([line for line in body if line.strip()]) <= 50
