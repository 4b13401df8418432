"""V-JEPA 2.1 by its definition: sizes, rotary positions, levels, and what may depend on what."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from fakes import random_model21
from torch import Tensor
from torch.nn import functional as F
from vjepa21_goldens import DISTILLED, FILE_B, FILE_G

from vjepa2 import VJEPA21, Reading, VJEPA21Config, WorldModel, build_model, get_config
from vjepa2.encoder21 import Encoder21
from vjepa2.rope import PAIRED, STRETCHED, TILED, grid_tables, rotary_tables, rotate
from wmreward.surprise.config import SurpriseConfig
from wmreward.surprise.scorer import SurpriseScorer
from wmreward.surprise.tokens import window_surprise

# Parameters and tensors of encoder and predictor; width the predictor takes and gives.
SIZES = {
    "vitb21": (86_833_152, 158, 22_874_752, 162, 768, 1664),
    "vitl21": (304_680_960, 302, 22_973_056, 162, 1024, 1664),
    "vitg21": (1_013_267_968, 494, 55_400_704, 308, 5632, 5632),
    "vitG21": (1_845_216_768, 590, 59_433_472, 308, 6656, 6656),
}


@pytest.mark.parametrize("name", SIZES)
def test_released_sizes(name: str) -> None:
    config = get_config(name)
    assert isinstance(config, VJEPA21Config)
    reading = Reading(observed="student") if config.teacher else None
    with torch.device("meta"):
        model = build_model(config, reading=reading)
    found = []
    for part in (model.encoder, model.predictor):
        parameters = list(part.parameters())
        found += [sum(p.numel() for p in parameters), len(parameters)]
    assert (*found, config.context_width, config.predicted_width) == SIZES[name]
    assert (config.crop, config.grid, config.tokens_per_tubelet) == (384, 24, 576)
    assert config.width // config.heads == 64 and config.predictor.width // 12 == 32


def test_the_teacher_is_the_largest() -> None:
    for name in ("vitb21", "vitl21"):
        config = get_config(name)
        assert isinstance(config, VJEPA21Config)
        assert config.teacher == get_config("vitG21")
    with torch.device("meta"):
        model = build_model(get_config("vitb21"))
    assert sum(p.numel() for p in model.target_encoder.parameters()) == SIZES["vitG21"][0]
    assert get_config("vitG21").levels == (11, 23, 37, 47)  # type: ignore[attr-defined]


def test_another_crop_changes_the_grid_only() -> None:
    config = get_config("vitl21", 256)
    assert (config.crop, config.grid) == (256, 16) and replace(config, crop=384) == get_config(
        "vitl21"
    )
    for crop, message in ((250, "not divisible"), (16, "at least 32"), (0, "at least 32")):
        with pytest.raises(ValueError, match=message):
            get_config("vitl21", crop)
    with pytest.raises(ValueError, match=r"levels=\(2, 5\) must rise to the last of the 12 blocks"):
        replace(FILE_G, levels=(2, 5))


# --- rotary positions


def rotated_by_hand(vector: list[float], position: tuple[float, float, float]) -> list[float]:
    d = len(vector)
    r = 2 * (d // 3 // 2)
    out = list(vector)
    for axis, p in enumerate(position):
        for i in range(r // 2):
            at = axis * r + 2 * i
            angle = p * 10_000 ** (-i / (r / 2))
            a, b = vector[at], vector[at + 1]
            out[at] = a * math.cos(angle) - b * math.sin(angle)
            out[at + 1] = b * math.cos(angle) + a * math.sin(angle)
    return out


@pytest.mark.parametrize("head_dim", [64, 32, 18, 16, 12, 8])
def test_rotation_by_hand(head_dim: int) -> None:
    vector = torch.randn(head_dim, dtype=torch.float64)
    tables = grid_tables(3, 24, 12, head_dim, torch.float64, torch.device("cpu"), STRETCHED)
    for t, y, x in ((0, 0, 0), (2, 23, 11), (1, 5, 7)):
        at = t * 24 * 12 + y * 12 + x
        ours = rotate(vector[None], tables[0][at : at + 1], tables[1][at : at + 1])[0]
        expected = rotated_by_hand(vector.tolist(), (t, y * 15 / 23, x * 15 / 11))
        torch.testing.assert_close(ours.tolist(), expected, rtol=0, atol=1e-12)
        torch.testing.assert_close(ours.norm(), vector.norm())  # a true rotation


def test_stretching_is_nothing_at_256_pixels() -> None:
    device = torch.device("cpu")
    stretched, plain = (
        grid_tables(8, 16, 16, 64, torch.float32, device, rotary) for rotary in (STRETCHED, PAIRED)
    )
    assert all(torch.equal(a, b) for a, b in zip(stretched, plain, strict=True))
    tiled = rotary_tables(torch.ones(1, 3), 64, TILED)[0]
    assert not torch.equal(tiled, rotary_tables(torch.ones(1, 3), 64, PAIRED)[0])


def test_a_single_row_or_column_is_refused() -> None:
    encoder = Encoder21(FILE_G)
    for height, width in ((16, 64), (64, 16)):
        with pytest.raises(ValueError, match="at least two of each"):
            encoder(torch.zeros(1, 3, 4, height, width))


def test_teacher_follows_the_rule_of_positions() -> None:
    for positions, rotaries in (
        ("rescaled", (STRETCHED, STRETCHED, STRETCHED)),
        ("hub", (STRETCHED, STRETCHED, PAIRED)),
        ("raw", (PAIRED, PAIRED, PAIRED)),
    ):
        model = VJEPA21(DISTILLED, reading=Reading(positions=positions))  # type: ignore[arg-type]
        found = model.encoder.rotary, model.target_encoder.rotary, model.predictor.rotary
        assert found == rotaries


# --- the world model

KINDS: dict[str, tuple[VJEPA21Config, dict[str, Any]]] = {
    "last": (FILE_G, {}),
    "all": (FILE_G, {"levels": "all"}),
    "teacher": (FILE_B, {}),
    "student": (FILE_B, {"observed": "student"}),
}


def model_of(kind: str, dtype: torch.dtype = torch.float64) -> VJEPA21:
    config, reading = KINDS[kind]
    return random_model21(config, dtype=dtype, reading=Reading(**reading))


@pytest.fixture
def pixels() -> Tensor:
    return torch.randn(2, 3, 8, 32, 32, dtype=torch.float64)


def test_every_context_token_needs_an_index() -> None:
    """One more would be taken for a context token, and one less for a target."""
    predictor = model_of("student").predictor
    context = torch.randn(2, 8, 12, dtype=torch.float64)
    for indices in (7, 9):
        with pytest.raises(ValueError, match=f"8 context tokens .* not {indices}"):
            predictor(context, torch.arange(indices), torch.arange(9, 12))


@pytest.mark.parametrize("kind", KINDS)
def test_prediction_knows_nothing_of_the_future(kind: str, pixels: Tensor) -> None:
    model = model_of(kind)
    changed = pixels.clone()
    changed[:, :, 4:] = torch.randn_like(changed[:, :, 4:])
    before, after = model.future_latents(pixels, 4), model.future_latents(changed, 4)
    assert torch.equal(before.predicted, after.predicted)
    assert torch.equal(before.last_context, after.last_context)
    assert (before.observed - after.observed).abs().max() > 1e-2
    width = {"last": 8, "all": 32, "teacher": 8, "student": 8}[kind]
    assert before.predicted.shape == before.observed.shape == (2, 2, 4, width)
    assert before.last_context.shape == (2, 4, width)


@pytest.mark.parametrize("kind", KINDS)
def test_gradient_flows_through_the_observed_side(kind: str, pixels: Tensor) -> None:
    model = model_of(kind)
    for context_grad in (False, True):
        leaf = pixels.clone().requires_grad_()
        latents = model.future_latents(leaf, 4, context_grad=context_grad)
        assert latents.predicted.requires_grad == context_grad
        (gradient,) = torch.autograd.grad(latents.observed.square().sum(), leaf)
        assert gradient[:, :, :4].abs().max() > 0 and gradient[:, :, 4:].abs().max() > 0
        for encoder in {model.encoder, model.target_encoder}:
            encoder.recompute = not encoder.recompute
        again = model.future_latents(leaf, 4, context_grad=context_grad).observed
        assert torch.equal(gradient, torch.autograd.grad(again.square().sum(), leaf)[0])


def test_all_levels_are_the_mean_over_levels(pixels: Tensor) -> None:
    model = model_of("all")
    latents = model.future_latents(pixels, 4)
    together = window_surprise(latents, SurpriseConfig())[0]
    each = [
        (1 - F.cosine_similarity(z, h, dim=-1)).mean(dim=(1, 2))
        for z, h in zip(latents.predicted.split(8, -1), latents.observed.split(8, -1), strict=True)
    ]
    torch.testing.assert_close(together, torch.stack(each).mean(dim=0), rtol=0, atol=1e-4)
    # Each level was normed on its own, and the last one is what the default compares.
    parts = latents.observed.unflatten(-1, (4, 8))
    assert parts.mean(dim=-1).abs().max() < 1e-9 and (parts.std(dim=-1) > 0.9).all()
    last = model_of("last").future_latents(pixels, 4)
    torch.testing.assert_close(F.layer_norm(last.observed, (8,)), parts[..., -1, :])
    expected = F.layer_norm(last.predicted, (8,))
    torch.testing.assert_close(expected, latents.predicted[..., -8:])


@pytest.mark.parametrize("kind", KINDS)
def test_rules_and_copies_work_with_every_reading(kind: str) -> None:
    scorer = SurpriseScorer(model_of(kind), SurpriseConfig(window_size=8, context_frames=4))
    video = torch.rand(1, 3, 10, 32, 32, dtype=torch.float64) * 2 - 1
    rules = scorer.score_rules(video)
    assert set(rules) == {"plain", "top", "excess", "relative", "copy"}
    assert all(scores.values.isfinite().all() for scores in rules.values())
    assert rules["copy"].values.min() > 0.01


@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16_is_close_and_its_residual_stream_wide(kind: str, pixels: Tensor) -> None:
    exact, half = model_of(kind), model_of(kind, torch.bfloat16)
    kinds: list[torch.dtype] = []
    for block in (*half.encoder.blocks, *half.predictor.predictor_blocks):
        block.register_forward_hook(lambda _m, _i, out: kinds.append(out.dtype))
    truth, ours = exact.future_latents(pixels, 4), half.future_latents(pixels, 4)
    assert set(kinds) == {torch.float32}
    for name in ("predicted", "observed", "last_context"):
        side, expected = getattr(ours, name).double(), getattr(truth, name)
        assert ((side - expected).norm() / expected.norm()) < 0.05


def test_it_is_a_world_model_of_the_scorer() -> None:
    model: WorldModel = model_of("teacher", torch.float32)
    assert model.dtype == torch.float32 and model.device.type == "cpu"
    assert model.preprocess(torch.rand(1, 3, 2, 48, 64)).shape == (1, 3, 2, 32, 32)
    with pytest.raises(ValueError, match="at least one tubelet"):
        model.future_latents(torch.zeros(1, 3, 4, 32, 32), 4)
