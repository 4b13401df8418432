"""Schedule, guidance and the denoising loop against golden vectors, and on a velocity with a known answer."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from magi1_goldens import COMMITTED, COMPLETE, Golden, close, golden, goldens
from test_magi1_dit import NANO, golden_dit, nano
from torch import Tensor

from magi1.config import EngineConfig, MagiConfig, RuntimeConfig
from magi1.errors import MagiError, MagiUsageError
from magi1.sampling.sampler import (
    DenoiseStep,
    FinishedChunk,
    LoopState,
    NotFiniteError,
    denoise,
    make_noise,
)
from magi1.sampling.schedule import (
    ChunkCall,
    VideoLayout,
    chunk_calls,
    distilled_step_size,
    guidance_scales,
    plan_calls,
    prefix_span,
    time_steps,
)
from magi1.sampling.velocity import MagiVelocity, VideoTexts
from magi1.transformer.kv_cache import KVCache

FORWARD, LOOPS, TABLES = 2e-5, 1e-4, 1e-6


def golden_config(case: Golden) -> MagiConfig:
    """A case's configuration; its tiny sizes are below what a file may ask for."""
    sections = case.metadata["config"]
    runtime = dict(sections["runtime_config"])
    for name in ("cfg_t_range", "prev_chunk_scales", "text_scales", "noise2clean_kvrange"):
        runtime[name] = tuple(runtime[name])
    return MagiConfig(
        model_config=golden_dit(case).config,
        runtime_config=RuntimeConfig(**runtime),
        engine_config=EngineConfig(**sections["engine_config"]),
    )


# --- schedule -----------------------------------------------------------------------------------------


def test_time_steps() -> None:
    case = golden("timesteps")
    for name, spec in case.metadata["specs"].items():
        asked = spec["t_schedule_config"]
        times = time_steps(
            spec["num_steps"],
            transform=asked.get("tSchedulerFunc", "sd3"),
            shift=asked.get("shift", 3.0),
            shortcut_mode=spec["shortcut_mode"],
        )
        assert times.equal(case[f"{name}.t"]), name
        # The bent grids end one float32 above 1.
        assert times[0] == 0 and times[-1].item() in (1, 1 + 2**-23), name
        if spec["num_steps"] == 12:
            told = [distilled_step_size(12, i, spec["shortcut_mode"]) for i in range(12)]
            assert told == (8 / case[f"{name}.interval"]).tolist()


@pytest.mark.parametrize("steps", [8, 12, 16, 32, 64])
def test_the_last_quarter_begins_at_the_float_above_three_tenths(steps: int) -> None:
    """On it hangs where guidance changes and where distilled models run a chunk twice."""
    assert time_steps(steps)[steps * 3 // 4].item() == 0.30000001192092896


def test_distilled_models_are_told_half_their_steps() -> None:
    assert [distilled_step_size(n, 0) for n in (8, 16, 32, 64)] == [4, 8, 16, 32]


def test_guidance_scales() -> None:
    case = golden("cfg_scales")
    runtime = replace(
        golden_config(golden("loop_A_t2v_3chunks_8steps")).runtime_config,
        cfg_t_range=tuple(case["cfg_t_range"].tolist()),
        prev_chunk_scales=tuple(case["prev_chunk_scales"].tolist()),
        text_scales=tuple(case["text_scales"].tolist()),
    )
    previous, text = guidance_scales(case["t"], runtime)
    torch.testing.assert_close(previous, case["out.prev"], atol=TABLES, rtol=0)
    torch.testing.assert_close(text, case["out.text"], atol=TABLES, rtol=0)


def tables() -> dict[str, Any]:
    folder = COMPLETE if COMPLETE.exists() else COMMITTED
    loaded: dict[str, Any] = json.loads((folder / "tables.json").read_text())
    return loaded


RUNTIME = golden_config(golden("loop_A_t2v_3chunks_8steps")).runtime_config


def test_which_chunks_run_in_which_stage() -> None:
    for sequence in tables()["sequences"]:
        window, offset = sequence["window_size"], sequence["chunk_offset"]
        layout = VideoLayout(offset * 6, 6, sequence["chunk_num"])
        calls = chunk_calls(layout, replace(RUNTIME, window_size=window, num_steps=8 * window))
        stages = [call for call in calls if call.inner == 0]
        assert [call.first for call in stages] == sequence["clip_start"]
        assert [call.last for call in stages] == sequence["clip_end"]
        quarters = [[k // 8 for k in call.steps] for call in stages]
        assert [q[-1] for q in quarters] == sequence["t_start"]
        assert [q[0] + 1 for q in quarters] == sequence["t_end"]


def test_frame_bookkeeping() -> None:
    for row in tables()["bookkeeping"]:
        runtime = replace(RUNTIME, num_frames=row["num_frames"], chunk_width=row["chunk_width"])
        layout = VideoLayout.plan(runtime, row["prefix_latent_frames"])
        assert (layout.frames, layout.chunks) == (row["latent_T"], row["chunk_num"])
        assert layout.chunks - layout.offset == row["report_chunks"]
        assert len(chunk_calls(layout, runtime)) == row["model_calls_at_8_steps_window4"]


@given(
    chunks=st.integers(1, 9),
    prefix=st.integers(0, 20),
    window=st.sampled_from([1, 2, 4]),
    spans=st.sampled_from([(5, 4, 3, 2), (2, 1), (1,), ()]),
    clean=st.sampled_from([-1, 1, 2, 3]),
)
def test_every_chunk_is_denoised_once_in_order(
    chunks: int, prefix: int, window: int, spans: tuple[int, ...], clean: int
) -> None:
    runtime = replace(
        RUNTIME,
        window_size=window,
        num_steps=8,
        noise2clean_kvrange=spans,
        clean_chunk_kvrange=clean,
    )
    layout = VideoLayout(prefix, 6, prefix // 6 + chunks)
    calls = chunk_calls(layout, runtime)
    steps: dict[int, list[int]] = {}
    cached: set[int] = set(range(calls[0].reads_from, layout.offset))
    for chunk in cached:  # what it sees in turn
        assert set(range(max(0, chunk + 1 - prefix_span(runtime)), chunk)) <= cached
    for number, call in enumerate(calls):
        assert call.number == number and 1 <= len(call.steps) <= window
        if call.refresh:
            assert set(range(call.clean_range[0], call.first - 1)) <= cached
            cached.add(call.first - 1)
        cached = {chunk for chunk in cached if chunk >= call.oldest}
        for chunk, step, (start, stop) in zip(
            range(call.first, call.last), call.steps, call.ranges, strict=True
        ):
            steps.setdefault(chunk, []).append(step)
            assert start <= chunk == stop - 1
            assert set(range(start, call.first)) <= cached
        assert call.finishes == (steps[call.first] == list(range(8)))
    assert steps == {chunk: list(range(8)) for chunk in range(layout.offset, layout.chunks)}


def test_at_most_one_finished_chunk_is_kept_while_the_window_is_full() -> None:
    calls = chunk_calls(VideoLayout(0, 6, 12), replace(RUNTIME, window_size=4, num_steps=8))
    assert max(call.first - call.oldest for call in calls) == 1
    calls = chunk_calls(VideoLayout(0, 6, 12), replace(RUNTIME, window_size=1, num_steps=8))
    assert max(call.first - call.oldest for call in calls) == 4


# --- guidance -----------------------------------------------------------------------------------------


def _call_of(case: Golden) -> tuple[ChunkCall, VideoTexts, MagiVelocity]:
    """The single call of a dispatcher file: texts are given per chunk of the call, not of the video."""
    config, kwargs = golden_config(case), case.metadata["call_kwargs"]
    config = replace(
        config, runtime_config=replace(config.runtime_config, num_steps=kwargs["num_steps"])
    )
    dit = golden_dit(case)
    extra, first = int(kwargs["fwd_extra_1st_chunk"]), kwargs["slice_point"]
    size = case["in.x"].shape[3] * case["in.x"].shape[4] // 4 * 6
    ranges = [tuple(pair) for pair in (case["in.kv_range"] // size).tolist()]
    count = case["in.t"].shape[1]
    call = ChunkCall(
        number=0,
        inner=0,
        first=first + extra,
        steps=(0,) * (count - extra),
        ranges=tuple(ranges[extra:]),
        refresh=bool(extra),
        clean_range=ranges[0],
        oldest=0,
        finishes=False,
    )
    rows = case["in.y"].unflatten(0, (2, count)).squeeze(2)
    mask = case["in.mask"].unflatten(0, (2, count)).squeeze(2)
    text, null = (dit.prepare_text(rows[i : i + 1], mask[i : i + 1]) for i in (0, 1))
    before = text[:1]
    for _ in range(call.first - 1):
        before = before + text[:1]
    texts = VideoTexts(
        text=(before + text[extra:]) if call.first else text,
        null=(before + null[extra:]) if call.first else null,
        clean=null[:1],
    )
    cache = KVCache()
    for layer in range(len(dit.videodit_blocks.layers)):
        for chunk, part in enumerate(case[f"in.cache.layer{layer}"].split(size)):
            if len(part):
                key, value = part[None].chunk(2, dim=-1)
                cache.write(layer, chunk, key, value)
    return call, texts, MagiVelocity(dit, config, texts, cache)


DISPATCHED = ["dit_A_cfg3_extra", "dit_A_cfg3_noextra", "dit_B_cfg3_extra"]
DISPATCHED += ["dit_A_distill_nearclean_extra", "dit_A_distill_nearclean_noextra"]


@pytest.mark.parametrize("name", DISPATCHED)
def test_one_guided_call(name: str) -> None:
    case = golden(name)
    call, _, velocity = _call_of(case)
    x, times = case["in.x"], case["in.t"][0]
    width = 6 if call.refresh else 0
    out = velocity(call, x[:, :, width:], times[width // 6 :], x[:, :, :width] if width else None)
    close(out, case["out.velocity"][:, :, width:], FORWARD)
    if call.refresh:  # the finished chunk is in the cache now
        for layer in range(len(velocity.dit.videodit_blocks.layers)):
            key, value = velocity.cache.read(layer, call.first - 1, call.first, x.device)[0]
            wanted = case[f"out.cache.layer{layer}"][-key.shape[1] :]
            close(torch.cat((key, value), dim=-1)[0], wanted, FORWARD)


def test_the_share_of_context_may_be_another_as_in_magi1(monkeypatch: pytest.MonkeyPatch) -> None:
    """A distilled model's velocity lies on the line through that with context and that alone."""
    case = golden("dit_A_distill_nearclean_noextra")
    x, times = case["in.x"], case["in.t"][0]
    mixed = {}
    for share in (0.7, 1.0, 0.0):
        monkeypatch.setenv("prev_chunks_scale", str(share))
        call, _, velocity = _call_of(case)
        mixed[share] = velocity(call, x, times)
    between = 0.7 * mixed[1.0] + 0.3 * mixed[0.0]
    torch.testing.assert_close(mixed[0.7], between, atol=1e-5, rtol=0)
    assert (mixed[1.0] - mixed[0.0])[:, :, :6].abs().max() > 1e-3
    assert torch.equal(mixed[1.0][:, :, 6:], mixed[0.0][:, :, 6:])
    for wrong in ("", "much", "nan"):
        monkeypatch.setenv("prev_chunks_scale", wrong)
        with pytest.raises(
            MagiUsageError, match=r"prev_chunks_scale=.* must be a number such as 0.7"
        ):
            _call_of(case)


def test_branches_of_weight_zero_are_not_computed() -> None:
    config = nano_config()
    passes: list[tuple[int, int, bool]] = []
    dit = nano()
    dit.register_forward_pre_hook(
        lambda _, args, kwargs: passes.append(
            (*args[1].shape, kwargs["text_dropped"])  # batch, chunks, which adaLN row
        ),
        with_kwargs=True,
    )
    velocity = MagiVelocity(dit, config, nano_texts(dit, 4))
    calls = chunk_calls(VideoLayout(0, 2, 4), config.runtime_config)
    x = torch.randn(1, 4, 8, 4, 6)
    times = time_steps(8)

    def passes_of(call: ChunkCall) -> list[tuple[int, int, bool]]:
        passes.clear()
        frames = slice(2 * call.first, 2 * call.last)
        clean = x[:, :, 2 * call.first - 2 : 2 * call.first] if call.refresh else None
        velocity(call, x[:, :, frames], times[list(call.steps)], clean)
        return list(passes)

    # Full window: with text and without (finished chunk first), and alone but for the cleanest.
    full = [passes_of(call) for call in calls]
    assert full[0] == [(1, 1, True), (1, 1, False), (1, 1, True)]
    assert full[6] == [(1, 4, True), (1, 4, False), (3, 1, True)]
    assert full[8] == [(1, 4, True), (1, 4, False), (2, 1, True)]
    # The last stage: beyond t = 0.3 text plays no role, and v is one branch.
    assert full[-2:] == [[(1, 2, True)], [(1, 1, True)]]


# --- loops --------------------------------------------------------------------------------------------

LOOP_FILES = goldens(
    "loop_A_t2v_3chunks_8steps",
    "loop_A_distill_3chunks_12steps",
    "loop_A_v2v_prefix8_3chunks_8steps",
    further=[
        "loop_A_i2v_3chunks_8steps",
        "loop_A_distill_3chunks_8steps",
        "loop_B_t2v_2chunks_8steps",
    ],
)


@pytest.mark.parametrize("name", LOOP_FILES)
def test_whole_loops(name: str) -> None:
    case = golden(name)
    config = golden_config(case)
    dit = golden_dit(case)
    prefix = case.tensors.get("in.prefix_latents")
    given_frames = 0 if prefix is None else prefix.shape[2]
    layout = VideoLayout(given_frames, 6, int(case.metadata["chunk_num"]))
    texts = VideoTexts.prepare(dit, case["in.y"], case["in.mask"])
    states: list[Tensor] = []
    engine, steps = config.engine_config, config.runtime_config.num_steps
    chunks = list(
        denoise(
            MagiVelocity(dit, config, texts),
            case["in.noise"],
            time_steps(steps, shortcut_mode=engine.shortcut_mode),
            chunk_calls(layout, config.runtime_config),
            layout,
            prefix=prefix,
            on_call=lambda _, x: states.append(x.clone()),
        )
    )
    for piece in chunks:
        number = piece.chunk - layout.offset
        close(piece.latents, case[f"out.chunk{number}.index{number}"], LOOPS)
    own = slice(layout.offset * 6, None)  # full chunks of the prefix are never denoised
    close(states[-1][:, :, own], case["out.final_x"][:, :, own], LOOPS)
    for key in case.tensors:
        if key.startswith("trace."):
            close(states[int(key[-3:])][:, :, own], case[key][:, :, own], LOOPS)


# --- the loop on a velocity with a known answer -------------------------------------------------------


class Straight:
    """Flows straight to a target: after the last step every chunk is exactly there."""

    def __init__(self, target: Tensor, width: int) -> None:
        self.target, self.width = target, width
        self.filled: list[int] = []
        self.cleans: list[Tensor] = []

    def __call__(
        self, call: ChunkCall, x: Tensor, times: Tensor, clean: Tensor | None = None
    ) -> Tensor:
        if clean is not None:
            self.cleans.append(clean.clone())
        frames = slice(call.first * self.width, call.last * self.width)
        left = 1 - times.repeat_interleave(self.width)[:, None, None]
        return (self.target[:, :, frames] - x) / left

    def fill(self, latents: Tensor, first: int, *, count: int, given: int) -> None:
        self.filled += range(first, first + count)

    def select(self, rows: Tensor) -> None:
        self.target = self.target[rows]


def straight_loop(
    prefix: Tensor | None = None, **options: Any
) -> tuple[Straight, VideoLayout, list[FinishedChunk]]:
    width, runtime = 3, replace(RUNTIME, num_steps=8, chunk_width=3, window_size=4)
    layout = VideoLayout(0 if prefix is None else prefix.shape[2], width, 4)
    target = torch.randn(2, 5, 12, 2, 3, generator=torch.Generator().manual_seed(3))
    velocity = Straight(target, width)
    noise = make_noise(layout, 5, 2, 3, seed=1).expand(2, -1, -1, -1, -1)
    chunks = denoise(
        velocity,
        noise,
        time_steps(8),
        chunk_calls(layout, runtime),
        layout,
        prefix=prefix,
        **options,
    )
    return velocity, layout, list(chunks)


def test_a_straight_flow_arrives() -> None:
    velocity, layout, chunks = straight_loop()
    assert [piece.chunk for piece in chunks] == [0, 1, 2, 3]
    for piece in chunks:
        wanted = velocity.target[:, :, layout.of_chunk(piece.chunk)]
        torch.testing.assert_close(piece.latents, wanted, atol=1e-5, rtol=0)
    # Each finished chunk is run once more, as it was emitted.
    for clean, piece in zip(velocity.cleans, chunks, strict=False):
        assert torch.equal(clean, piece.latents)


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 7])
def test_given_frames(frames: int) -> None:
    """An image opens the output, a video does not come back; whole chunks of it are context."""
    prefix = torch.randn(2, 5, frames, 2, 3)
    velocity, layout, chunks = straight_loop(prefix)
    assert [piece.chunk for piece in chunks] == list(range(frames // 3, 4))
    assert velocity.filled == list(range(frames // 3))
    total = sum(piece.latents.shape[2] for piece in chunks)
    assert total == (12 if frames == 1 else 12 - frames)
    # A refreshed chunk shows the given frames as given, whatever the steps made of them.
    inside = frames - 3 * layout.offset
    if inside:
        assert torch.equal(velocity.cleans[0][:, :, :inside], prefix[:, :, -inside:])


def test_no_guide_and_a_guide_that_returns_the_velocity_are_bit_identical() -> None:
    _, _, plain = straight_loop()
    _, _, guided = straight_loop(guide=lambda step: step.velocity)
    for one, other in zip(plain, guided, strict=True):
        assert torch.equal(one.latents, other.latents)


def test_what_a_guide_sees() -> None:
    target = straight_loop()[0].target
    seen: list[DenoiseStep] = []

    def guide(step: DenoiseStep) -> Tensor:
        seen.append(step)
        assert not torch.is_grad_enabled()
        clean = step.clean_estimate(step.latents, step.velocity)
        frames = slice(3 * step.call.first, 3 * step.call.last)
        torch.testing.assert_close(clean, target[:, :, frames], atol=1e-5, rtol=0)
        assert torch.equal(step.model(step.latents), step.velocity)
        assert torch.equal(step.decode(clean), clean + 1)
        assert step.finished.shape[2] == frames.start
        with torch.enable_grad():
            x = step.latents.detach().requires_grad_()
            (grad,) = torch.autograd.grad(step.model(x).sum(), x)
        assert grad.abs().max() > 0
        return step.velocity + 1

    _, _, guided = straight_loop(guide=guide, decode=lambda z: z + 1)
    _, _, plain = straight_loop()
    assert len(seen) == 14
    assert all((step.next_times > step.times).all() for step in seen)
    assert not torch.equal(guided[0].latents, plain[0].latents)


@pytest.mark.parametrize(
    ("guide", "says"),
    [
        (lambda step: step.velocity[:1, :, :1], r"returned \[1, 5, 1, 2, 3\] as a velocity"),
        (lambda step: step.velocity.mean(), r"returned \[\] as a velocity"),
        (lambda step: None, "no tensor as a velocity"),
        (lambda step: step.velocity / 0, "guidance made the velocity at step 0 of chunk 1"),
    ],
)
def test_a_guide_must_return_a_velocity(guide: Any, says: str) -> None:
    """Of another shape it would fit by broadcasting; without numbers the video would be black."""
    with pytest.raises(MagiError, match=says):
        straight_loop(guide=guide)


def test_a_model_that_makes_no_numbers_stops_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    straight = Straight.__call__

    def broken(self: Straight, call: ChunkCall, *given: Any) -> Tensor:
        return straight(self, call, *given) * (float("nan") if call.number == 3 else 1.0)

    monkeypatch.setattr(Straight, "__call__", broken)
    with pytest.raises(NotFiniteError, match="the velocity at step 3 of chunk 1 is not") as found:
        straight_loop(guide=lambda step: step.velocity)
    assert not found.value.guided


def test_a_guide_changes_the_context_of_later_chunks() -> None:
    """What it corrects is the state that is refreshed and continued, not only the output."""
    velocity, _, chunks = straight_loop(guide=lambda step: step.velocity + 0.5)
    for clean, piece in zip(velocity.cleans, chunks, strict=False):
        assert torch.equal(clean, piece.latents)


def test_resampling_goes_on_with_copies_of_rows() -> None:
    def guide(step: DenoiseStep) -> Tensor:
        if step.call.number == 5:
            step.resample(torch.tensor([1, 1]))
        return step.velocity

    _, layout, chunks = straight_loop(guide=guide)
    target = straight_loop()[0].target
    for piece in chunks:
        assert torch.equal(piece.latents[0], piece.latents[1])
        wanted = target[1, :, layout.of_chunk(piece.chunk)]
        torch.testing.assert_close(piece.latents[0], wanted, atol=1e-5, rtol=0)


def test_cached_chunks_follow_the_rows_of_the_batch() -> None:
    cache = KVCache()
    cache.write(0, 3, torch.arange(3.0)[:, None], torch.arange(3.0)[:, None] + 10)
    cache.select(torch.tensor([2, 0, 0]))
    ((key, value),) = cache.read(0, 3, 4, torch.device("cpu"))
    assert key[:, 0].tolist() == [2, 0, 0] and value[:, 0].tolist() == [12, 10, 10]


def test_noise_depends_on_the_seed_alone() -> None:
    layout = VideoLayout(0, 6, 2)
    first = make_noise(layout, 16, 4, 4, seed=5)
    state = torch.random.get_rng_state()
    assert torch.equal(first, make_noise(layout, 16, 4, 4, seed=5))
    assert not torch.equal(first, make_noise(layout, 16, 4, 4, seed=6))
    assert torch.equal(state, torch.random.get_rng_state())
    assert abs(first.mean()) < 0.05 and abs(first.std() - 1) < 0.05


# --- resuming -----------------------------------------------------------------------------------------


def nano_config(**runtime: Any) -> MagiConfig:
    base = golden_config(golden("loop_A_t2v_3chunks_8steps"))
    changed = {"chunk_width": 2, "num_steps": 8, "window_size": 4, **runtime}
    return MagiConfig(
        model_config=NANO,
        runtime_config=replace(base.runtime_config, **changed),
        engine_config=base.engine_config,
    )


def nano_texts(dit: Any, chunks: int) -> VideoTexts:
    y = torch.randn(2, chunks, 10, 12)
    mask = torch.zeros(2, chunks, 10)
    mask[0, :, :7], mask[1, :, :5] = 1, 1
    return VideoTexts.prepare(dit, y, mask)


@pytest.mark.parametrize(
    ("window", "prefix_frames", "spans", "clean"),
    [
        *((window, 0, (5, 4, 3, 2), 1) for window in (4, 2, 1)),
        *((window, prefix, (5, 4, 3, 2), 1) for window, prefix in [(4, 5), (4, 1), (1, 1)]),
        *((2, 5, spans, clean) for spans, clean in [((3, 3), 3), ((), 1)]),
    ],
)
def test_an_interrupted_loop_goes_on_where_it_was(
    window: int, prefix_frames: int, spans: tuple[int, ...], clean: int
) -> None:
    """Chunks that are put into the cache again show given frames and see others as before."""
    config = nano_config(
        window_size=window, num_frames=24, noise2clean_kvrange=spans, clean_chunk_kvrange=clean
    )
    layout, calls = plan_calls(config, prefix_frames)
    prefix = torch.randn(1, 4, prefix_frames, 4, 6) if prefix_frames else None
    dit = nano()
    texts = nano_texts(dit, layout.chunks)
    noise, times = make_noise(layout, 4, 4, 6, seed=0), time_steps(8)

    def run(resume: LoopState | None = None) -> list[FinishedChunk]:
        velocity = MagiVelocity(dit, config, texts)
        return list(denoise(velocity, noise, times, calls, layout, prefix=prefix, resume=resume))

    whole = run()
    assert len(whole) == layout.chunks - layout.offset
    for i, piece in enumerate(whole[:-1]):
        for one, other in zip(whole[i + 1 :], run(piece.state), strict=True):
            assert one.chunk == other.chunk
            close(other.latents, one.latents, LOOPS)
    assert run(whole[-1].state) == []


def test_calling_a_velocity_twice_changes_nothing() -> None:
    """A guide may ask again, for gradients, in the same step."""
    config = nano_config(num_frames=16)
    layout, calls = plan_calls(config)
    dit = nano()
    velocity = MagiVelocity(dit, config, nano_texts(dit, layout.chunks))
    noise, times = make_noise(layout, 4, 4, 6, seed=0), time_steps(8)
    ask_again = [
        list(denoise(velocity, noise, times, calls, layout, guide=guide))
        for guide in (None, lambda step: step.model(step.latents))
    ]
    for one, other in zip(*ask_again, strict=True):
        assert torch.equal(one.latents, other.latents)


@pytest.mark.parametrize(
    ("spans", "clean"), [((2, 1), 2), ((1, 1), 3), ((2, 2), -1), ((3,), 3), ((), 1), ((2, 2), 1)]
)
def test_a_given_video_is_context_as_far_as_finished_chunks_see(
    spans: tuple[int, ...], clean: int
) -> None:
    """Chunks before those that the first step sees are left out only if nothing comes of them."""
    config = nano_config(window_size=2, noise2clean_kvrange=spans, clean_chunk_kvrange=clean)
    layout = VideoLayout(7, 2, 6)
    calls = chunk_calls(layout, config.runtime_config)
    dit, prefix = nano(), torch.randn(1, 4, 7, 4, 6)
    texts = nano_texts(dit, layout.chunks)
    noise, times = make_noise(layout, 4, 4, 6, seed=0), time_steps(8)
    needed, all_of_it = (
        list(denoise(MagiVelocity(dit, config, texts), noise, times, some, layout, prefix=prefix))
        for some in (calls, [replace(call, oldest=0) for call in calls])
    )
    for one, other in zip(needed, all_of_it, strict=True):
        assert torch.equal(one.latents, other.latents)


def test_without_a_list_of_spans_finished_chunks_see_everything_too() -> None:
    """As in MAGI-1: the span of finished chunks is then that of a given video alone."""
    runtime = replace(RUNTIME, noise2clean_kvrange=(), clean_chunk_kvrange=1)
    calls = chunk_calls(VideoLayout(0, 6, 4), runtime)
    refreshed = [call.clean_range for call in calls if call.refresh]
    assert refreshed == [(0, 1), (0, 2), (0, 3)]
    assert prefix_span(runtime) == 1


def test_a_prefix_chunk_sees_what_the_configuration_says() -> None:
    assert prefix_span(RUNTIME) == 1
    assert prefix_span(replace(RUNTIME, clean_chunk_kvrange=-1)) == 2
    assert prefix_span(replace(RUNTIME, clean_chunk_kvrange=-1, noise2clean_kvrange=())) == 8
