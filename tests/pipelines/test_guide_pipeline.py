"""Pipelines of every family, guided: tiny random ones, whole calls."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("diffusers")

from fakes import random_model
from run_rewards import Bright
from tiny_pipelines import (
    NAMES,
    STEPS,
    Tiny,
    flow_dpm,
    flow_euler,
    flow_unipc,
    plain_latents,
    tiny,
)

from wmreward.errors import UsageError, WMRewardError
from wmreward.pipelines import Family, guide_pipeline
from wmreward.pipelines.decoding import Economy
from wmreward.pipelines.families.wan import Wan
from wmreward.protocols import RewardScores
from wmreward.rewards.world import SurpriseReward
from wmreward.steering.guidance import GuidanceConfig
from wmreward.steering.schedule import GuidanceSchedule
from wmreward.surprise.config import SurpriseConfig
from wmreward.surprise.scorer import SurpriseScorer


def config(*scales: float, **more: Any) -> GuidanceConfig:
    return GuidanceConfig(schedule=GuidanceSchedule(scales or (0.0, 0.15, 0.15, 0.0)), **more)


@pytest.mark.parametrize("name", NAMES)
def test_scale_zero_is_the_plain_pipeline(name: str) -> None:
    """Bit by bit, within the context and after it, also after an error inside."""
    made, plain = tiny(name), plain_latents(name)
    before = type(made.pipe), type(made.pipe.scheduler)
    with guide_pipeline(made.pipe, Bright(), config(*[0.0] * STEPS)) as guided:
        assert torch.equal(made.latents(), plain)
        assert not guided.records and str(guided) == "guidance acted on no step"
    with pytest.raises(ZeroDivisionError), guide_pipeline(made.pipe, Broken(), config()):
        made.latents()
    assert before == (type(made.pipe), type(made.pipe.scheduler))
    assert not made.pipe.transformer._forward_pre_hooks
    assert torch.equal(made.latents(), plain)


class Broken(Bright):
    def __call__(self, videos: Tensor) -> RewardScores:
        raise ZeroDivisionError


class Seen(Bright):
    """Keeps what it is shown."""

    def __init__(self) -> None:
        self.videos: list[Tensor] = []

    def __call__(self, videos: Tensor) -> RewardScores:
        self.videos.append(videos.detach())
        return super().__call__(videos)


@pytest.mark.parametrize("name", NAMES)
def test_reward_rises_more_than_by_chance(name: str) -> None:
    """In the estimates at every guided step, and in the video that the pipeline returns. The last estimate is
    that video: normalisation, conditioning and decoding are the pipeline's own.
    """
    made, reward = tiny(name), Seen()
    plain = made.video()
    with guide_pipeline(made.pipe, reward, config(0.0, 0.15, 0.15, 1e-7, null=True)) as guided:
        video = made.video()
    assert video.shape == plain.shape and video.mean() > plain.mean()
    records = guided.records[:2]
    gains = [record.gain or 0 for record in records]
    by_chance = [(record.after_random or 0) - record.before for record in records]
    assert all(gain > max(0, chance) for gain, chance in zip(gains, by_chance, strict=True))
    assert [record.change for record in records] == pytest.approx([0.15, 0.15], rel=0.2)
    if name != "cosmos2":  # its last step stands still
        last = reward.videos[-3].clamp(-1, 1)
        close = 1e-4 if name == "ltx_timestep" else 1e-5
        torch.testing.assert_close(last, video, rtol=0, atol=close)


def test_given_frames_of_cosmos_stay() -> None:
    made = tiny("cosmos2")
    plain = plain_latents("cosmos2")
    with guide_pipeline(made.pipe, Bright(), config()):
        guided = made.latents()
    torch.testing.assert_close(guided[:, :, :1], plain[:, :, :1], rtol=0, atol=1e-4)
    assert (guided - plain)[:, :, 1:].abs().max() > 1e-2


# --- solvers ----------------------------------------------------------------------------------------------


class Pixels(Wan):
    """Latents are the picture."""

    def decode(self, latents: Tensor) -> Tensor:
        return latents[:, :3].tanh()


@pytest.mark.parametrize(
    ("scheduler", "least"), [(flow_euler, 3.5), (flow_unipc, 12), (flow_dpm, 12)]
)
def test_solvers_keep_their_order(scheduler: Callable[[], Any], least: float) -> None:
    """Four times the steps: a quarter of the error at first order, a sixteenth at second; guided as plain."""

    def solved(steps: int, scale: float) -> Tensor:
        made = tiny("wan")
        made.pipe.scheduler = scheduler()
        made.pipe.transformer.forward = smooth
        call = {"num_inference_steps": steps, "guidance_scale": 1.0}
        with guide_pipeline(made.pipe, Bright(), config(*[scale] * steps), family=Pixels):
            return made.latents(**call).double()

    true = solved(128, 0.2)
    errors = [(solved(steps, 0.2) - true).norm() for steps in (8, 32)]
    assert errors[0] / errors[1] > least
    assert (true - solved(128, 0.0)).norm() > 2 * errors[0]  # and guidance was no trifle


def smooth(hidden_states: Tensor, **_: Any) -> tuple[Tensor]:
    """A flow without time, as schedulers round their timesteps."""
    return (torch.tanh(hidden_states.roll(1, 1)) - 0.5 * hidden_states,)


# --- ways to run a pipeline -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("output_type", "return_dict"),
    [("latent", True), ("np", False), ("pil", True), ("pt", False)],
)
def test_outputs_of_every_type(output_type: str, return_dict: bool) -> None:
    made = tiny("wan_5b")
    call = {"output_type": output_type, "return_dict": return_dict}
    with guide_pipeline(made.pipe, Bright(), config()):
        guided = made(**call)
    plain = made(**call)
    assert type(guided) is type(plain)
    frames = [found[0] for found in (guided, plain)]
    assert type(frames[0]) is type(frames[1]) and len(frames[0]) == len(frames[1]) == 1


@pytest.mark.parametrize("name", ["wan_5b_i2v", "cogvideox_i2v", "hunyuan_15"])
def test_half_precision(name: str) -> None:
    """The pipeline stays in bfloat16; a change smaller than its last digit is not lost."""
    made = tiny(name)
    for part in ("transformer", "vae"):
        getattr(made.pipe, part).bfloat16()
    embeds = {
        key: value.bfloat16()
        for key, value in made.call.items()
        if "embeds" in key and "mask" not in key
    }
    plain = made.latents(**embeds)
    with guide_pipeline(made.pipe, Bright(), config()):
        guided = made.latents(**embeds)
    assert guided.isfinite().all() and (guided - plain).abs().max() > 0.01


def test_batches_are_guided_one_by_one() -> None:
    """Each video's own reward, as if it were alone."""
    made = tiny("cogvideox")
    random = torch.Generator().manual_seed(3)
    start = torch.randn(2, 3, 4, 4, 4, generator=random)
    call = {
        key: made.call[key].repeat(2, 1, 1) for key in ("prompt_embeds", "negative_prompt_embeds")
    }
    with guide_pipeline(made.pipe, Bright(), config()):
        both = made.latents(**call, latents=start)
        alone = [made.latents(latents=start[row, None]) for row in range(2)]
    torch.testing.assert_close(both, torch.cat(alone), rtol=0, atol=2e-5)


def test_several_videos_of_a_prompt() -> None:
    made = tiny("wan_5b")
    with guide_pipeline(made.pipe, Bright(), config()) as guided:
        assert len(made.latents(num_videos_per_prompt=2)) == 2
    assert len(guided.records) == 2


def offloaded(pipe: Any) -> None:
    pipe.enable_model_cpu_offload(device="cpu")


def group_offloaded(pipe: Any) -> None:
    if version("diffusers") < "0.40":
        pytest.skip("0.36 cannot offload in groups without a GPU")
    cpu = torch.device("cpu")
    pipe.enable_group_offload(onload_device=cpu, offload_device=cpu, offload_type="leaf_level")


def compiled(pipe: Any) -> None:
    pipe.transformer = torch.compile(pipe.transformer, backend="eager", dynamic=False)


@pytest.mark.parametrize("how", [offloaded, group_offloaded, compiled])
def test_offloaded_and_compiled_pipelines(how: Callable[[Any], None]) -> None:
    videos = []
    for prepare in (how, lambda _: None):
        made = tiny("wan_5b_i2v")
        prepare(made.pipe)
        with guide_pipeline(made.pipe, Bright(), config()):
            videos.append(made.video())
    torch.testing.assert_close(videos[0], videos[1], rtol=0, atol=1e-6)


def test_the_callers_callback_and_generator_are_theirs() -> None:
    made = tiny("cogvideox_dpm")
    seen: list[int] = []

    def callback(pipe: Any, step: int, timestep: Any, values: dict[str, Any]) -> dict[str, Any]:
        seen.append(step)
        return values

    drawn = []
    for scale in (0.0, 0.15):
        generator = torch.Generator().manual_seed(5)
        with guide_pipeline(made.pipe, Bright(), config(*[scale] * STEPS)):
            made(generator=generator, callback_on_step_end=callback, output_type="latent")
        drawn.append(generator.get_state())
    assert seen == 2 * list(range(STEPS)) and torch.equal(*drawn)


# --- the surprise -----------------------------------------------------------------------------------------


def test_a_world_model_guides() -> None:
    """With the default settings; a second call has its own records."""
    scorer = SurpriseScorer(
        random_model(dtype=torch.float32), SurpriseConfig(window_size=8, context_frames=4)
    )
    reward = SurpriseReward(scorer)
    made = tiny("ltx")
    with guide_pipeline(made.pipe, reward, 0.2) as guided:
        made.latents(num_inference_steps=6)
        made.latents(seed=1, num_inference_steps=6)
    assert len(guided.calls) == 2 and guided.effect.steps == len(guided.records) >= 2
    assert guided.effect.gain is None and "changed the velocity by" in str(guided)
    assert all(0.05 <= record.times[0] <= 0.6 for record in guided.records)


def test_slices_are_scored_in_turn_and_the_error_is_told() -> None:
    made, reward = tiny("wan"), Seen()
    economy = Economy(scored=2, warm_up=1)
    with guide_pipeline(made.pipe, reward, config(), economy=economy) as guided:
        made.latents(num_frames=13)
    assert {video.shape[2] for video in reward.videos} == {5, 8}
    assert (
        "frames that were decoded in parts or smaller differ from the exact ones by up to"
        in str(guided)
    )


@pytest.mark.parametrize("name", ["wan", "cogvideox", "ltx_timestep"])
def test_what_saves_time_or_memory_changes_nothing(name: str) -> None:
    """To the bit: measuring or not, graphs apart or not, on the host or not."""
    made, found = tiny(name), []
    for measure, economy in (
        (True, Economy()),
        (False, Economy()),
        (False, Economy(apart=True)),
        (False, Economy(on_host=True)),
    ):
        with guide_pipeline(made.pipe, Bright(), config(measure=measure), economy=economy):
            found.append(made.latents())
    assert all(torch.equal(latents, found[0]) for latents in found[1:])
    assert not torch.equal(found[0], plain_latents(name))


def test_memory_that_runs_out(caplog: pytest.LogCaptureFixture) -> None:
    """What changes nothing is given up first; what was given up stays so for the next call."""
    made = tiny("wan")
    full = [True, True, True]

    class Big(Bright):
        def __call__(self, videos: Tensor) -> RewardScores:
            if videos.requires_grad and full:
                full.pop()
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super().__call__(videos)

    with (
        caplog.at_level(logging.WARNING),
        guide_pipeline(made.pipe, Big(), config()) as guided,
    ):
        made.latents()
    economy = guided.economy
    assert economy.apart and economy.on_host and economy.pieces
    said = [record.message for record in caplog.records if "guidance" in record.message]
    assert "once more" in said[0] and "host memory" in said[1] and "approximation" in said[2]


def test_rewards_that_are_not_finite_stop_the_run() -> None:
    """In one line that says whose fault it is; the pipeline is plain again."""

    class Torn(Bright):
        def __call__(self, videos: Tensor) -> RewardScores:
            return RewardScores(super().__call__(videos).scores * float("nan"), {})

    made = tiny("wan_5b")
    with (
        pytest.raises(WMRewardError, match="the reward is at fault"),
        guide_pipeline(made.pipe, Torn(), config()),
    ):
        made.latents()
    assert torch.equal(made.latents(), plain_latents("wan_5b"))


# --- what cannot be ---------------------------------------------------------------------------------------


class Fixed(Bright):
    differentiable = False


class Long(Bright):
    min_frames = 16


def stranger() -> Tiny:
    made = tiny("wan")
    made.pipe.__class__ = type("StrangePipeline", (type(made.pipe),), {})
    return made


def other_scheduler() -> Tiny:
    from diffusers import DDIMScheduler

    made = tiny("wan")
    made.pipe.scheduler = DDIMScheduler()
    return made


def wan() -> Tiny:
    return tiny("wan")


REFUSED: list[tuple[Callable[[], Tiny], Any, Any, str]] = [
    (stranger, Bright(), 0.1, "StrangePipeline is not a pipeline that can be guided: CogVideoX"),
    (other_scheduler, Bright(), 0.1, "DDIMScheduler with prediction_type=epsilon cannot be guided"),
    (wan, Fixed(), 0.1, "reward 'bright' is not differentiable"),
    (wan, Long(), 0.1, "the reward needs 16 frames, but sees 5: raise num_frames"),
    (wan, Bright(), -0.1, "guidance=-0.1 must not be negative"),
    (wan, Bright(), config(through="dit"), "through=dit is not there"),
    (wan, Bright(), config(0.1, 0.1), "guidance is for 2 steps, but the pipeline takes 4"),
]


@pytest.mark.parametrize(("made", "reward", "guidance", "words"), REFUSED)
def test_what_cannot_be_guided_is_refused(
    made: Callable[[], Tiny], reward: Any, guidance: Any, words: str
) -> None:
    wrong = made()
    with (
        pytest.raises(UsageError, match=words) as caught,
        guide_pipeline(wrong.pipe, reward, guidance),
    ):
        wrong.latents()
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


def test_inference_mode_is_refused() -> None:
    made = tiny("wan")
    with (
        pytest.raises(UsageError, match="inference_mode"),
        guide_pipeline(made.pipe, Bright(), 0.1),
        torch.inference_mode(),
    ):
        made.latents()


def test_guidance_twice_is_refused() -> None:
    made = tiny("wan")
    with (
        pytest.raises(UsageError, match="guided already"),
        guide_pipeline(made.pipe, Bright(), 0.1),
        guide_pipeline(made.pipe, Bright(), 0.1),
    ):
        raise AssertionError


def test_guidance_that_was_due_but_never_asked_for() -> None:
    """A pipeline that goes round its scheduler, and one that was called before."""
    made = tiny("wan")
    plain = type(made.pipe)
    idle = type("WanPipeline", (plain,), {"__call__": lambda self, num_inference_steps=4: "video"})
    made.pipe.__class__ = idle
    with (
        pytest.raises(
            WMRewardError, match=r"WanPipeline of diffusers [0-9.]+ never called step\(\)"
        ),
        guide_pipeline(made.pipe, Bright(), 0.1),
    ):
        made.pipe()
    made.pipe.__class__ = plain
    with (
        pytest.raises(WMRewardError, match="no call of WanPipeline came"),
        guide_pipeline(made.pipe, Bright(), 0.1),
    ):
        pass


def test_old_versions_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wmreward.pipelines.guide.metadata.version", lambda _: "0.35.2")
    with (
        pytest.raises(WMRewardError, match=r"diffusers 0\.35\.2 is older than 0\.36"),
        guide_pipeline(tiny("wan").pipe, Bright(), 0.1),
    ):
        raise AssertionError


def test_a_new_family_is_a_class() -> None:
    """As the documentation shows it."""
    made = stranger()

    class Strange(Family):
        pipelines = frozenset({"StrangePipeline"})

        def denormalised(self, latents: Tensor) -> Tensor:
            vae = self.pipe.vae.config
            mean, std = torch.tensor(vae.latents_mean), torch.tensor(vae.latents_std)
            return latents * std.view(1, -1, 1, 1, 1) + mean.view(1, -1, 1, 1, 1)

        @property
        def temporal_factor(self) -> int:
            return 4

    plain = made.video()
    with guide_pipeline(made.pipe, Bright(), config(), family=Strange):
        assert made.video().mean() > plain.mean()
    assert list(inspect.signature(Strange).parameters) == ["pipe", "call"]
