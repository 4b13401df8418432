"""Image encoders of transformers, tiny random ones: features as of a plain forward pass, gradients."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from fakes import NANO, random_model
from torch.nn import functional as F

import vjepa2.config
from wmreward.errors import UsageError, WMRewardError
from wmreward.rewards import encoders
from wmreward.rewards.encoders import EncoderChoice, ImageEncoder, WorldModelEncoder
from wmreward.rewards.features import Trajectory
from wmreward.rewards.geometry import GeometryReward

transformers = pytest.importorskip("transformers", reason="needs the extra 'judges' (transformers)")

CPU = torch.device("cpu")
MEAN, STD = [0.5, 0.4, 0.3], [0.2, 0.25, 0.3]


def sizes() -> dict[str, Any]:
    return {
        "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 28,
        "intermediate_size": 32,
    }  # fmt: skip


def write(folder: Path, kind: str) -> Path:
    """An encoder of a kind with random weights; sees 42 pixels, 9 patches of 14 (DINOv3: 2 × 2 of 16)."""
    torch.manual_seed(0)
    if kind == "dinov2":
        model = transformers.Dinov2Model(transformers.Dinov2Config(**sizes(), patch_size=14))
    else:
        config = transformers.DINOv3ViTConfig(**sizes(), patch_size=16, num_register_tokens=3)
        model = transformers.DINOv3ViTModel(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)
    told = {"crop_size": {"height": 42, "width": 42}, "image_mean": MEAN, "image_std": STD}
    (folder / "preprocessor_config.json").write_text(json.dumps(told))
    return folder


@pytest.mark.parametrize(("kind", "patches"), [("dinov2", 9), ("dinov3", 4)])
def test_features_are_those_of_a_plain_forward_pass(
    tmp_path: Path, kind: str, patches: int
) -> None:
    encoder = EncoderChoice(name=str(write(tmp_path, kind))).load(CPU, 16)
    assert isinstance(encoder, ImageEncoder) and (encoder.frames, encoder.step) == (1, 1)
    videos = torch.rand(2, 3, 5, 30, 50) * 2 - 1
    tokens = Trajectory(encoder, batch_size=3).tokens(videos)
    assert tokens.shape == (2, 5, patches, 24)
    model = transformers.AutoModel.from_pretrained(tmp_path)
    side = 42 if kind == "dinov2" else 32
    frame = (videos[1, :, 3] + 1) / 2
    seen = F.interpolate(frame[None], (side, side), mode="bilinear", antialias=True)
    seen = (seen - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    with torch.no_grad():
        expected = model(pixel_values=seen).last_hidden_state[0]
    others = 1 if kind == "dinov2" else 4  # what stands for the whole image, and registers
    assert len(expected) == patches + others
    torch.testing.assert_close(tokens[1, 3], expected[others:], atol=1e-5, rtol=1e-5)


def test_geometry_of_an_image_encoder_has_a_gradient(tmp_path: Path) -> None:
    choice = EncoderChoice(name=str(write(tmp_path, "dinov2")))
    reward = GeometryReward(Trajectory(choice.load(CPU, 16), grad_batch_size=2))
    assert reward.min_frames == 4
    videos = (torch.rand(1, 3, 6, 42, 42) * 2 - 1).requires_grad_()
    scores = reward(videos).scores
    torch.testing.assert_close(scores.detach(), reward(videos.detach()).scores)
    (gradient,) = torch.autograd.grad(scores.sum(), videos)
    step = 0.01 * gradient / gradient.norm()
    better = reward((videos + step).detach()).scores - scores
    assert better.item() == pytest.approx(0.01 * gradient.norm().item(), rel=0.1)


def test_what_is_recorded_tells_weights_apart(tmp_path: Path) -> None:
    choice = EncoderChoice(name=str(write(tmp_path, "dinov2")))
    before = choice.settings()
    assert before["encoder"] == str(tmp_path) and len(before["encoder_weights"]) == 64
    assert choice.settings() == before
    weights = tmp_path / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert choice.settings()["encoder_weights"] != before["encoder_weights"]


def test_encoders_that_cannot_serve(tmp_path: Path) -> None:
    folder = write(tmp_path, "dinov2")
    (folder / "preprocessor_config.json").write_text("[]")
    with pytest.raises(WMRewardError, match=r"preprocessor_config\.json: not the settings"):
        EncoderChoice(name=str(folder)).load(CPU, 16)
    (folder / "preprocessor_config.json").unlink()  # then ImageNet's, at 224 pixels
    loaded = EncoderChoice(name=str(folder)).load(CPU, 16)
    assert isinstance(loaded, ImageEncoder) and loaded.side == 224
    with pytest.raises(
        UsageError, match="no such folder, and on the Hugging Face Hub a name is owner/name"
    ):
        EncoderChoice(name="dinov2").settings()
    with pytest.raises(WMRewardError, match="no vision transformer"):
        ImageEncoder("resnet", transformers.ResNetModel(transformers.ResNetConfig(depths=[1])))


def test_a_v_jepa_serves_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """A distilled one without its teacher."""
    for name in ("vitb21", "vitl21"):
        choice = EncoderChoice(name=name).world_model
        assert choice is not None and choice.reading is not None
        assert choice.reading.observed == "student"
    tiny = EncoderChoice(name="tiny")
    assert tiny.settings()["encoder"] == "tiny" and tiny.world_model is not None
    model = random_model(NANO)
    monkeypatch.setitem(vjepa2.config.MODELS, "tiny", NANO)
    monkeypatch.setattr(encoders, "loaded", lambda _: type("Loaded", (), {"model": model}))
    found = tiny.load(CPU, 12)
    assert isinstance(found, WorldModelEncoder) and found.frames == 12 and found.model is model
