"""Where schedulers are and what model outputs say, against the schedulers' own arithmetic."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

pytest.importorskip("diffusers")

from tiny_pipelines import flow_dpm, flow_euler, flow_unipc, tiny

from wmreward.errors import UsageError
from wmreward.pipelines.borrowed import borrowed
from wmreward.pipelines.coordinates import edm_position, places_of

STEPS = 6


def random(*seeds: int) -> list[torch.Tensor]:
    return [torch.randn(1, 4, 3, 2, 2, generator=torch.Generator().manual_seed(s)) for s in seeds]


def cogvideox(name: str) -> Any:
    return tiny(name).pipe.scheduler


MADE = {
    "unipc": flow_unipc,
    "dpm": flow_dpm,
    "euler": flow_euler,
    "inverted": lambda: flow_euler(shift=1.0, invert_sigmas=True),
    "dynamic": lambda: flow_euler(use_dynamic_shifting=True),
    "cogvideox": lambda: cogvideox("cogvideox"),
    "cogvideox_dpm": lambda: cogvideox("cogvideox_dpm"),
    "cosmos": lambda: flow_euler(shift=1.0, use_karras_sigmas=True),
}


def steps_of(name: str) -> Any:
    """For every step: the scheduler before, where it is, its sample, a model output, what it made of it."""
    scheduler = MADE[name]()
    places = edm_position if name == "cosmos" else places_of(scheduler)
    scheduler.set_timesteps(STEPS, **({"mu": 0.8} if name == "dynamic" else {}))
    if name == "cosmos":
        scheduler.sigmas[-1] = scheduler.sigmas[-2]  # as the pipeline does
    sample = random(0)[0] * (80 if name == "cosmos" else 1)
    old = None
    for number, timestep in enumerate(scheduler.timesteps):
        (output,) = random(number + 1)
        position = places(scheduler, timestep)
        assert position.index == number
        before = copy.deepcopy(scheduler)
        if name == "cogvideox_dpm":
            earlier = scheduler.timesteps[number - 1] if number else None
            after, old = scheduler.step(output, old, timestep, earlier, sample, return_dict=False)
            result = (after, old)
        else:
            result = scheduler.step(output, timestep, sample, return_dict=False)
        yield before, position, sample, output, result
        sample = result[0]


@pytest.mark.parametrize("name", ["unipc", "dpm"])
def test_clean_estimate_is_that_of_multistep_solvers(name: str) -> None:
    for scheduler, position, x, output, _ in steps_of(name):
        if scheduler.step_index is None:
            scheduler._step_index = position.index
        own = scheduler.convert_model_output(output, sample=x)
        found = position.prediction.clean(position.level, x, output)
        torch.testing.assert_close(found, own, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["cogvideox", "cogvideox_dpm"])
def test_clean_estimate_is_what_cogvideox_returns(name: str) -> None:
    for _, position, x, output, result in steps_of(name):
        found = position.prediction.clean(position.level, x, output)
        torch.testing.assert_close(found, result[1], rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["euler", "inverted", "dynamic", "cogvideox", "cosmos"])
def test_first_order_steps_are_straight_lines(name: str) -> None:
    """x̃ ← x̃ + Δt v is exactly what they do: so a change of v is the change of the sample."""
    for _, position, x, output, result in steps_of(name):
        now, following = position.level, position.following
        clean = position.prediction.clean(now, x, output)
        straight = x / now.size
        velocity = (clean - straight) / (1 - now.time)
        moved = straight + (following.time - now.time) * velocity
        torch.testing.assert_close(moved, result[0] / following.size, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("name", MADE)
def test_there_and_back(name: str) -> None:
    """Output → x₀ and ε → output."""
    for _, position, x, output, _ in steps_of(name):
        level, prediction = position.level, position.prediction
        clean = prediction.clean(level, x.double(), output.double())
        noise = (x.double() - level.alpha * clean) / level.sigma
        back = prediction.output(level, clean, noise)
        torch.testing.assert_close(back, output.double(), rtol=1e-6, atol=1e-6)
        assert 0 <= level.time < position.following.time <= 1 or not position.moves


def test_last_step_of_cosmos_moves_nothing() -> None:
    moves = [position.moves for _, position, *_ in steps_of("cosmos")]
    assert moves == [True] * (STEPS - 1) + [False]


def test_unknown_schedulers_are_refused() -> None:
    from diffusers import DDIMScheduler, UniPCMultistepScheduler

    # Sigmas of a flow say nothing of what the model was trained to say.
    noise = UniPCMultistepScheduler(use_flow_sigmas=True, prediction_type="epsilon")
    for scheduler in (DDIMScheduler(), UniPCMultistepScheduler(), noise):
        with pytest.raises(UsageError, match=r"cannot be guided; use one of FlowMatch") as caught:
            places_of(scheduler)
        assert type(scheduler).__name__ in str(caught.value) and "\n" not in str(caught.value)


def test_copies_of_a_borrowed_object_are_plain() -> None:
    """LTX-2 copies its scheduler for the sound: that one must not be guided."""
    scheduler = flow_euler()
    plain = type(scheduler)
    with borrowed(scheduler, step=lambda *_: "ours"):
        assert scheduler.step() == "ours" and isinstance(scheduler, plain)
        assert type(scheduler).__name__ == plain.__name__
        assert type(copy.deepcopy(scheduler)) is plain
    assert type(scheduler) is plain
