"""The surprise by its definition, on latents made by hand."""

from __future__ import annotations

import itertools
import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from fakes import FakeLatents, LinearWorldModel
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from wmreward.errors import UsageError
from wmreward.surprise.config import RELEASED, SurpriseConfig
from wmreward.surprise.tokens import (
    channel_surprise,
    copy_surprise,
    token_surprise,
    window_surprise,
)

B, T, N, D = 2, 3, 4, 8


def latents(seed: int = 0, scale: float = 1.0) -> FakeLatents:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return scale * torch.randn(shape, generator=generator, dtype=torch.float64)

    return FakeLatents(draw(B, T, N, D), draw(B, T, N, D), draw(B, N, D))


def normed(vectors: np.ndarray) -> np.ndarray:
    """LayerNorm over the last axis, without affine, eps 1e-5."""
    centred = vectors - vectors.mean(axis=-1, keepdims=True)
    return centred / np.sqrt(vectors.var(axis=-1, keepdims=True) + 1e-5)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def by_hand(given: FakeLatents) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """S ``[B, T, N]``, S_copy ``[B, T, N]`` and the token-axis surprise ``[B]``, with loops."""
    z, h, last = (normed(side.numpy()) for side in given)
    plain, copied = np.empty((B, T, N)), np.empty((B, T, N))
    for b, t, n in itertools.product(range(B), range(T), range(N)):
        plain[b, t, n] = 1 - cosine(z[b, t, n], h[b, t, n])
        copied[b, t, n] = 1 - cosine(last[b, n], h[b, t, n])
    channels = [
        np.mean([1 - cosine(z[b, ..., d].ravel(), h[b, ..., d].ravel()) for d in range(D)])
        for b in range(B)
    ]
    return plain, copied, np.array(channels)


def test_definitions_by_hand() -> None:
    made = latents()
    plain, copied, channels = by_hand(made)
    assert token_surprise(made).numpy() == pytest.approx(plain, abs=1e-12)
    assert copy_surprise(made).numpy() == pytest.approx(copied, abs=1e-12)
    assert channel_surprise(made).numpy() == pytest.approx(channels, abs=1e-12)

    value, shown = window_surprise(made, SurpriseConfig())
    assert value.numpy() == pytest.approx(plain.mean(axis=(1, 2)), abs=1e-12)
    assert shown is not None and shown.numpy() == pytest.approx(plain, abs=1e-12)

    value, shown = window_surprise(made, SurpriseConfig(similarity="token"))
    assert value.numpy() == pytest.approx(channels, abs=1e-12) and shown is None

    value, shown = window_surprise(made, SurpriseConfig(score="relative"))
    scale = copied.mean(axis=(1, 2), keepdims=True) + 0.02
    assert value.numpy() == pytest.approx((plain / scale).mean(axis=(1, 2)), abs=1e-12)
    assert shown is not None and shown.numpy() == pytest.approx(plain / scale, abs=1e-12)

    value, shown = window_surprise(made, SurpriseConfig(score="top"))
    top = np.sort(plain.reshape(B, -1), axis=1)[:, -math.ceil(T * N / 16) :]
    assert value.numpy() == pytest.approx(top.mean(axis=1), abs=1e-12)
    assert shown is not None and shown.numpy() == pytest.approx(plain, abs=1e-12)

    value, shown = window_surprise(made, SurpriseConfig(score="excess"))
    excess = plain - 0.5 * copied
    top = np.sort(excess.reshape(B, -1), axis=1)[:, -math.ceil(T * N / 16) :]
    assert value.numpy() == pytest.approx(top.mean(axis=1), abs=1e-12)
    assert shown is not None and shown.numpy() == pytest.approx(excess, abs=1e-12)


@pytest.mark.parametrize(("tokens", "speaking"), [(4, 1), (16, 1), (17, 2), (256, 16)])
def test_top_and_excess_listen_to_the_largest_sixteenth(tokens: int, speaking: int) -> None:
    z, h = torch.randn(2, 1, 1, tokens, D, dtype=torch.float64)
    made = FakeLatents(z, h, h[:, 0])  # copying is perfect: excess is the surprise
    expected = token_surprise(made).flatten().sort().values[-speaking:].mean()
    for score in ("top", "excess"):
        value, _ = window_surprise(made, SurpriseConfig(score=score))  # type: ignore[arg-type]
        torch.testing.assert_close(value[0], expected)


@given(seed=st.integers(0, 999), scale=st.floats(0.01, 1e4))
def test_range(seed: int, scale: float) -> None:
    made = latents(seed, scale)
    for values in (token_surprise(made), copy_surprise(made), channel_surprise(made)):
        assert values.min() >= 0 and values.max() <= 2


@pytest.mark.parametrize("similarity", ["feature", "token"])
def test_extremes(similarity: Any) -> None:
    config = SurpriseConfig(similarity=similarity)
    made = latents()
    for sign, expected in ((1, 0.0), (-1, 2.0)):
        value, _ = window_surprise(made._replace(predicted=sign * made.observed), config)
        torch.testing.assert_close(value, torch.full((B,), expected).double(), rtol=0, atol=1e-9)


@pytest.mark.parametrize("score", ["plain", "top", "excess", "relative", "token"])
@given(seed=st.integers(0, 99), scale=st.floats(0.5, 100), shift=st.floats(-10, 10))
def test_scale_and_shift_of_a_latent_do_not_matter(
    score: Any, seed: int, scale: float, shift: float
) -> None:
    """LayerNorm removes both, of every token on its own; only its eps is felt."""
    config = SurpriseConfig(similarity="token") if score == "token" else SurpriseConfig(score=score)
    made = latents(seed)
    factor = 1 + scale * torch.rand(B, T, N, 1, dtype=torch.float64)
    changed = made._replace(predicted=made.predicted * factor + shift)
    torch.testing.assert_close(
        window_surprise(changed, config)[0], window_surprise(made, config)[0], rtol=0, atol=2e-3
    )


def test_layer_norm_is_there_and_has_its_eps() -> None:
    """A common offset of all features, which a bare cosine would take for agreement."""
    made = latents()
    offset = FakeLatents(made.predicted + 50, made.observed + 50, made.last_context + 50)
    for rule in (token_surprise, copy_surprise, channel_surprise):
        torch.testing.assert_close(rule(offset), rule(made), rtol=0, atol=1e-9)
    # At a spread of about sqrt(eps) the norm shrinks, which the token axis feels.
    tiny = latents(scale=3e-3)
    assert channel_surprise(tiny).numpy() == pytest.approx(by_hand(tiny)[2], abs=1e-12)


def test_constant_latents_are_finite() -> None:
    """No direction at all: surprise 1, not NaN, and a finite gradient."""
    flat = torch.ones(1, 1, 2, D, requires_grad=True)
    value, _ = window_surprise(FakeLatents(flat, flat, flat[:, 0]), SurpriseConfig())
    assert value.item() == 1
    value.backward()
    assert flat.grad is not None and flat.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_surprise_is_computed_in_float32_at_least(dtype: torch.dtype) -> None:
    made = FakeLatents(*(side.to(dtype) for side in latents()))
    exact = FakeLatents(*(side.double() for side in made))
    for rule in (token_surprise, copy_surprise, channel_surprise):
        ours = rule(made)
        assert ours.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        torch.testing.assert_close(ours.double(), rule(exact), rtol=0, atol=2e-6)


def test_frozen_scene_is_copied_without_error() -> None:
    model = LinearWorldModel()
    frame = torch.rand(1, 3, 1, 4, 4, dtype=torch.float64)
    frozen = model.future_latents(model.preprocess(frame.expand(-1, -1, 8, -1, -1)), 4)
    torch.testing.assert_close(
        copy_surprise(frozen), torch.zeros(1, 2, 4).double(), rtol=0, atol=1e-9
    )
    moving = torch.rand(1, 3, 8, 4, 4, dtype=torch.float64)
    assert copy_surprise(model.future_latents(moving, 4)).min() > 0.01


def test_relative_weighs_a_wrong_prediction_more_where_little_changed() -> None:
    made = latents()
    still = made._replace(last_context=made.observed[:, 0])
    assert (
        window_surprise(still, SurpriseConfig(score="relative"))[0]
        > window_surprise(made, SurpriseConfig(score="relative"))[0]
    ).all()


# --- settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"window_size": 1}, "window_size=1"),
        ({"context_frames": 0}, "context_frames=0"),
        ({"context_frames": 16}, "context_frames=16 .* window_size=16"),
        ({"stride": 0}, "stride=0"),
        ({"similarity": "cosine"}, "similarity='cosine' .* feature, token"),
        ({"score": "best"}, "score='best' .* plain, top, excess, relative"),
        ({"similarity": "token", "score": "excess"}, "needs similarity='feature'"),
        ({"mode": "mode"}, "unknown mode 'mode'"),
    ],
)
def test_settings_are_checked(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        SurpriseConfig(**settings)
    assert "\n" not in str(caught.value)


def test_settings_survive_json() -> None:
    for config in (SurpriseConfig(), RELEASED, SurpriseConfig(mode="topk3", score="excess")):
        assert SurpriseConfig.from_json(json.loads(json.dumps(config.to_json()))) == config
    with pytest.raises(UsageError, match="unknown setting colour, strid"):
        SurpriseConfig.from_json({"strid": 2, "colour": 1})


def test_published_defaults() -> None:
    paper = {"window_size": 16, "context_frames": 8, "stride": 2, "mode": "mean"}
    fixed = {"score": "plain", "context_grad": False}
    assert SurpriseConfig().to_json() == {**paper, **fixed, "similarity": "feature"}
    assert RELEASED.to_json() == {**paper, **fixed, "similarity": "token", "stride": 8}
