"""V-JEPA 2.1 and its surprise against the golden vectors."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from goldens import close, close_in_norm
from vjepa21_goldens import EXACT, FEATURES, GRADIENTS, SCORES, Golden21, goldens21

from wmreward.surprise.aggregate import aggregate
from wmreward.surprise.scorer import SurpriseScorer
from wmreward.surprise.tokens import copy_surprise

WINDOWS = goldens21("window16_G", "window16_B")
SCORED = goldens21("window16_G", "window16_B", "video10_stride2_G", "video10_stride2_B")
THREE_WINDOWS = goldens21("video10_stride2_G", "video10_stride2_B")

VARIANTS: dict[str, dict[str, Any]] = {
    "": {},
    ".mask_token_1": {"mask_token": 1},
    ".hub_rope": {"positions": "hub"},
    ".hub_rope_mask_token_1": {"positions": "hub", "mask_token": 1},
    ".raw_rope": {"positions": "raw"},
    ".all_levels": {"levels": "all"},
    ".student": {"observed": "student"},
}


@pytest.mark.parametrize("golden", WINDOWS)
def test_encoder_features(golden: Golden21) -> None:
    model = golden.model()
    pixels, own = model.preprocess(golden.video), not golden.distilled
    full = model.encoder(pixels, all_levels=own)
    close(full, golden["encoder_full"], FEATURES)
    context = model.encoder(pixels[:, :, :8], all_levels=own)
    close(context, golden["encoder_context"], FEATURES)
    # The last level is the last part of all of them.
    close(model.encoder(pixels), golden["encoder_full"][..., -model.config.width :], FEATURES)
    if golden.distilled:
        close(model.target_encoder(pixels), golden["teacher_full"], FEATURES)


@pytest.mark.parametrize("golden", WINDOWS)
def test_both_heads_in_any_order(golden: Golden21) -> None:
    predictor, context = golden.model().predictor, golden["encoder_context"]
    seen, targets = torch.arange(36), torch.arange(36, 72)
    ours = predictor(context, seen, targets)
    close(ours.targets, golden["predictor_out"], FEATURES)
    close(ours.context, golden["predictor_context_out"], FEATURES)
    hidden = predictor.hidden_future(context, 8)
    close(predictor.predictor_proj(hidden.targets), golden["predictor_out"], FEATURES)
    close(predictor.project(hidden.targets, 16), golden["predictor_out"][..., -16:], FEATURES)
    order, later = torch.randperm(36), torch.randperm(36)
    mixed = predictor(context[:, order], seen[order][None], targets[later][None])
    close(mixed.targets, golden["predictor_out"][:, later], FEATURES)
    close(mixed.context, golden["predictor_context_out"][:, order], FEATURES)
    hub = golden.model(positions="hub").predictor(context, seen, targets, mask_token=9)
    close(hub.targets, golden["predictor_out.hub_rope_mask_token_1"], FEATURES)  # modulo eight


@pytest.mark.parametrize("golden", goldens21("window16_B"))
def test_context_head_with_everything_visible(golden: Golden21) -> None:
    predictor = golden.model(observed="student").predictor
    ours = predictor(golden["encoder_full"], torch.arange(72), torch.arange(0))
    close(ours.context, golden["student_observed"], FEATURES)
    assert ours.targets.shape == (1, 0, 16)


@pytest.mark.parametrize("golden", WINDOWS)
def test_future_latents_and_cosine_of_each_token(golden: Golden21) -> None:
    model = golden.model()
    latents = model.future_latents(model.preprocess(golden.video), 8)
    width = latents.predicted.shape[-1]
    assert width == 16
    close(latents.predicted.flatten(1, 2), golden["predictor_out"][..., -16:], FEATURES)
    target = golden["teacher_full" if golden.distilled else "encoder_full"]
    close(latents.observed.flatten(1, 2), target[:, 36:, -16:], FEATURES)
    close(copy_surprise(latents).flatten(1), golden["copy_surprise_per_token"], SCORES)
    scores = SurpriseScorer(model, golden.config()).score_windows(golden.video)
    assert scores.maps is not None
    close(1 - scores.maps.flatten(2)[0], golden["token_cosine"], SCORES)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("golden", SCORED)
def test_surprise_of_each_window(golden: Golden21, variant: str, dtype: torch.dtype) -> None:
    if f"surprise_per_window{variant}" not in golden:
        assert variant == (".all_levels" if golden.distilled else ".student")
        return
    double = dtype == torch.float64
    expected = golden[f"surprise_per_window{'_f64' if double else ''}{variant}"]
    scorer = SurpriseScorer(golden.model(dtype, **VARIANTS[variant]), golden.config())
    ours = scorer.score_windows(golden.video.to(dtype))
    assert ours.values.dtype == dtype
    close(ours.values, expected, EXACT if double else SCORES)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("golden", SCORED)
def test_token_axis_and_copies(golden: Golden21, dtype: torch.dtype) -> None:
    model, video = golden.model(dtype), golden.video.to(dtype)
    close_to, suffix = (EXACT, "_f64") if dtype == torch.float64 else (SCORES, "")
    token = SurpriseScorer(model, golden.config(similarity="token")).score_windows(video)
    close(token.values, golden[f"surprise_per_window{suffix}.token_similarity"], close_to)
    rules = SurpriseScorer(model, golden.config()).score_rules(video)
    close(rules["copy"].values, golden[f"copy_per_window{suffix}"], close_to)
    close(rules["plain"].values, golden[f"surprise_per_window{suffix}"], close_to)


@pytest.mark.parametrize("mode", ["mean", "max", "median", "topk2"])
@pytest.mark.parametrize("golden", THREE_WINDOWS)
def test_scores_of_every_mode(golden: Golden21, mode: str) -> None:
    close(aggregate(golden["surprise_per_window"], mode), golden[f"score_{mode}"], SCORES)
    close(
        SurpriseScorer(golden.model(), golden.config(mode))(golden.video),
        golden[f"score_{mode}"],
        SCORES,
    )


@pytest.mark.parametrize("plain", [False, True], ids=["scorer", "autograd"])
@pytest.mark.parametrize("kind", ["target", "both", "student"])
@pytest.mark.parametrize("golden", THREE_WINDOWS)
def test_gradients(golden: Golden21, kind: str, plain: bool) -> None:
    if f"grad_{kind}_mean" not in golden:
        assert kind == ("both" if golden.distilled else "student")
        return
    model = golden.model(observed="student") if kind == "student" else golden.model()
    scorer = SurpriseScorer(model, golden.config(context_grad=kind == "both"), grad_batch_size=2)
    video = golden.video.requires_grad_()
    score = scorer.score_windows(video).values.mean(dim=1) if plain else scorer(video)
    score.sum().backward()
    assert video.grad is not None
    close_in_norm(video.grad, golden[f"grad_{kind}_mean"], GRADIENTS)


@pytest.mark.parametrize("golden", goldens21("extras_G", "extras_B"))
def test_images(golden: Golden21) -> None:
    model, inputs = golden.model(), golden.inputs
    pixels, own = inputs["image_pixels"].float(), not golden.distilled
    close(model.encoder(pixels, all_levels=own), golden["image_encoder"], FEATURES)
    context = model.encoder(pixels, inputs["image_context_indices"], all_levels=own)
    where = inputs["image_context_indices"], inputs["image_target_indices"]
    ours = model.predictor(context, *where, image=True)
    close(ours.targets, golden["image_predictor_out"], FEATURES)
    close(ours.context, golden["image_predictor_context_out"], FEATURES)
    # A clip of two equal frames is not an image.
    doubled = model.encoder(pixels.expand(-1, -1, 2, -1, -1), all_levels=own)
    assert (doubled - golden["image_encoder"]).abs().max() > 0.1


@pytest.mark.parametrize("golden", goldens21("extras_G", "extras_B"))
def test_pictures_that_are_not_square_and_scattered_masks(golden: Golden21) -> None:
    model, inputs, own = golden.model(), golden.inputs, not golden.distilled
    wide = model.encoder(inputs["nonsquare_pixels"].float(), all_levels=own)
    close(wide, golden["nonsquare_encoder"], FEATURES)
    pixels, seen = inputs["masked_pixels"].float(), inputs["masked_context_indices"]
    context = model.encoder(pixels, seen, all_levels=own)
    close(context, golden["masked_encoder"], FEATURES)
    ours = model.predictor(context, seen, inputs["masked_target_indices"], mask_token=3)
    close(ours.targets, golden["masked_predictor_out"], FEATURES)
    close(ours.context, golden["masked_predictor_context_out"], FEATURES)
