"""Guidance: its schedule, its gradient against finite differences, its effect, its fallbacks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from fakes import NANO_TINY, random_model
from hypothesis import given
from hypothesis import strategies as st
from magi1_fakes import nano_config, write_nano
from torch import Tensor

from magi1.pipeline import Pipeline, Request
from wmreward.errors import UsageError, WMRewardError
from wmreward.protocols import RewardScores
from wmreward.rewards.world import SurpriseReward
from wmreward.steering.guidance import Guidance, GuidanceConfig, GuidedStep, Relief, effect
from wmreward.steering.keep_edges import edge_energy, without_blur
from wmreward.steering.schedule import GuidanceSchedule
from wmreward.surprise.config import SurpriseConfig
from wmreward.surprise.scorer import SurpriseScorer


@dataclass
class Step:
    """A generator of which everything is known: decoding is a fixed random map of each latent frame."""

    latents: Tensor
    velocity: Tensor
    times: Tensor
    finished: Tensor
    steps: tuple[int, ...] = (3, 2)
    first_chunk: int = 1
    chunk_width: int = 3
    decode_unit: int = 3
    frames_per_latent: int = 2
    given: int = 0

    def __post_init__(self) -> None:
        self.next_times = self.times + 0.05
        generator = torch.Generator().manual_seed(5)
        self.mix = torch.randn(6, 4, generator=generator, dtype=torch.float64)
        self.drag = torch.randn(4, 4, generator=generator, dtype=torch.float64)

    def clean_estimate(self, latents: Tensor, velocity: Tensor) -> Tensor:
        left = (1 - self.times).repeat_interleave(self.chunk_width)[:, None, None].clone()
        left[: self.given] = 0
        return latents + left * velocity

    def model(self, latents: Tensor) -> Tensor:
        return torch.einsum("bcthw,dc->bdthw", latents.tanh(), self.drag)

    def decode(self, latents: Tensor) -> Tensor:
        video = torch.einsum("bcthw,kc->bkthw", latents, self.mix).sin()
        return video.unflatten(1, (3, 2)).movedim(2, 3).flatten(2, 3)

    def resample(self, ancestors: Tensor) -> None:
        raise NotImplementedError


def make_step(chunks: int = 2, *, finished: int = 3, batch: int = 2, **changes: Any) -> Step:
    generator = torch.Generator().manual_seed(1)

    def draw(frames: int) -> Tensor:
        return torch.randn(batch, 4, frames, 2, 2, generator=generator, dtype=torch.float64)

    latents = draw(3 * chunks)
    times = torch.tensor([0.6, 0.3], dtype=torch.float64)[:chunks]
    changes = {"steps": (3, 2)[:chunks], **changes}
    step = Step(latents, latents, times, draw(finished), **changes)
    step.velocity = step.model(latents)
    return step


def smooth(videos: Tensor) -> RewardScores:
    """A reward with context: frames should follow from those before them."""
    later, before = videos[:, :, 1:], videos[:, :, :-1]
    scores = -(later - 0.7 * before).square().mean(dim=(1, 2, 3, 4))
    return RewardScores(scores, {})


def always(
    scale: float = 0.1, steps: int = 8, measure: bool = True, **options: Any
) -> GuidanceConfig:
    schedule = GuidanceSchedule.make(steps, scale=scale)
    return GuidanceConfig(schedule=schedule, context_frames=4, measure=measure, **options)


def reward_at(step: Step, latents: Tensor, velocity: Tensor) -> Tensor:
    """What guidance climbs, written out: context, then the clean estimate."""
    clean = step.clean_estimate(latents, velocity)
    video = torch.cat((step.decode(step.finished)[:, :, -4:], step.decode(clean)), dim=2)
    return smooth(video).scores


# --- the gradient -------------------------------------------------------------------------------------


@pytest.mark.parametrize("through", ["x0", "dit"])
@pytest.mark.parametrize("rule", ["relative", "tilt"])
def test_the_push_is_the_gradient_by_finite_differences(through: Any, rule: Any) -> None:
    step = make_step()
    pushed = Guidance(smooth, always(0.1, through=through, rule=rule))(step) - step.velocity

    def rewards(moved: Tensor) -> Tensor:
        if through == "dit":
            return reward_at(step, moved, step.model(moved))
        clean = step.clean_estimate(step.latents, step.velocity) + moved - step.latents
        video = torch.cat((step.decode(step.finished)[:, :, -4:], step.decode(clean)), dim=2)
        return smooth(video).scores

    gradient, eps = torch.zeros_like(step.latents), 1e-6
    for index in range(step.latents[0].numel()):
        bump = torch.zeros_like(step.latents).flatten(1)
        bump[:, index] = eps
        bump = bump.view_as(step.latents)
        slope = (rewards(step.latents + bump) - rewards(step.latents - bump)) / (2 * eps)
        gradient.flatten(1)[:, index] = slope
    for chunk in range(2):
        frames = slice(3 * chunk, 3 * chunk + 3)
        for b in range(2):
            g, v = gradient[b, :, frames], step.velocity[b, :, frames]
            if rule == "relative":
                wanted = 0.1 * v.norm() / g.norm() * g
            else:
                t = step.times[chunk]
                wanted = 0.1 * (1 - t) / t * g
                wanted = wanted * (0.5 * v.norm() / wanted.norm()).clamp(max=1)
            torch.testing.assert_close(pushed[b, :, frames], wanted, atol=1e-7, rtol=1e-5)


@pytest.mark.parametrize("through", ["x0", "dit"])
def test_few_videos_at_a_time_are_all_at_once(
    through: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[int] = []

    def reward(videos: Tensor) -> RewardScores:
        shown.append(len(videos))
        return smooth(videos)

    step = make_step(batch=5)
    together = Guidance(smooth, always(0.1, through=through))
    apart = Guidance(reward, always(0.1, through=through))
    apart._rewards.batch_size = 2
    torch.testing.assert_close(apart(step), together(step), atol=1e-12, rtol=0)
    assert shown == [2, 2, 1] * 2  # the gradient, and what it led to
    assert apart.records[0].after == pytest.approx(together.records[0].after)


class Continues:
    """A reward that is told where given frames end, and keeps what it was shown."""

    def __init__(self) -> None:
        self.shown: list[tuple[int, int]] = []

    def __call__(self, videos: Tensor) -> RewardScores:
        raise AssertionError("it wants to know where given frames end")

    def after(self, videos: Tensor, given: int) -> RewardScores:
        self.shown.append((videos.shape[2], given))
        return smooth(videos)


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (0, [(10, 4), (10, 4)]),  # two chunks of six frames, each after the four before it
        (
            1,
            [(8, 4), (10, 4)],
        ),  # the first latent frame in flight is given: two frames less are new
        (3, [(10, 4)]),  # the whole first chunk is
    ],
)
def test_every_chunk_in_flight_continues_what_is_before_it(
    given: int, shown: list[tuple[int, int]]
) -> None:
    reward, step = Continues(), make_step(given=given)
    pushed = Guidance(reward, always(measure=False))(step) - step.velocity
    assert reward.shown == shown
    width = step.chunk_width
    assert (pushed[:, :, :given] == 0).all() and (pushed[:, :, width:] != 0).any()


def test_a_gradient_without_blur_lowers_no_edges_in_any_chunk() -> None:
    generator = torch.Generator().manual_seed(0)
    gradient, sharpens = torch.randn(2, 3, 4, 6, 5, 5, generator=generator, dtype=torch.float64)
    kept = without_blur(gradient, sharpens, 3)

    def along(x: Tensor) -> Tensor:
        return (x * sharpens).unflatten(2, (2, 3)).sum(dim=(1, 3, 4, 5))

    blurs = along(gradient) < 0
    assert blurs.any() and not blurs.all()
    zero = torch.zeros_like(along(kept))
    torch.testing.assert_close(along(kept).where(blurs, zero), zero, atol=1e-9, rtol=0)
    whole = blurs.repeat_interleave(3, dim=1)[:, None, :, None, None]
    torch.testing.assert_close(kept.where(~whole, 0), gradient.where(~whole, 0))
    assert ((kept * gradient).sum(dim=(1, 2, 3, 4)) > 0).all()


@pytest.mark.parametrize("through", ["x0", "dit"])
def test_a_push_that_keeps_edges_blurs_less(through: Any) -> None:
    """Nothing to first order, where the velocity is held."""
    step = make_step(batch=3)

    def blurs(videos: Tensor) -> RewardScores:
        return RewardScores(smooth(videos).scores - 5 * edge_energy(videos), {})

    def edges(change: Tensor) -> Tensor:
        latents = step.latents + 1e-3 * change
        velocity = step.velocity if through == "x0" else step.model(latents)
        video = step.decode(step.clean_estimate(latents, velocity))
        return edge_energy(torch.cat((step.decode(step.finished)[:, :, -4:], video), dim=2))

    def lost(keep: Any) -> Tensor:
        guided = Guidance(blurs, always(1e-4, through=through, keep=keep))(step)
        assert not torch.equal(guided, step.velocity)
        return edges(torch.zeros_like(guided)) - edges(guided - step.velocity)

    assert (lost("nothing") > 0).all()
    kept = 0.01 if through == "x0" else 0.5
    assert (lost("edges") < kept * lost("nothing")).all()


def test_the_tilt_is_bounded_where_time_is_small() -> None:
    step = make_step()
    step.times = torch.tensor([1e-9, 0.3], dtype=torch.float64)
    pushed = Guidance(smooth, always(5.0, rule="tilt"))(step) - step.velocity
    ratio = pushed[:, :, :3].norm() / step.velocity[:, :, :3].norm()
    assert pushed.isfinite().all() and ratio <= 0.5 + 1e-9


@pytest.mark.parametrize("through", ["x0", "dit"])
def test_guidance_climbs_and_chance_does_not(through: Any) -> None:
    step = make_step()
    guidance = Guidance(smooth, always(0.05, null=True, through=through))
    corrected = guidance(step)
    (record,) = guidance.records
    # Where the correction of one step of 0.05 leads, the step itself left out.
    moved = step.latents + 0.05 * (corrected - step.velocity)
    velocity = step.velocity if through == "x0" else step.model(moved)
    before = reward_at(step, step.latents, step.velocity).mean().item()
    after = reward_at(step, moved, velocity).mean().item()
    assert record.before == pytest.approx(before) and record.after == pytest.approx(after)
    assert after > before
    assert record.after_random is not None and record.after_random < after
    assert record.change == pytest.approx(0.05) and -1 <= record.cosine <= 1
    assert record.chunks == [1, 2] and record.steps == [3, 2] and record.scales == [0.05] * 2


def test_repeats_climb_further() -> None:
    step = make_step()
    once, thrice = (Guidance(smooth, always(0.05, repeats=repeats)) for repeats in (1, 3))
    once(step), thrice(step)
    assert (thrice.records[0].gain or 0) > (once.records[0].gain or 0) > 0


def test_what_a_step_did_need_not_be_measured() -> None:
    """The video is the same, and the reward is asked once less."""
    asked: list[bool] = []

    def watched(videos: Tensor) -> RewardScores:
        asked.append(videos.requires_grad)
        return smooth(videos)

    step = make_step()
    measured, blind = (
        Guidance(watched, always(0.05, measure=measure)) for measure in (True, False)
    )
    assert torch.equal(measured(step), blind(step))
    assert asked == [True, False, True]
    assert measured.config.to_json() == blind.config.to_json()
    (record,) = blind.records
    assert record.after is None and record.gain is None
    whole = effect(blind.records)
    assert whole.gain is None and whole.beyond_null is None
    assert str(whole) == "guidance acted on 1 steps and changed the velocity by 5 %"
    assert effect(measured.records).gain == measured.records[0].gain


def test_random_directions_have_the_same_size_and_depend_on_the_seed() -> None:
    step = make_step()
    sizes, pushes = [], []
    for seed in (0, 0, 1):
        config = always(0.1, direction="random", seed=seed)
        push = Guidance(smooth, config)(step) - step.velocity
        sizes.append((push.norm() / step.velocity.norm()).item())
        pushes.append(push)
    assert sizes == pytest.approx([0.1] * 3)
    assert torch.equal(pushes[0], pushes[1]) and not torch.equal(pushes[0], pushes[2])


# --- what is left alone -------------------------------------------------------------------------------


def test_strength_zero_gives_back_the_very_velocity() -> None:
    step = make_step()
    guidance = Guidance(smooth, always(0.0))
    assert guidance(step) is step.velocity and guidance.records == []


def test_only_chunks_in_the_time_range_move_and_later_ones_are_not_decoded() -> None:
    step = make_step()
    schedule = GuidanceSchedule.make(8, scale=0.1, times=(0.5, 1.0))
    decoded: list[int] = []
    plain = step.decode
    step.decode = lambda z: decoded.append(z.shape[2]) or plain(z)  # type: ignore[method-assign, func-returns-value]
    config = replace(always(), schedule=schedule)
    pushed = Guidance(smooth, config)(step) - step.velocity
    assert pushed[:, :, :3].abs().max() > 0
    assert torch.equal(pushed[:, :, 3:], torch.zeros_like(pushed[:, :, 3:]))
    assert max(decoded) == 3


def test_given_frames_are_context_and_are_not_pushed() -> None:
    step = make_step(given=2)
    pushed = Guidance(smooth, always())(step) - step.velocity
    assert torch.equal(pushed[:, :, :2], torch.zeros_like(pushed[:, :, :2]))
    assert pushed[:, :, 2].abs().max() > 0
    size = pushed[0, :, :3].norm().item()
    assert size == pytest.approx((0.1 * step.velocity[0, :, :3].norm()).item())


def test_too_few_frames_for_the_reward() -> None:
    step = make_step(1, finished=0)
    assert Guidance(smooth, always(), min_frames=7)(step) is step.velocity
    assert Guidance(smooth, always(), min_frames=6)(step) is not step.velocity
    longer = make_step(1, finished=3)
    assert Guidance(smooth, always(), min_frames=10)(longer) is not longer.velocity


def test_the_context_is_decoded_once_a_stage() -> None:
    calls: list[int] = []
    guidance = Guidance(smooth, always())
    for finished in (3, 3, 6):
        step = make_step(finished=finished)
        plain = step.decode
        step.decode = lambda z, plain=plain: calls.append(z.shape[2]) or plain(z)  # type: ignore[method-assign, func-returns-value, misc]
        guidance(step)
    # Context of one unit (4 frames), then open frames with and after the gradient.
    assert calls == [3, 6, 6, 6, 6, 3, 6, 6]


# --- schedules ----------------------------------------------------------------------------------------


def test_schedules_as_the_original_writes_them() -> None:
    make = GuidanceSchedule.make
    assert make(4, scale=0.5).scales == (0.5,) * 4
    assert make(4, scale=0.5, frequency=2).scales == (0.5, 0, 0.5, 0)
    assert make(6, scale=2, which="0x2,1x3,0").scales == (0, 0, 2, 2, 2, 0)
    assert make(50, scales="0.001x50").scales == (0.001,) * 50
    assert make(4, scales="0.1,0.2x2,0", which="1x3,0").scales == (0.1, 0.2, 0.2, 0)
    assert not make(4).acts and make(4, scale=1).acts
    assert make(4, scale=1, times=(0.2, 0.5)).of([0, 1, 2], [0.1, 0.2, 0.6]) == [0, 1, 0]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"which": "1x5"}, "is for 5 steps, but the sampler takes 4"),
        ({"scales": "0.1x3"}, "is for 3 steps"),
        ({"which": "2x4"}, "must hold 0 and 1 only"),
        ({"scales": "a x4"}, "is not a number"),
        ({"scales": "1-2x4"}, "is not a number"),
        ({"scales": "-1x4"}, "must be numbers from 0 on"),
        ({"frequency": 0}, "must be at least 1"),
        ({"times": (0.5, 0.2)}, "must rise"),
    ],
)
def test_wrong_schedules(options: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        GuidanceSchedule.make(4, scale=1, **options)


@given(st.lists(st.tuples(st.sampled_from([0, 1]), st.integers(1, 9)), min_size=1, max_size=6))
def test_runs_are_read_as_written(runs: list[tuple[int, int]]) -> None:
    text = ",".join(f"{value}x{count}" for value, count in runs)
    steps = sum(count for _, count in runs)
    wanted = [float(value) for value, count in runs for _ in range(count)]
    assert list(GuidanceSchedule.make(steps, scale=1, which=text).scales) == wanted


def test_wrong_settings() -> None:
    with pytest.raises(UsageError, match="through='vae' must be one of x0, dit"):
        always(through="vae")
    with pytest.raises(UsageError, match="repeats=0"):
        always(repeats=0)


# --- memory -------------------------------------------------------------------------------------------


def test_memory_is_given_up_step_by_step_with_a_warning_each(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wmreward.steering.guidance._gpu_memory", lambda: "7.9 GiB used of 8.0")
    room = 0

    def reward(videos: Tensor) -> RewardScores:
        if room < 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return smooth(videos)

    def relieve() -> None:
        nonlocal room
        room += 1

    reliefs = [Relief("fewer windows at a time", relieve), Relief("one window at a time", relieve)]
    step = make_step()
    guidance = Guidance(reward, always(), reliefs=reliefs)
    assert guidance(step) is not step.velocity
    assert [record.message for record in caplog.records] == [
        "guidance does not fit the GPU's memory: fewer windows at a time",
        "guidance does not fit the GPU's memory: one window at a time",
    ]
    room = 0
    with pytest.raises(WMRewardError, match=r"7\.9 GiB used of 8\.0"):
        Guidance(reward, always(), reliefs=reliefs[:1])(step)


# --- what is said of a run ----------------------------------------------------------------------------


def record(gain: float, null: float | None) -> GuidedStep:
    after = None if null is None else 1 + null
    return GuidedStep(0, [0], [0], [0.5], [0.1], 1.0, 1 + gain, after, 0.1, 0.0, 1.0, 0.1, None)


def test_an_effect_within_the_noise_is_called_so() -> None:
    works = effect([record(0.5, 0.01), record(0.4, -0.01)])
    assert works.beyond_null is True and "chance" not in str(works)
    idle = effect([record(0.01, 0.5), record(0.01, -0.5)])
    assert idle.beyond_null is False and "nothing that chance would not do" in str(idle)
    late = effect(
        [record(0.5, 0.4), record(-0.5, -0.6)]
    )  # steps differ, but not in who does better
    assert late.beyond_null is True and late.null_gain == pytest.approx(-0.1)
    assert effect([record(0.5, None)]).beyond_null is None
    assert str(effect([])) == "guidance acted on no step"


def test_overshooting_is_called_so() -> None:
    assert "raised the reward of the estimate by 0.5 a step" in str(effect([record(0.5, None)]))
    worse = str(effect([record(-0.5, None)]))
    assert "lowered the reward of the estimate by 0.5 a step" in worse and "overshoot" in worse


# --- with a generator and a world model ---------------------------------------------------------------


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    folder = tmp_path_factory.mktemp("nano")
    write_nano(folder)
    return Pipeline(nano_config(folder))


@pytest.fixture(scope="module")
def surprise() -> SurpriseReward:
    model = random_model(NANO_TINY, dtype=torch.float32)
    return SurpriseReward(SurpriseScorer(model, SurpriseConfig(stride=4)))


def guided(
    pipeline: Pipeline, make_guide: Callable[[], Guidance] | None, request: Request
) -> tuple[Tensor, Guidance | None]:
    guide = None if make_guide is None else make_guide()
    prepared = pipeline.prepare(request)
    chunks = list(pipeline.sample(prepared, seed=3, guide=guide))
    return torch.cat([chunk.finished.latents for chunk in chunks], dim=2), guide


@pytest.mark.parametrize("through", ["x0", "dit"])
def test_a_guided_video_surprises_less_at_every_guided_step(
    pipeline: Pipeline, surprise: SurpriseReward, through: Any
) -> None:
    config = GuidanceConfig(
        schedule=GuidanceSchedule.make(8, scale=0.02),
        through=through,
        measure=True,
        context_frames=12,
    )
    request = Request(prompt="a red ball")
    pipeline.dit.checkpointing = True
    latents, guide = guided(pipeline, lambda: Guidance(surprise, config, min_frames=16), request)
    plain, _ = guided(pipeline, None, request)
    assert guide is not None and len(guide.records) == 10
    assert not torch.equal(latents, plain)
    assert sum((record.gain or 0) > 0 for record in guide.records) >= 9
    # Later chunks have the finished one as context.
    assert guide.records[-1].chunks == [1]


def test_guidance_of_strength_zero_is_bit_identical_to_none(
    pipeline: Pipeline, surprise: SurpriseReward
) -> None:
    config = GuidanceConfig(schedule=GuidanceSchedule.make(8, scale=0.0))
    request = Request(prompt="a red ball")
    latents, _ = guided(pipeline, lambda: Guidance(surprise, config), request)
    assert torch.equal(latents, guided(pipeline, None, request)[0])


def test_the_continuation_of_a_video_is_guided_in_its_context(
    pipeline: Pipeline, surprise: SurpriseReward, tmp_path: Path
) -> None:
    given = torch.randint(0, 256, (24, 16, 16, 3), dtype=torch.uint8)
    config = GuidanceConfig(schedule=GuidanceSchedule.make(8, scale=0.02), context_frames=12)
    request = Request(prompt="", given=given)
    _, guide = guided(pipeline, lambda: Guidance(surprise, config, min_frames=16), request)
    assert guide is not None and guide.records[0].chunks == [1]
    other = Request(prompt="", given=255 - given)
    _, elsewhere = guided(pipeline, lambda: Guidance(surprise, config, min_frames=16), other)
    assert elsewhere is not None and elsewhere.records[0].before != guide.records[0].before
