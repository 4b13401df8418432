"""What rewards and guides hand over: wrong shapes and numbers that are none stop, and say who is at fault."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from test_guidance import always, make_step, smooth
from torch import Tensor

from wmreward.errors import RewardError, UsageError, WMRewardError
from wmreward.protocols import RewardScores
from wmreward.steering.guidance import Guidance
from wmreward.steering.particles import ParticleConfig, ParticleSteering

Reward = Callable[[Tensor], Any]


def scoring(change: Callable[[Tensor], Any]) -> Reward:
    """A good reward whose scores are changed."""
    return lambda videos: RewardScores(change(smooth(videos).scores), {})


BAD: list[tuple[Reward, type[WMRewardError], str]] = [
    (scoring(lambda x: x.mean()), UsageError, r"scores \[2\] for 2 videos, .* not \[\]"),
    (scoring(lambda x: x[:, None]), UsageError, r"not \[2, 1\]"),
    (scoring(lambda x: x[:1]), UsageError, r"not \[1\]"),
    (scoring(lambda x: x.tolist()), UsageError, "RewardScores, not list"),
    (lambda videos: smooth(videos).scores[:, None], UsageError, r"must return .* not \[2, 1\]"),
    (scoring(lambda x: x / 0), RewardError, "gives -inf .* the reward is at fault"),
    (scoring(lambda x: x * float("nan")), RewardError, "gives nan .* the reward is at fault"),
]


@pytest.mark.parametrize(("reward", "kind", "says"), BAD)
@pytest.mark.parametrize("keep", ["nothing", "edges"])
def test_scores_that_cannot_guide(
    keep: Any, reward: Reward, kind: type[WMRewardError], says: str
) -> None:
    with pytest.raises(kind, match=says):
        Guidance(reward, always(keep=keep))(make_step())


def test_plain_scores_guide_as_those_with_parts() -> None:
    full, plain = make_step(), make_step()
    guided = Guidance(smooth, always())(full)
    assert torch.equal(Guidance(lambda videos: smooth(videos).scores, always())(plain), guided)


@pytest.mark.parametrize(("reward", "kind", "says"), BAD)
def test_scores_that_cannot_weigh_particles(
    reward: Reward, kind: type[WMRewardError], says: str
) -> None:
    particles = ParticleSteering(reward, ParticleConfig(every=1, times=(0.0, 1.0), churn=0.0))
    with pytest.raises(kind, match=says):
        particles(make_step())


@pytest.mark.parametrize("keep", ["nothing", "edges"])
@pytest.mark.parametrize(
    ("reward", "says"),
    [
        (scoring(Tensor.detach), "no gradient flows through the reward"),
        (scoring(lambda x: torch.ones(2, requires_grad=True)), "no gradient flows"),
        (
            scoring(lambda x: (x - x.detach()).sqrt()),
            "the gradient of the reward is infinite or no",
        ),
    ],
)
def test_gradients_that_cannot_guide(reward: Reward, says: str, keep: Any) -> None:
    with pytest.raises(WMRewardError, match=says):
        Guidance(reward, always(keep=keep))(make_step())


def test_a_decoder_that_makes_no_numbers_is_at_fault() -> None:
    step = make_step()
    step.mix = step.mix * float("nan")
    with pytest.raises(WMRewardError, match="the generator's decoder is at fault"):
        Guidance(smooth, always())(step)


def test_a_generator_whose_gradient_is_none_is_at_fault() -> None:
    step = make_step()
    step.model = lambda latents: (latents - latents.detach()).sqrt()  # type: ignore[method-assign]
    with pytest.raises(WMRewardError, match="the gradient through the generator is infinite"):
        Guidance(smooth, always(through="dit"))(step)


def test_the_guide_of_particles_must_return_a_velocity() -> None:
    config = ParticleConfig(churn=0.5)
    for guide in (lambda step: step.velocity[:1], lambda step: step.velocity.mean()):
        with pytest.raises(UsageError, match="as a velocity, expected"):
            ParticleSteering(smooth, config, guide=guide)(replace(make_step()))
