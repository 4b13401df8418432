"""The world model and its surprise against the golden vectors."""

from __future__ import annotations

import pytest
import torch
from goldens import (
    ACTIONS,
    EXACT,
    FEATURES,
    GRADIENTS,
    PIXELS,
    SCORES,
    Golden,
    close,
    close_in_norm,
    goldens,
)
from torch.nn import functional as F

from vjepa2.ac_predictor import ActionPredictor
from vjepa2.predictor import Predictor
from vjepa2.preprocess import from_uint8, resize
from wmreward.surprise.actions.surprise import action_surprise
from wmreward.surprise.aggregate import aggregate
from wmreward.surprise.config import Similarity, SurpriseConfig
from wmreward.surprise.scorer import SurpriseScorer
from wmreward.video.sampling import uniform_indices

WINDOWS = goldens("window16_b", further=["window16_a"])
SCORED = goldens(
    "window16_b",
    further=["window16_a", "video49_stride2_a", "video49_stride8_b", "nonsquare_fullsize_a"],
)
MANY_WINDOWS = goldens("video49_stride2_a", "video49_stride8_b")
MODES = ("mean", "max", "median", "topk3", "topp20", "topp50")
GRAD_MODES = ("mean", "max", "topk3")


@pytest.mark.parametrize("golden", WINDOWS)
def test_encoder_features(golden: Golden) -> None:
    model = golden.model()
    pixels = model.preprocess(golden["video"])
    close(model.encoder(pixels), golden["encoder_full"], FEATURES)
    close(model.encoder(pixels[:, :, :8]), golden["encoder_context"], FEATURES)


@pytest.mark.parametrize("golden", WINDOWS)
def test_masked_encoding_is_encoding_the_shorter_clip(golden: Golden) -> None:
    """Tokens are dropped before attention, so the dropped frames might as well not exist."""
    model = golden.model()
    pixels = model.preprocess(golden["video"])
    keep = torch.arange(golden["encoder_context"].shape[1])[None]
    masked = model.encoder(pixels, keep)
    close(masked, golden["encoder_context"], FEATURES)
    model, pixels = model.double(), pixels.double()
    close(model.encoder(pixels, keep), model.encoder(pixels[:, :, :8]), EXACT)


@pytest.mark.parametrize("golden", WINDOWS)
def test_predictor_output(golden: Golden) -> None:
    model, context = golden.model(), golden["encoder_context"]
    predictor = model.predictor
    assert isinstance(predictor, Predictor)
    seen, total = context.shape[1], golden["encoder_full"].shape[1]
    where, targets = torch.arange(seen), torch.arange(seen, total)
    close(predictor(context, where, targets), golden["predictor_out"], FEATURES)
    close(predictor.predict_future(context, 8), golden["predictor_out"], FEATURES)
    # In any order of context and targets, batched indices or not.
    mixed_where, mixed_targets = torch.randperm(seen), torch.randperm(total - seen)
    mixed = predictor(
        context[:, mixed_where], where[mixed_where][None], targets[mixed_targets][None]
    )
    close(mixed, golden["predictor_out"][:, mixed_targets], FEATURES)


@pytest.mark.parametrize("golden", WINDOWS)
def test_future_latents_and_cosine_of_each_token(golden: Golden) -> None:
    model = golden.model()
    latents = model.future_latents(model.preprocess(golden["video"]), 8)
    close(latents.predicted.flatten(1, 2), golden["predictor_out"], FEATURES)
    seen = golden["encoder_context"].shape[1]
    close(latents.observed.flatten(1, 2), golden["encoder_full"][:, seen:], FEATURES)
    n = model.config.tokens_per_tubelet
    close(latents.last_context, golden["encoder_context"][:, -n:], FEATURES)
    scores = SurpriseScorer(model, golden.config()).score_windows(golden["video"])
    assert scores.maps is not None
    close(1 - scores.maps.flatten(2), golden["token_cosine"].unflatten(0, (1, -1)), SCORES)


@pytest.mark.parametrize("golden", goldens("resize"))
def test_resized_pixels(golden: Golden) -> None:
    frames = golden["frames_uint8"].movedim(-1, 0)[None]  # [1, 3, T, 50, 70]
    small = resize(frames.float(), 32)
    close(small[0].transpose(0, 1) / 255, golden["resized_float_255"] / 255, PIXELS)
    video = from_uint8(frames, 32)
    close(video, golden["video"], PIXELS)
    preprocess = golden.other("window16_b").model().preprocess
    close(preprocess(video), golden["pixels"], PIXELS)
    full = preprocess(frames.float() / 127.5 - 1)
    close(full, golden["pixels_from_fullsize_video"], PIXELS)


@pytest.mark.parametrize(
    "golden", goldens(further=["window16_a", "window16_b", "nonsquare_fullsize_a"])
)
def test_pixels(golden: Golden) -> None:
    close(golden.model().preprocess(golden["video"]), golden["pixels"], PIXELS)


@pytest.mark.parametrize("golden", goldens("frame_indices"))
def test_frame_indices(golden: Golden) -> None:
    for key, expected in golden.tensors().items():
        _, frames, _, most = key.split("_")
        assert uniform_indices(int(frames), int(most)).tolist() == expected.tolist(), key


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("golden", SCORED)
def test_surprise_of_each_window(golden: Golden, dtype: torch.dtype) -> None:
    double = dtype == torch.float64
    expected = golden["surprise_per_window_f64" if double else "surprise_per_window"]
    model, video = golden.model(dtype), golden["video"].to(dtype)
    ours = SurpriseScorer(model, golden.config(), batch_size=7).score_windows(video)
    assert ours.values.dtype == dtype
    close(ours.values, expected, EXACT if double else SCORES)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(
    "golden", goldens("window16_b", further=["window16_a", "video49_stride8_b"])
)
def test_token_axis_surprise(golden: Golden, dtype: torch.dtype) -> None:
    double = dtype == torch.float64
    stored = golden.other("token_axis_similarity")
    expected = stored[f"{golden.name}.surprise_per_window" + ("_f64" if double else "")]
    config = golden.config(similarity="token")
    scorer = SurpriseScorer(golden.model(dtype), config)
    ours = scorer.score_windows(golden["video"].to(dtype))
    assert ours.maps is None
    close(ours.values, expected, EXACT if double else SCORES)
    paper = SurpriseScorer(scorer.model, golden.config())(golden["video"].to(dtype))
    assert (paper - expected.mean(dim=1)).abs().max() > 1e-4  # another number than the paper's


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("golden", MANY_WINDOWS)
def test_scores_of_every_mode(golden: Golden, mode: str) -> None:
    close(aggregate(golden["surprise_per_window"], mode)[0], golden[f"score_{mode}"], SCORES)
    if "video" in golden:
        ours = SurpriseScorer(golden.model(), golden.config(mode))(golden["video"])
        close(ours[0], golden[f"score_{mode}"], SCORES)


def gradient(golden: Golden, config: SurpriseConfig, *, plain: bool) -> torch.Tensor:
    """Gradient of the score, by plain autograd through all windows or by the scorer's own way."""
    video = golden["video"].clone().requires_grad_()
    scorer = SurpriseScorer(golden.model(), config, batch_size=6, grad_batch_size=4)
    if plain:
        score = aggregate(scorer.score_windows(video).values, config.mode)
    else:
        score = scorer(video)
    if f"score_{config.mode}" in golden and config.similarity == "feature":
        close(score[0], golden[f"score_{config.mode}"], SCORES)
    score.sum().backward()
    assert video.grad is not None
    return video.grad


@pytest.mark.parametrize("plain", [False, True], ids=["scorer", "autograd"])
@pytest.mark.parametrize("branches", ["target", "both"])
@pytest.mark.parametrize("golden", SCORED)
def test_gradients(golden: Golden, branches: str, plain: bool) -> None:
    modes = [mode for mode in GRAD_MODES if f"grad_{branches}_{mode}" in golden]
    if not modes:
        assert branches == "both"  # stored for the single windows only
        return
    for mode in modes:
        config = SurpriseConfig(
            stride=golden.config().stride, mode=mode, context_grad=branches == "both"
        )
        ours = gradient(golden, config, plain=plain)
        close_in_norm(ours, golden[f"grad_{branches}_{mode}"], GRADIENTS)


@pytest.mark.parametrize(
    "golden", goldens("window16_b", further=["window16_a", "video49_stride8_b"])
)
def test_token_axis_gradient(golden: Golden) -> None:
    stored = golden.other("token_axis_similarity")
    ours = gradient(golden, golden.config(similarity="token"), plain=False)
    part = f"{golden.name}.grad_target_mean_frames_6_to_9"
    if part in stored:
        close_in_norm(ours[:, :, 6:10], stored[part], GRADIENTS)
    else:
        close_in_norm(ours, stored[f"{golden.name}.grad_target_mean"], GRADIENTS)


@pytest.mark.parametrize("golden", goldens("window16_b"))
@pytest.mark.parametrize("similarity", ["feature", "token"])
def test_context_gets_gradient_through_the_observed_side(
    golden: Golden, similarity: Similarity
) -> None:
    """The target encoder attends over the whole window, so its context frames matter to the score."""
    ours = gradient(golden, golden.config(similarity=similarity), plain=False)
    assert ours[:, :, :8].norm() > 0.01 * ours.norm()


@pytest.mark.parametrize("golden", goldens("ac_forward"))
def test_action_predictor(golden: Golden) -> None:
    predictor = golden.model().predictor
    assert isinstance(predictor, ActionPredictor)
    out = predictor(golden["tokens"], golden["actions"], golden["states"])
    close(out, golden["out"], ACTIONS)
    # Block-causal: what is done at the last step changes nothing before it.
    actions = golden["actions"].clone()
    actions[:, -1] += 1
    changed = predictor(golden["tokens"], actions, golden["states"])
    close(changed[:, :48], golden["out"][:, :48], ACTIONS)
    assert (changed[:, 48:] - golden["out"][:, 48:]).abs().max() > 1e-2


@pytest.mark.parametrize("golden", goldens(further=["ac_surprise_a"]))
def test_action_surprise(golden: Golden) -> None:
    model = golden.model()
    video, actions, states = golden["video"], golden["actions"], golden["states"]
    ours = action_surprise(model, video, actions, states)
    close(ours.values, golden["surprise_cos_per_frame"], SCORES)
    close(ours.l1, golden["surprise_l1_per_frame"], SCORES)
    close(ours.l1.mean(), golden["loss_l1"], SCORES)
    close(ours.maps.mean(dim=(2, 3, 4)), golden["surprise_cos_per_frame"], SCORES)
    # The tokens behind it: every frame doubled and encoded alone.
    frames = model.preprocess(video).transpose(1, 2).flatten(0, 1)[:, :, None]
    tokens = model.encoder(frames.expand(-1, -1, 2, -1, -1))
    tokens = F.layer_norm(tokens, tokens.shape[-1:]).unflatten(0, (2, 5)).flatten(1, 2)
    close(tokens, golden["frame_tokens"], FEATURES)
    predicted = model.predictor(golden["frame_tokens"][:, :64], actions, states[:, :4])
    close(F.layer_norm(predicted, (96,)), golden["predicted"], ACTIONS)
