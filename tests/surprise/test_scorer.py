"""Scoring in batches and in parts, and gradients in bounded memory, against the plain way."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
import torch
from fakes import NANO, LinearWorldModel, random_model
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from wmreward.errors import UsageError
from wmreward.surprise.aggregate import aggregate, select_windows
from wmreward.surprise.config import SurpriseConfig
from wmreward.surprise.rules import reach
from wmreward.surprise.scorer import SurpriseScorer, even_chunks
from wmreward.surprise.tokens import window_surprise
from wmreward.surprise.windows import Window

MODES = ("mean", "max", "median", "topk2", "topp40")
RULES: tuple[dict[str, Any], ...] = (
    {},
    {"similarity": "token"},
    {"score": "excess"},
    {"score": "relative"},
    {"score": "top"},
)
SMALL = {"window_size": 6, "context_frames": 4, "stride": 2}


def video_of(batch: int, frames: int, side: int = 4) -> Tensor:
    return torch.rand(batch, 3, frames, side, side, dtype=torch.float64) * 2 - 1


# --- values


def test_known_answers_of_the_linear_model() -> None:
    scorer = SurpriseScorer(LinearWorldModel(), SurpriseConfig(**SMALL))
    frame, change = torch.rand(2, 1, 3, 1, 4, 4, dtype=torch.float64)
    clock = torch.arange(12, dtype=torch.float64)[:, None, None]
    steady = frame + 0.1 * clock * change
    torch.testing.assert_close(scorer.score(steady)[0], torch.zeros(1).double(), rtol=0, atol=1e-9)
    # An impossible jump is felt by exactly those windows that predict across it.
    jump = steady.clone()
    jump[:, :, 8:] = torch.rand(1, 3, 4, 4, 4, dtype=torch.float64)
    windows = scorer.score_windows(jump).values[0]
    assert windows.shape == (4,)
    torch.testing.assert_close(windows[:2], torch.zeros(2).double(), rtol=0, atol=1e-9)
    assert (windows[2:] > 0.1).all()


@pytest.mark.parametrize("rule", RULES, ids=str)
@given(
    batch=st.integers(1, 3),
    frames=st.integers(6, 20),
    stride=st.integers(1, 9),
    size=st.integers(1, 40),
)
def test_every_window_is_scored_where_it_belongs(
    rule: dict[str, Any], batch: int, frames: int, stride: int, size: int
) -> None:
    config = SurpriseConfig(window_size=6, context_frames=4, stride=stride, **rule)
    model, video = LinearWorldModel(mixing=0.5), video_of(batch, frames)
    ours = SurpriseScorer(model, config, batch_size=size).score_windows(video)
    assert max(model.batch_sizes) <= size
    pixels = model.preprocess(video)
    for b, start in itertools.product(range(batch), range(0, frames - 5, stride)):
        value, shown = window_surprise(
            model.future_latents(pixels[b : b + 1, :, start : start + 6], 4), config
        )
        w = start // stride
        torch.testing.assert_close(ours.values[b, w], value[0], rtol=0, atol=1e-12)
        if shown is None:
            assert ours.maps is None
        else:
            assert ours.maps is not None
            expected = shown.unflatten(-1, (2, 2))[0]
            torch.testing.assert_close(ours.maps[b, w], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_batch_is_each_video_alone_and_chunks_change_nothing(rule: dict[str, Any]) -> None:
    config = SurpriseConfig(window_size=8, context_frames=4, stride=2, **rule)
    model, video = random_model(), video_of(3, 15, 40)
    whole = SurpriseScorer(model, config, batch_size=1000).score_windows(video)
    assert whole.values.shape == (3, 4)
    for size in (1, 5, 12):
        parts = SurpriseScorer(model, config, batch_size=size).score_windows(video)
        torch.testing.assert_close(parts.values, whole.values, rtol=0, atol=1e-12)
        torch.testing.assert_close(parts.maps, whole.maps, rtol=0, atol=1e-12)
    for b in range(3):
        alone = SurpriseScorer(model, config).score_windows(video[b : b + 1])
        torch.testing.assert_close(alone.values[0], whole.values[b], rtol=0, atol=1e-12)
    scores = SurpriseScorer(model, config)(video)
    torch.testing.assert_close(scores, whole.values.mean(dim=1), rtol=0, atol=1e-12)


@given(count=st.integers(1, 200), size=st.integers(1, 50))
def test_chunks_are_few_and_even(count: int, size: int) -> None:
    items = [(i, i) for i in range(count)]
    chunks = [list(chunk) for chunk in even_chunks(items, size)]
    assert [item for chunk in chunks for item in chunk] == items
    lengths = [len(chunk) for chunk in chunks]
    assert max(lengths) <= size and max(lengths) - min(lengths) <= 1
    assert len(chunks) == -(-count // size)


@pytest.mark.parametrize("odd", [5, 7])
def test_odd_context_frames(odd: int) -> None:
    model, video = random_model(), video_of(1, 10, 32)
    settings = {"window_size": 10, "stride": 2}
    ours = SurpriseScorer(model, SurpriseConfig(context_frames=odd, **settings))
    even = SurpriseScorer(model, SurpriseConfig(context_frames=odd - 1, **settings))
    assert ours.target_offset == odd - 1
    assert torch.equal(ours(video), even(video))


@pytest.mark.parametrize(("size", "context"), [(16, 1), (3, 2), (5, 4), (2, 1)])
def test_windows_without_whole_tubelets_are_refused_at_once(size: int, context: int) -> None:
    config = SurpriseConfig(window_size=size, context_frames=context)
    with pytest.raises(UsageError, match=rf"context_frames={context} of window_size={size}: model"):
        SurpriseScorer(LinearWorldModel(), config)


def test_too_short() -> None:
    with pytest.raises(UsageError, match="5 frames, but a window needs 6"):
        SurpriseScorer(LinearWorldModel(), SurpriseConfig(**SMALL))(video_of(1, 5))


# --- gradients


def plain_gradient(scorer: SurpriseScorer, video: Tensor, weights: Tensor) -> Tensor:
    """All graphs alive at once, one differentiation."""
    leaf = video.detach().clone().requires_grad_()
    score = scorer.score_windows(leaf).pooled(scorer.config.mode)
    return torch.autograd.grad((score * weights).sum(), leaf)[0]


@pytest.mark.parametrize("context_grad", [False, True], ids=["target", "both"])
@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize("mode", MODES)
def test_gradient_is_that_of_plain_autograd(
    mode: str, rule: dict[str, Any], context_grad: bool
) -> None:
    """Also through the resize, with a gradient of the scores that differs between the videos."""
    config = SurpriseConfig(
        window_size=6, context_frames=4, stride=2, mode=mode, context_grad=context_grad, **rule
    )
    model, video = random_model(), video_of(2, 13, 36)
    weights = torch.tensor([1.5, -0.7], dtype=torch.float64)
    expected = plain_gradient(SurpriseScorer(model, config), video, weights)
    for size in (1, 3, 100):
        scorer = SurpriseScorer(model, config, grad_batch_size=size)
        leaf = video.clone().requires_grad_()
        scores = scorer(leaf)
        (ours,) = torch.autograd.grad((scores * weights).sum(), leaf)
        torch.testing.assert_close(ours, expected, rtol=0, atol=1e-12)
        torch.testing.assert_close(scores.detach(), scorer(video), rtol=0, atol=1e-12)
    assert expected.abs().max() > 1e-6


@pytest.mark.parametrize("mode", MODES)
def test_gradient_at_several_frame_strides(mode: str) -> None:
    """That of plain autograd, in parts of any size, which hold windows of several strides."""
    config = SurpriseConfig(**SMALL, mode=mode, frame_strides=(1, 2, 3))
    model, video = LinearWorldModel(mixing=0.5), video_of(2, 20)
    weights = torch.tensor([1.5, -0.7], dtype=torch.float64)
    expected = plain_gradient(SurpriseScorer(model, config), video, weights)
    for size in (1, 5, 100):
        model.batch_sizes.clear()
        scorer = SurpriseScorer(model, config, batch_size=size, grad_batch_size=size)
        leaf = video.clone().requires_grad_()
        (ours,) = torch.autograd.grad((scorer(leaf) * weights).sum(), leaf)
        torch.testing.assert_close(ours, expected, rtol=0, atol=1e-12)
        assert max(model.batch_sizes) <= size
    assert expected.abs().max() > 1e-6


def test_some_windows_alone_have_their_gradient() -> None:
    config = SurpriseConfig(**SMALL, mode="topk3", frame_strides=(1, 2))
    scorer, video = SurpriseScorer(LinearWorldModel(mixing=0.5), config), video_of(2, 20)
    some = scorer.seam(20, 10)
    assert [w.frame_stride for w in some] == [1, 2, 2]
    leaf = video.clone().requires_grad_()
    one, two, three = scorer.score_pixels(scorer.model.preprocess(leaf), some).values.unbind(dim=1)
    expected = (one + (two + three) / 2) / 2
    (gradient,) = torch.autograd.grad(expected.sum(), leaf)
    again = video.clone().requires_grad_()
    scores = scorer(again, some)
    torch.testing.assert_close(scores, expected, rtol=0, atol=1e-12)
    (ours,) = torch.autograd.grad(scores.sum(), again)
    torch.testing.assert_close(ours, gradient, rtol=0, atol=1e-12)
    torch.testing.assert_close(scorer(video, some), expected.detach(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("steps", [(1,), (2,), (1, 2, 3)])
@pytest.mark.parametrize("mode", MODES)
def test_each_frame_stride_counts_alike(steps: tuple[int, ...], mode: str) -> None:
    """A score is the mean over strides of the scores of the slower clips' windows."""
    config = SurpriseConfig(**SMALL, mode=mode)
    model, video = LinearWorldModel(mixing=0.5), video_of(2, 23)
    plain = SurpriseScorer(model, config)
    by_hand = []
    for step in steps:
        clips = [video[:, :, phase::step] for phase in range(step)]
        values = torch.cat([plain.score_windows(clip).values for clip in clips], dim=1)
        by_hand.append(aggregate(values, mode))
    ours = SurpriseScorer(model, replace(config, frame_strides=steps))(video)
    torch.testing.assert_close(ours, torch.stack(by_hand).mean(dim=0), rtol=0, atol=1e-12)


def test_one_long_window_sees_all_that_was_given() -> None:
    """24 given frames and the 24 after them, as a single window, by the network itself."""
    config = SurpriseConfig(window_size=48, context_frames=24, stride=8)
    scorer, video = SurpriseScorer(random_model(), config), video_of(1, 48, 32)
    assert scorer.windows(48) == scorer.seam(48, 24) == [Window(0)]
    latents = scorer.model.future_latents(scorer.model.preprocess(video), 24)
    expected = window_surprise(latents, config)[0]
    torch.testing.assert_close(scorer(video), expected, rtol=0, atol=1e-12)
    found = scorer.score_windows(video)
    assert found.maps is not None and found.maps.shape[:3] == (1, 1, 12)
    later = video.clone()
    later[:, :, 40:] = 0  # the end of a second later counts
    assert not torch.allclose(scorer(later), scorer(video))


@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize("mode", MODES)
def test_gradient_by_finite_differences(mode: str, rule: dict[str, Any]) -> None:
    video = video_of(2, 11).requires_grad_()
    # Through both sides; and with the prediction held fixed, as without context_grad.
    both = SurpriseConfig(**SMALL, mode=mode, context_grad=True, **rule)
    scorer = SurpriseScorer(LinearWorldModel(mixing=0.3), both, grad_batch_size=3)
    assert torch.autograd.gradcheck(scorer, (video,), fast_mode=True)
    if rule.get("score") in ("excess", "relative"):
        return  # the copy is not held fixed by fixing the prediction
    target = SurpriseConfig(**SMALL, mode=mode, **rule)
    fixed = LinearWorldModel(mixing=0.3, expected=torch.randn(1, 4, 24, dtype=torch.float64))
    assert torch.autograd.gradcheck(SurpriseScorer(fixed, target), (video,), fast_mode=True)


def test_full_jacobian_by_finite_differences() -> None:
    config = SurpriseConfig(
        window_size=4, context_frames=2, stride=2, mode="topk2", context_grad=True
    )
    scorer = SurpriseScorer(LinearWorldModel(mixing=0.3), config, grad_batch_size=2)
    assert torch.autograd.gradcheck(scorer, (video_of(2, 8).requires_grad_(),))


def test_videos_do_not_touch_each_other() -> None:
    scorer = SurpriseScorer(random_model(), SurpriseConfig(**SMALL, mode="max"))
    video = video_of(3, 9, 32).requires_grad_()
    (grad,) = torch.autograd.grad(scorer(video)[1], video)
    assert not grad[[0, 2]].any() and grad[1].abs().max() > 0


@pytest.mark.parametrize("mode", ["max", "median", "topk2"])
def test_only_selected_windows_are_differentiated(mode: str) -> None:
    model = LinearWorldModel(mixing=0.5)
    config = SurpriseConfig(**SMALL, mode=mode)
    scorer = SurpriseScorer(model, config, batch_size=8, grad_batch_size=2)
    video = video_of(1, 20)
    scored = scorer.score_and_gradient(video)
    chosen = select_windows(scored.windows.values, mode)[0].tolist()
    assert model.batch_sizes == [8, len(chosen)]
    seen = {frame for w in chosen for frame in range(2 * w, 2 * w + 6)}
    moved = {frame for frame in range(20) if scored.gradient[0, :, frame].any()}
    assert moved == seen


def test_gradient_work_is_done_in_bounded_parts() -> None:
    model = LinearWorldModel(mixing=0.5)
    scorer = SurpriseScorer(model, SurpriseConfig(**SMALL), batch_size=8, grad_batch_size=3)
    scorer.score_and_gradient(video_of(2, 20))
    assert sum(model.batch_sizes) == 16 and max(model.batch_sizes) == 3


def test_score_and_gradient_returns_what_backward_gives() -> None:
    scorer = SurpriseScorer(random_model(), SurpriseConfig(**SMALL))
    video = video_of(2, 9, 32)
    with torch.no_grad():  # guidance calls it from within no_grad
        scored = scorer.score_and_gradient(video)
    leaf = video.clone().requires_grad_()
    score, windows = scorer.score(leaf)
    score.sum().backward()
    assert torch.equal(scored.scores, score.detach())
    assert leaf.grad is not None
    torch.testing.assert_close(scored.gradient, leaf.grad, rtol=0, atol=0)
    assert torch.equal(scored.windows.values, windows.values)
    assert not windows.values.requires_grad and not video.requires_grad
    parts = [scored.scores, scored.gradient, scored.windows.values, scored.windows.maps]
    assert not any(part is not None and part.requires_grad for part in parts)


def test_gradient_reaches_further_back() -> None:
    """A video that is itself computed, as by a decoder."""
    scorer = SurpriseScorer(random_model(), SurpriseConfig(**SMALL))
    latent = video_of(1, 9, 16).requires_grad_()

    def decode(latent: Tensor) -> Tensor:
        return torch.nn.functional.interpolate(latent, scale_factor=(1, 2, 2)).tanh()

    (ours,) = torch.autograd.grad(scorer(decode(latent)).sum(), latent)
    plain = scorer.score_windows(decode(latent)).values.mean(dim=1).sum()
    torch.testing.assert_close(ours, torch.autograd.grad(plain, latent)[0], rtol=0, atol=1e-12)


def test_no_graph_unless_asked_for() -> None:
    scorer = SurpriseScorer(random_model(), SurpriseConfig(**SMALL))
    video = video_of(1, 9, 32)
    assert not scorer(video).requires_grad
    with torch.no_grad():
        assert not scorer(video.requires_grad_()).requires_grad
    assert scorer(video).requires_grad


def test_gradients_of_gradients_are_refused() -> None:
    scorer = SurpriseScorer(random_model(), SurpriseConfig(**SMALL))
    video = video_of(1, 9, 32).requires_grad_()
    (grad,) = torch.autograd.grad(scorer(video).sum(), video, create_graph=True)
    with pytest.raises(RuntimeError, match="does not require grad"):
        grad.square().sum().backward()


def test_half_precision_model_has_a_gradient_near_the_exact_one() -> None:
    config = SurpriseConfig(**SMALL)
    video = (torch.rand(1, 3, 9, 32, 32) * 2 - 1).requires_grad_()
    half = SurpriseScorer(random_model(dtype=torch.bfloat16), config)(video)
    (ours,) = torch.autograd.grad(half.sum(), video)
    exact = SurpriseScorer(random_model(), config).score_and_gradient(video.detach().double())
    assert ours.dtype == torch.float32 and half.dtype == torch.float32
    assert (half.double() - exact.scores).abs().item() < 0.01
    assert ((ours.double() - exact.gradient).norm() / exact.gradient.norm()).item() < 0.1


# --- streams


@pytest.mark.parametrize("rule", RULES[:2], ids=str)
@given(
    cuts=st.lists(st.integers(1, 9), min_size=1, max_size=12),
    size=st.integers(4, 9),
    stride=st.integers(1, 20),
    steps=st.lists(st.integers(1, 3), min_size=1, max_size=3, unique=True),
)
def test_a_stream_in_any_parts_is_the_whole(
    rule: dict[str, Any], cuts: list[int], size: int, stride: int, steps: list[int]
) -> None:
    windows = {"window_size": size, "stride": stride, "frame_strides": tuple(steps)}
    config = SurpriseConfig(context_frames=2, **windows, **rule)
    scorer = SurpriseScorer(LinearWorldModel(mixing=0.5), config, batch_size=5)
    video = video_of(1, sum(cuts))
    parts = video.split(cuts, dim=2)
    if sum(cuts) < reach(size, max(steps)):
        with pytest.raises(UsageError, match=r"too short: .* frames?, but a window"):
            scorer.score_parts(parts)
        return
    whole, streamed = scorer.score_windows(video), scorer.score_parts(parts)
    torch.testing.assert_close(streamed.values, whole.values, rtol=0, atol=1e-12)
    torch.testing.assert_close(streamed.maps, whole.maps, rtol=0, atol=1e-12)
    assert streamed.windows == whole.windows == scorer.windows(sum(cuts))


@pytest.mark.parametrize("steps", [(1,), (1, 3)])
def test_a_stream_keeps_no_more_than_it_needs(steps: tuple[int, ...]) -> None:
    sizes: list[int] = []
    config = SurpriseConfig(window_size=6, context_frames=4, stride=2, frame_strides=steps)
    scorer = SurpriseScorer(LinearWorldModel(), config)
    original = scorer.score_pixels

    def watched(pixels: Tensor, windows: Any) -> Any:
        sizes.append(pixels.shape[2])
        return original(pixels, windows)

    scorer.score_pixels = watched  # type: ignore[method-assign]
    scorer.score_parts(iter(video_of(1, 200).split(4, dim=2)))
    assert max(sizes) <= 4 + reach(6, max(steps))


def test_an_empty_stream_is_too_short() -> None:
    with pytest.raises(UsageError, match="0 frames"):
        SurpriseScorer(LinearWorldModel(), SurpriseConfig(**SMALL)).score_parts([])


def test_nano_has_the_grid_these_tests_count_on() -> None:
    assert NANO.grid == LinearWorldModel.config.grid == 2
