"""An independent V-JEPA 2, that of ``transformers``: the same latents; called the obvious way it leaks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from vjepa2 import VJEPA2, PredictorConfig, VJEPA2Config
from vjepa2.files.checkpoint import fingerprint
from vjepa2.files.key_maps import from_transformers

transformers = pytest.importorskip("transformers", reason="needs the extra 'dev' (transformers)")

WINDOW, CONTEXT = 8, 4

CONFIG = VJEPA2Config(
    name="small",
    width=48,
    depth=2,
    heads=2,
    mlp_width=96,
    crop=48,
    predictor=PredictorConfig(width=32, depth=2, heads=2, mask_tokens=3),
)
TOKENS = WINDOW // 2 * CONFIG.tokens_per_tubelet
SEEN = CONTEXT // 2 * CONFIG.tokens_per_tubelet


@pytest.fixture(scope="module")
def theirs() -> Any:
    """``transformers``' model with random weights, in float64."""
    config = transformers.VJEPA2Config(
        crop_size=48,
        frames_per_clip=WINDOW,
        hidden_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        mlp_ratio=2.0,
        pred_hidden_size=32,
        pred_num_hidden_layers=2,
        pred_num_attention_heads=2,
        pred_num_mask_tokens=3,
        attn_implementation="eager",
    )
    model = transformers.VJEPA2Model(config).double().eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        scale = 0.2 if parameter.ndim > 1 else 0.3
        parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
        if "norm" in name and name.endswith("weight"):
            parameter.add_(1)
    return model


@pytest.fixture(scope="module")
def ours(theirs: Any) -> VJEPA2:
    """Ours with the same weights."""
    model = VJEPA2(CONFIG).double().eval().requires_grad_(False)
    state = from_transformers(dict(theirs.state_dict()))
    assert state.keys() == dict(model.named_parameters()).keys()
    for name, parameter in model.named_parameters():
        parameter.copy_(state[name])
    assert fingerprint(dict(model.named_parameters())) == fingerprint(state)
    return model


@pytest.fixture
def pixels() -> Tensor:
    return torch.randn(2, 3, WINDOW, 48, 48, dtype=torch.float64)


def valid_prediction(theirs: Any, pixels: Tensor) -> Tensor:
    """Two calls: the encoder on the context frames alone, then the predictor."""
    context = theirs.encoder(pixels[:, :, :CONTEXT].transpose(1, 2)).last_hidden_state
    where = torch.arange(TOKENS).expand(len(pixels), -1)
    return theirs.predictor(context, [where[:, :SEEN]], [where[:, SEEN:]]).last_hidden_state


def obvious_prediction(theirs: Any, pixels: Tensor) -> Tensor:
    """One call with masks, which are applied after the whole clip went through the encoder."""
    where = torch.arange(TOKENS).expand(len(pixels), -1)
    out = theirs(
        pixels.transpose(1, 2), context_mask=[where[:, :SEEN]], target_mask=[where[:, SEEN:]]
    )
    return out.predictor_output.last_hidden_state


def test_same_latents(theirs: Any, ours: VJEPA2, pixels: Tensor) -> None:
    # Their rotary angles are formed in float32 in places: hence not to the last digit.
    full = theirs.encoder(pixels.transpose(1, 2)).last_hidden_state
    torch.testing.assert_close(ours.encoder(pixels), full, rtol=0, atol=1e-5)
    latents = ours.future_latents(pixels, CONTEXT)
    torch.testing.assert_close(latents.observed.flatten(1, 2), full[:, SEEN:], rtol=0, atol=1e-5)
    expected = valid_prediction(theirs, pixels)
    torch.testing.assert_close(latents.predicted.flatten(1, 2), expected, rtol=0, atol=1e-5)


def test_same_latents_in_float32(theirs: Any, ours: VJEPA2, pixels: Tensor) -> None:
    few = pixels.float()
    theirs, ours = theirs.float(), ours.float()
    try:
        latents = ours.future_latents(few, CONTEXT)
        expected = valid_prediction(theirs, few)
    finally:
        theirs.double()
        ours.double()
    torch.testing.assert_close(latents.predicted.flatten(1, 2), expected, rtol=0, atol=3e-5)


def test_the_obvious_call_leaks_the_future(theirs: Any, ours: VJEPA2, pixels: Tensor) -> None:
    """Why this project has its own V-JEPA 2: changing the future frames alone changes that prediction."""
    changed = pixels.clone()
    changed[:, :, CONTEXT:] = torch.randn_like(changed[:, :, CONTEXT:])
    leaked = obvious_prediction(theirs, changed) - obvious_prediction(theirs, pixels)
    assert leaked.abs().max() > 1e-2
    assert torch.equal(valid_prediction(theirs, changed), valid_prediction(theirs, pixels))
    before, after = (ours.future_latents(clip, CONTEXT).predicted for clip in (pixels, changed))
    assert torch.equal(before, after)
