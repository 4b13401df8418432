"""The networks by their definition: sizes, rotary positions, norms, and what may depend on what."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from fakes import NANO, NANO_AC, random_model
from goldens import FEATURES, Golden, close, goldens
from torch import Tensor
from torch.nn import functional as F

from vjepa2 import VJEPA2, Branches, PredictorConfig, VJEPA2Config, get_config
from vjepa2.ac_predictor import ActionPredictor
from vjepa2.layers import LayerNorm, PatchEmbed
from vjepa2.predictor import Predictor
from vjepa2.preprocess import from_uint8, preprocess
from vjepa2.rope import grid_positions, grid_tables, rotary_tables, rotate

# --- released sizes: parameters and tensors of (encoder, predictor)

SIZES = {
    "tiny": (4_837_632, 76, 4_870_912, 79),
    "referee": (1_040_896, 64, 826_496, 55),
    "vitl": (303_885_312, 292, 22_086_016, 160),
    "vith": (631_648_000, 388, 22_282_880, 160),
    "vitg": (1_012_173_952, 484, 22_381_312, 160),
    "vitg384": (1_012_173_952, 484, 22_381_312, 160),
    "vitgac": (1_012_173_952, 484, 305_220_992, 300),
}


@pytest.mark.parametrize("name", SIZES)
def test_released_sizes(name: str) -> None:
    with torch.device("meta"):
        model = VJEPA2(get_config(name))
    found = []
    for part in (model.encoder, model.predictor):
        parameters = list(part.parameters())
        found += [sum(p.numel() for p in parameters), len(parameters)]
        assert not list(part.buffers())
    assert tuple(found) == SIZES[name]
    assert model.encoder.recompute == (name not in ("tiny", "referee"))


@pytest.mark.parametrize(
    ("name", "crop", "grid", "tokens", "head_dim"),
    [
        ("vitl", 256, 16, 256, 64),
        ("vith", 256, 16, 256, 80),
        ("vitg", 256, 16, 256, 64),
        ("vitg384", 384, 24, 576, 64),
        ("vitgac", 256, 16, 256, 64),
        ("tiny", 64, 8, 64, 64),
        ("referee", 64, 8, 64, 32),
    ],
)
def test_token_grids(name: str, crop: int, grid: int, tokens: int, head_dim: int) -> None:
    config = get_config(name)
    assert (config.crop, config.grid, config.tokens_per_tubelet) == (crop, grid, tokens)
    assert config.width // config.heads == head_dim
    assert config.action_conditioned == (name == "vitgac")


def test_unknown_model_lists_the_known_ones() -> None:
    with pytest.raises(
        ValueError, match=r"unknown model 'vit-g'; choose one of .*vitg.*tiny|tiny.*"
    ):
        get_config("vit-g")


@pytest.mark.parametrize(
    ("change", "message"),
    [({"heads": 5}, "width=24 .* heads=5"), ({"crop": 40}, "crop=40 .* patch=16")],
)
def test_impossible_sizes_are_refused(change: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(NANO, **change)
    with pytest.raises(ValueError, match=r"width=16 .* heads=3"):
        PredictorConfig(width=16, heads=3)


# --- rotary positions


def rotated_by_hand(vector: list[float], position: tuple[int, int, int]) -> list[float]:
    """One head vector at one position, written out channel by channel from the definition."""
    d = len(vector)
    r = 2 * (d // 3 // 2)
    out = list(vector)
    for axis, p in enumerate(position):
        block = vector[axis * r : (axis + 1) * r]
        angles = [p * 10_000 ** (-(j % (r // 2)) / (r / 2)) for j in range(r)]  # tiled
        for i in range(r // 2):  # adjacent pairs
            a, b = block[2 * i], block[2 * i + 1]
            out[axis * r + 2 * i] = a * math.cos(angles[2 * i]) - b * math.sin(angles[2 * i])
            out[axis * r + 2 * i + 1] = b * math.cos(angles[2 * i + 1]) + a * math.sin(
                angles[2 * i + 1]
            )
    return out


@pytest.mark.parametrize(
    ("head_dim", "rest"), [(64, 4), (80, 2), (32, 2), (24, 0), (12, 0), (8, 2), (9, 3), (27, 3)]
)
def test_rotation_by_hand(head_dim: int, rest: int) -> None:
    vector = torch.randn(head_dim, dtype=torch.float64)
    for position in [(0, 0, 0), (3, 1, 7), (31, 23, 23)]:
        where = torch.tensor([position], dtype=torch.float64)
        cos, sin = rotary_tables(where, head_dim)
        assert cos.shape == sin.shape == (1, head_dim)
        ours = rotate(vector[None], cos, sin)[0]
        expected = torch.tensor(rotated_by_hand(vector.tolist(), position), dtype=torch.float64)
        torch.testing.assert_close(ours, expected, rtol=0, atol=1e-12)
        if rest:
            assert torch.equal(ours[-rest:], vector[-rest:])
    assert torch.equal(rotate(vector[None], *rotary_tables(torch.zeros(1, 3), head_dim))[0], vector)


def test_without_a_place_only_time_turns() -> None:
    """Action and state tokens have a time step but no row and column."""
    vector = torch.randn(1, 32, dtype=torch.float64)
    where = torch.tensor([[5.0, math.nan, math.nan]], dtype=torch.float64)
    turned = rotate(vector, *rotary_tables(where, 32))
    at_origin = rotated_by_hand(vector[0].tolist(), (5, 0, 0))
    torch.testing.assert_close(turned[0].tolist(), at_origin, rtol=0, atol=1e-12)
    assert torch.equal(turned[:, 10:], vector[:, 10:])


def test_token_order_is_time_row_column() -> None:
    where = grid_positions(3, 2, 5, torch.float32, torch.device("cpu")).tolist()
    assert where == [[t, y, x] for t in range(3) for y in range(2) for x in range(5)]


def test_tables_are_at_least_float32() -> None:
    device = torch.device("cpu")
    exact = grid_tables(32, 16, 16, 64, torch.float64, device)
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        tables = grid_tables(32, 16, 16, 64, dtype, device)
        for ours, truth in zip(tables, exact, strict=True):
            assert ours.dtype == torch.float32 and truth.dtype == torch.float64
            assert (ours - truth).abs().max() < 5e-6


# --- layers


def test_patch_embedding_is_the_convolution() -> None:
    embed = PatchEmbed(7, patch=4, tubelet=2).double()
    pixels = torch.randn(2, 3, 6, 8, 12, dtype=torch.float64)
    expected = embed.proj(pixels).flatten(2).transpose(1, 2)
    torch.testing.assert_close(embed(pixels), expected, rtol=0, atol=1e-12)
    odd = torch.cat([pixels, torch.randn(2, 3, 1, 8, 12, dtype=torch.float64)], dim=2)
    assert torch.equal(embed(odd), embed(pixels))
    ragged = torch.randn(1, 3, 3, 11, 15, dtype=torch.float64)
    expected = embed.proj(ragged).flatten(2).transpose(1, 2)
    torch.testing.assert_close(embed(ragged), expected, rtol=0, atol=1e-12)
    with pytest.raises(
        ValueError, match=r"a clip of 1 × 8 × 12 is smaller than a token, 2 × 4 × 4"
    ):
        embed(pixels[:, :, :1])


def test_layer_norm() -> None:
    norm = LayerNorm(8).double()
    x = 1e-3 * torch.randn(5, 8, dtype=torch.float64)  # small, so that eps matters
    spread = x.var(dim=-1, unbiased=False, keepdim=True) + 1e-6
    expected = (x - x.mean(dim=-1, keepdim=True)) / spread.sqrt()
    torch.testing.assert_close(norm(x), expected, rtol=0, atol=1e-12)


def test_half_precision_norm_reads_the_wide_stream_unrounded() -> None:
    norm = LayerNorm(64).bfloat16().requires_grad_(False)
    x = 300 + torch.randn(5, 64)  # bfloat16 would keep steps of 2
    ours, expected = norm(x), F.layer_norm(x.double(), (64,), eps=1e-6)
    assert ours.dtype == torch.bfloat16
    assert (ours.double() - expected).norm() < 0.005 * expected.norm()


def test_every_norm_has_the_eps_of_the_checkpoints() -> None:
    with torch.device("meta"):
        models = [VJEPA2(get_config(name)) for name in ("vitl", "vitgac", "tiny")]
    norms = [m for model in models for m in model.modules() if isinstance(m, torch.nn.LayerNorm)]
    assert len(norms) == (2 * 24 + 1 + 2 * 12 + 1) + (2 * 40 + 1 + 2 * 24 + 1) + 2 * (2 * 6 + 1)
    assert {norm.eps for norm in norms} == {1e-6}


def test_bfloat16_is_close_and_its_residual_stream_wide() -> None:
    exact, half = random_model(), random_model(dtype=torch.bfloat16)
    pixels = torch.randn(2, 3, 8, 32, 32)
    kinds = []
    for block in half.encoder.blocks:
        block.register_forward_hook(lambda _m, _i, out: kinds.append(out.dtype))
    truth = exact.future_latents(pixels, 4)
    ours = half.future_latents(pixels, 4)
    assert set(kinds) == {torch.float32}
    for name in ("predicted", "observed"):
        side, expected = getattr(ours, name), getattr(truth, name)
        assert side.dtype == torch.bfloat16
        assert ((side.double() - expected).norm() / expected.norm()) < 0.02


# --- preprocessing


def test_preprocessing_is_affine_where_nothing_is_resized() -> None:
    video = 3 * torch.rand(2, 3, 4, 32, 32, dtype=torch.float64) - 1.5  # also outside of [−1, 1]
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    shape = (1, 3, 1, 1, 1)
    expected = ((video + 1) / 2 - mean.double().view(shape)) / std.double().view(shape)
    torch.testing.assert_close(preprocess(video, 32), expected, rtol=0, atol=1e-6)
    video.requires_grad_()
    (grad,) = torch.autograd.grad(preprocess(video, 32).sum(), video)
    torch.testing.assert_close(
        grad, (1 / (2 * std.double())).view(shape).expand_as(grad), rtol=0, atol=1e-6
    )


@pytest.mark.parametrize("size", [(48, 48), (20, 70), (100, 36)])
def test_resizing_frames_is_one_frame_at_a_time(size: tuple[int, int]) -> None:
    video = torch.rand(2, 3, 5, *size) * 2 - 1
    together = preprocess(video, 32)
    for b in range(2):
        for t in range(5):
            assert torch.equal(
                preprocess(video[b : b + 1, :, t : t + 1], 32)[0, :, 0], together[b, :, t]
            )


def test_uint8_frames_in_parts_are_the_same() -> None:
    frames = torch.randint(0, 256, (2, 3, 19, 40, 24), dtype=torch.uint8)
    ours = from_uint8(frames, 32)
    for t in (0, 7, 8, 18):
        assert torch.equal(from_uint8(frames[:, :, t : t + 1], 32)[:, :, 0], ours[:, :, t])
    assert ours.dtype == torch.float32 and ours.min() >= -1 and ours.max() <= 1
    same = torch.randint(0, 256, (1, 3, 2, 32, 32), dtype=torch.uint8)
    torch.testing.assert_close(from_uint8(same, 32), same / 127.5 - 1, rtol=0, atol=1e-6)


def test_preprocessing_refuses_what_it_cannot_do_well() -> None:
    with pytest.raises(TypeError, match=r"float32 or float64 video, not torch\.bfloat16"):
        preprocess(torch.zeros(1, 3, 4, 8, 8, dtype=torch.bfloat16), 32)
    with pytest.raises(ValueError, match=r"\[B, 3, T, H, W\], got \[1, 4, 3, 8, 8\]"):
        preprocess(torch.zeros(1, 4, 3, 8, 8), 32)
    with pytest.raises(TypeError, match=r"uint8 frames, not torch\.float32"):
        from_uint8(torch.zeros(1, 3, 4, 8, 8), 32)


# --- what depends on what


def pixels_of(batch: int = 2, frames: int = 12) -> Tensor:
    return torch.randn(batch, 3, frames, 32, 32, dtype=torch.float64)


@pytest.mark.parametrize("context_frames", [2, 5, 6, 10])
def test_the_future_does_not_leak_into_the_prediction(context_frames: int) -> None:
    model, pixels = random_model(), pixels_of()
    whole = context_frames // 2 * 2
    changed = pixels.clone()
    changed[:, :, whole:] = torch.randn_like(changed[:, :, whole:])
    before = model.future_latents(pixels, context_frames)
    after = model.future_latents(changed, context_frames)
    assert torch.equal(before.predicted, after.predicted)
    assert torch.equal(before.last_context, after.last_context)
    assert (before.observed - after.observed).abs().max() > 0.1
    # And the other way round: both sides do depend on the context.
    changed = pixels.clone()
    changed[:, :, 0] += 1
    after = model.future_latents(changed, context_frames)
    assert (before.predicted - after.predicted).abs().max() > 1e-3
    assert (before.observed - after.observed).abs().max() > 1e-3


@pytest.mark.parametrize("golden", goldens("window16_b"))
def test_the_obvious_way_would_leak(golden: Golden) -> None:
    """Context tokens cut out of the encoding of the whole clip are other tokens, and predict otherwise."""
    model, seen = golden.model(), golden["encoder_context"].shape[1]
    leaky = golden["encoder_full"][:, :seen]
    assert (leaky - golden["encoder_context"]).abs().max() > 0.1
    assert isinstance(model.predictor, Predictor)
    assert (model.predictor.predict_future(leaky, 8) - golden["predictor_out"]).abs().max() > 0.1


@pytest.mark.parametrize("context_frames", [3, 5, 7, 9])
def test_odd_context_rounds_down_to_whole_tubelets(context_frames: int) -> None:
    model, pixels = random_model(), pixels_of()
    odd = model.future_latents(pixels, context_frames)
    even = model.future_latents(pixels, context_frames - 1)
    for ours, expected in zip(odd, even, strict=True):
        assert torch.equal(ours, expected)
    # The frame after the prefix belongs to the targets.
    assert odd.predicted.shape == odd.observed.shape == (2, 6 - context_frames // 2, 4, 24)


@pytest.mark.parametrize(
    ("frames", "context_frames"), [(12, 0), (12, 1), (12, 12), (12, 13), (13, 12), (3, 2)]
)
def test_both_sides_need_a_tubelet(frames: int, context_frames: int) -> None:
    with pytest.raises(ValueError, match=f"context_frames={context_frames} .* {frames} frames"):
        random_model().future_latents(pixels_of(1, frames), context_frames)


def test_a_batch_is_each_clip_alone() -> None:
    model, pixels = random_model(), pixels_of(3)
    together = model.future_latents(pixels, 6)
    for i in range(3):
        alone = model.future_latents(pixels[i : i + 1], 6)
        for ours, expected in zip(alone, together, strict=True):
            torch.testing.assert_close(ours[0], expected[i], rtol=0, atol=1e-12)


def test_dropped_tokens_are_never_seen() -> None:
    """Any subset may be kept: the result is a function of the kept patches and their places."""
    encoder, pixels = random_model().encoder, pixels_of(2, 4)
    keep = torch.tensor([[0, 3, 6], [5, 1, 2]])
    kept = encoder(pixels, keep)
    assert kept.shape == (2, 3, 24)
    changed = pixels.clone()
    changed[0, :, :2, :16, 16:] += 1  # token 1 of clip 0: dropped
    changed[1, :, 2:, 16:, :16] += 1  # token 6 of clip 1: dropped
    assert torch.equal(encoder(changed, keep), kept)
    everything = torch.randperm(8)[None].expand(2, -1)
    shuffled = encoder(pixels, everything)
    torch.testing.assert_close(shuffled, encoder(pixels)[:, everything[0]], rtol=0, atol=1e-12)
    for of_both in (keep[0], keep[:1]):  # one choice for all clips
        torch.testing.assert_close(
            encoder(pixels, of_both), encoder(pixels, keep[:1].expand(2, -1)), rtol=0, atol=0
        )


def test_encoder_takes_clips_that_are_not_square() -> None:
    encoder = random_model().encoder
    wide = torch.randn(1, 3, 4, 32, 64, dtype=torch.float64)
    assert encoder(wide).shape == (1, 2 * 2 * 4, 24)
    # Left half alone, by its token numbers in the wide grid, is the square clip: positions agree.
    keep = torch.tensor([[0, 1, 4, 5, 8, 9, 12, 13]])
    torch.testing.assert_close(
        encoder(wide, keep), encoder(wide[..., :32].contiguous()), rtol=0, atol=1e-12
    )


def test_mask_token_is_number_one_of_those_there_are() -> None:
    model, pixels = random_model(), pixels_of(1)
    assert model.mask_token == 1
    predictor = model.predictor
    assert isinstance(predictor, Predictor) and len(predictor.mask_tokens) == 3
    default = model.future_latents(pixels, 6).predicted
    for number, same in ((1, True), (4, True), (0, False), (2, False)):
        model.mask_token = number
        assert torch.equal(model.future_latents(pixels, 6).predicted, default) == same
    predictor.mask_tokens[1].data += 1
    model.mask_token = 1
    assert not torch.equal(model.future_latents(pixels, 6).predicted, default)


@pytest.mark.parametrize("golden", goldens("window16_b"))
def test_golden_needs_mask_token_one(golden: Golden) -> None:
    model = golden.model()
    model.mask_token = 0
    wrong = model.future_latents(model.preprocess(golden["video"]), 8).predicted
    assert (wrong.flatten(1, 2) - golden["predictor_out"]).abs().max() > 1000 * FEATURES


def test_predicting_nothing_gives_nothing() -> None:
    predictor = random_model().predictor
    assert isinstance(predictor, Predictor)
    context = torch.randn(2, 8, 24, dtype=torch.float64)
    nothing = predictor(context, torch.arange(8), torch.empty(0, dtype=torch.long))
    assert nothing.shape == (2, 0, 24)
    with pytest.raises(ValueError, match="8 context tokens need as many indices, not 9"):
        predictor(context, torch.arange(9), torch.arange(9, 12))


# --- branches and gradients


def test_one_encoder_serves_both_sides_unless_two_are_asked_for() -> None:
    for branches in (None, Branches(), Branches("ema", "ema")):
        model = random_model(branches=branches)
        assert model.encoder is model.target_encoder
        assert not any(name.startswith("target_") for name, _ in model.named_parameters())
    model = random_model(branches=Branches("online", "ema"))
    assert model.encoder is not model.target_encoder
    shared = {p.data_ptr() for p in model.encoder.parameters()}
    assert not shared & {p.data_ptr() for p in model.target_encoder.parameters()}
    # The context goes through one, the whole window through the other.
    pixels = pixels_of()
    latents = model.future_latents(pixels, 6)
    assert torch.equal(latents.observed.flatten(1, 2), model.target_encoder(pixels)[:, 12:])
    assert torch.equal(latents.last_context, model.encoder(pixels[:, :, :6])[:, -4:])
    with pytest.raises(ValueError, match="'online' or 'ema', not 'mean'"):
        Branches("online", "mean")


@pytest.mark.parametrize("context_grad", [False, True])
def test_gradient_flows_through_the_prediction_only_if_asked(context_grad: bool) -> None:
    model, pixels = random_model(), pixels_of(1).requires_grad_()
    latents = model.future_latents(pixels, 6, context_grad=context_grad)
    assert latents.observed.requires_grad
    assert latents.predicted.requires_grad == context_grad
    assert latents.last_context.requires_grad == context_grad
    if context_grad:
        (grad,) = torch.autograd.grad(latents.predicted.square().sum(), pixels)
        assert grad[:, :, :6].abs().max() > 0 and not grad[:, :, 6:].any()


def test_what_is_recomputed_is_not_kept_and_changes_no_gradient() -> None:
    model, gradients, kept = random_model(replace(NANO, depth=6)), [], []
    pixels = pixels_of(1).requires_grad_()
    for model.encoder.recompute in (False, True):
        saved = list[int]()

        def pack(x: Tensor, saved: list[int] = saved) -> Tensor:
            saved.append(x.numel())
            return x

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            loss = model.future_latents(pixels, 6).observed.square().sum()
        kept.append(sum(saved))
        gradients.append(torch.autograd.grad(loss, pixels)[0])
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-12)
    assert kept[1] < kept[0] / 2


def test_what_is_recomputed_is_computed_as_before() -> None:
    """In the precision of autocast, which a backward pass outside of it does not have."""
    model, gradients = random_model().float(), []
    pixels = pixels_of(1).float().requires_grad_()
    for model.encoder.recompute in (False, True):
        with torch.autocast("cpu", torch.bfloat16):
            latents = model.future_latents(pixels, 6).observed
        gradients.append(torch.autograd.grad(latents.square().sum(), pixels)[0])
    assert torch.equal(*gradients)


def test_gradients_work_after_inference_mode() -> None:
    """Tables made in inference mode must not be kept for a call that differentiates."""
    config = replace(NANO, crop=48)  # a grid that no other test has used
    model = random_model(config)
    pixels = torch.randn(1, 3, 10, 48, 48, dtype=torch.float64)
    with torch.inference_mode():
        model.future_latents(pixels, 4)
    pixels.requires_grad_()
    latents = model.future_latents(pixels, 4, context_grad=True)
    (latents.observed - latents.predicted).square().sum().backward()
    assert pixels.grad is not None and pixels.grad.abs().max() > 0
    predictor = random_model(NANO_AC).predictor
    features, actions, states = action_inputs(steps=7)
    with torch.inference_mode():
        predictor(features, actions, states)
    predictor(features.requires_grad_(), actions, states).square().sum().backward()
    assert features.grad is not None and features.grad.abs().max() > 0


# --- the action-conditioned predictor


def action_inputs(steps: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    kind = {"dtype": torch.float64}
    return (
        torch.randn(2, steps * 4, 24, **kind),
        torch.randn(2, steps, 7, **kind),
        torch.randn(2, steps, 7, **kind),
    )


def test_action_predictor_is_causal_in_time() -> None:
    predictor = random_model(NANO_AC).predictor
    inputs = action_inputs()
    before = predictor(*inputs)
    for which, rows in ((0, slice(8, 12)), (1, slice(2, 3)), (2, slice(2, 3))):
        changed = list(inputs)
        changed[which] = changed[which].clone()
        changed[which][:, rows] += 1
        after = predictor(*changed)
        torch.testing.assert_close(after[:, :8], before[:, :8], rtol=0, atol=1e-12)
        assert (after[:, 8:12] - before[:, 8:12]).abs().max() > 1e-3  # its own step sees it
        assert (after[:, 12:] - before[:, 12:]).abs().max() > 1e-4  # and the later ones
    # A shorter sequence is the start of the longer one.
    short = predictor(*(side[:, : len(side[0]) // 2] for side in inputs))
    torch.testing.assert_close(short, before[:, :8], rtol=0, atol=1e-12)


def test_action_predictor_with_extrinsics() -> None:
    predictor = random_model(NANO_AC).predictor
    inputs = action_inputs()
    camera = torch.randn(2, 4, 6, dtype=torch.float64)
    out = predictor(*inputs, camera)
    assert out.shape == inputs[0].shape and (out - predictor(*inputs)).abs().max() > 1e-3
    camera[:, 2] += 1
    changed = predictor(*inputs, camera)
    torch.testing.assert_close(changed[:, :8], out[:, :8], rtol=0, atol=1e-12)
    assert (changed[:, 8:] - out[:, 8:]).abs().max() > 1e-4


def test_action_predictor_checks_lengths() -> None:
    features, actions, states = action_inputs()
    with pytest.raises(ValueError, match="12 feature tokens do not fit 4 actions of 4 tokens"):
        random_model(NANO_AC).predictor(features[:, :12], actions, states)
    with pytest.raises(ValueError, match="'nano' has no action-conditioned predictor"):
        ActionPredictor(NANO)


def test_action_model_has_no_prediction_without_actions() -> None:
    with pytest.raises(TypeError, match="'nanoac' predicts from actions"):
        random_model(NANO_AC).future_latents(pixels_of(), 6)


# --- one independent computation of the whole


def test_encoder_by_hand() -> None:
    """A one-block encoder written out once more with other operations, in float64."""
    config = VJEPA2Config(name="one", width=12, depth=1, heads=1, mlp_width=20, crop=32)
    model = random_model(config)
    encoder, (block,) = model.encoder, model.encoder.blocks
    pixels = torch.randn(1, 3, 4, 32, 32, dtype=torch.float64)
    x = encoder.patch_embed.proj(pixels).flatten(2)[0].T  # [8, 12]

    def norm(x: Tensor, layer: torch.nn.Module) -> Tensor:
        scale = (x.var(dim=1, unbiased=False, keepdim=True) + 1e-6).sqrt()
        return (x - x.mean(dim=1, keepdim=True)) / scale * layer.weight + layer.bias

    q, k, v = (norm(x, block.norm1) @ block.attn.qkv.weight.T + block.attn.qkv.bias).split(
        12, dim=1
    )
    places = [(t, y, x) for t in range(2) for y in range(2) for x in range(2)]
    q, k = (
        torch.tensor(
            [rotated_by_hand(row, place) for row, place in zip(side.tolist(), places, strict=True)],
            dtype=torch.float64,
        )
        for side in (q, k)
    )
    seen = F.softmax(q @ k.T / math.sqrt(12), dim=1) @ v
    x = x + seen @ block.attn.proj.weight.T + block.attn.proj.bias
    hidden = norm(x, block.norm2) @ block.mlp.fc1.weight.T + block.mlp.fc1.bias
    hidden = hidden * (1 + torch.erf(hidden / math.sqrt(2))) / 2
    x = x + hidden @ block.mlp.fc2.weight.T + block.mlp.fc2.bias
    close(encoder(pixels)[0], norm(x, encoder.norm), 1e-11)
