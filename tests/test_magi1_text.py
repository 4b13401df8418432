"""Text of MAGI-1: the byte encoder, T5, prompt cleaning, special tokens and the text of each chunk."""

from __future__ import annotations

import warnings

import pytest
import torch
from magi1.byte_t5 import ByteT5, ByteT5Config, relative_buckets, tokenize
from magi1.errors import MagiUsageError
from torch import Tensor

TINY = ByteT5Config(
    d_model=24,
    num_layers=3,
    num_heads=3,
    d_kv=10,
    d_ff=40,
    max_length=40,
    relative_attention_num_buckets=12,
    relative_attention_max_distance=20,
    layer_norm_epsilon=1e-3,  # large enough to tell where it is added
)


def byte_t5(config: ByteT5Config = TINY, *, seed: int = 0) -> ByteT5:
    """An encoder with random weights, its norms away from 1."""
    torch.manual_seed(seed)
    model = ByteT5(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.add_(0.3 * torch.randn_like(parameter))
    return model


PROMPTS = [
    "a red ball falls",
    "",
    "zwei Bälle stoßen zusammen, und noch viel mehr Text als hineinpasst",
]


# --- the byte encoder ---


def test_tokens_are_bytes_after_three_special_ids() -> None:
    ids, mask = tokenize(["ab", "", "é" * 9], 6)
    assert ids.tolist() == [
        [100, 101, 1, 0, 0, 0],
        [1, 0, 0, 0, 0, 0],
        [0xC3 + 3, 0xA9 + 3, 0xC3 + 3, 0xA9 + 3, 0xC3 + 3, 1],  # cut, end of sequence kept
    ]
    assert mask.tolist() == [[1, 1, 1, 0, 0, 0], [1, 0, 0, 0, 0, 0], [1] * 6]
    assert ids.dtype == mask.dtype == torch.int64


def test_tokens_are_those_of_byt5() -> None:
    transformers = pytest.importorskip("transformers")
    ids, mask = tokenize(PROMPTS, 40)
    theirs = transformers.ByT5Tokenizer()(
        PROMPTS, padding="max_length", truncation=True, max_length=40, return_tensors="pt"
    )
    assert torch.equal(ids, theirs["input_ids"])
    assert torch.equal(mask, theirs["attention_mask"])


def independent_t5(config: ByteT5Config, state: dict[str, Tensor]) -> torch.nn.Module:
    """The same encoder as transformers has it."""
    transformers = pytest.importorskip("transformers")
    settings = config.to_dict() | {"feed_forward_proj": "gated-gelu", "vocab_size": 259}
    del settings["model_type"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = transformers.T5EncoderModel(transformers.T5Config(**settings)).eval()
    tied = {"encoder.embed_tokens.weight": state["shared.weight"]}
    wanted = model.state_dict().keys()
    model.load_state_dict({k: v for k, v in (state | tied).items() if k in wanted}, strict=True)
    return model


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_byte_t5_is_the_t5_encoder_of_transformers(dtype: torch.dtype) -> None:
    model = byte_t5()
    theirs = independent_t5(TINY, model.state_dict()).to(dtype)
    model = model.to(dtype)
    ids, mask = tokenize(PROMPTS, 40)
    actual = model(ids, mask)
    expected = theirs(input_ids=ids, attention_mask=mask).last_hidden_state
    assert actual.dtype == dtype
    # transformers' attention and norms are float32 inside
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5)


def test_padding_and_neighbours_change_nothing() -> None:
    model = byte_t5().double()
    short = model(*tokenize(["a red ball"], 11))
    ids, mask = tokenize(["a red ball", "something else"], 30)
    together = model(ids, mask)
    torch.testing.assert_close(together[:1, :11], short, rtol=0, atol=1e-12)
    ids[0, 20] = 77  # below the padding
    torch.testing.assert_close(model(ids, mask)[0, :11], short[0], rtol=0, atol=1e-12)
    assert model(ids, torch.zeros_like(mask)).isfinite().all()


def test_byte_t5_learns_in_every_parameter() -> None:
    model = byte_t5()
    ids, mask = tokenize(["ab"], 4)
    model(ids, mask).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_byte_t5_gradient_is_exact() -> None:
    config = ByteT5Config(d_model=4, num_layers=1, num_heads=2, d_kv=3, d_ff=5, max_length=4)
    model = byte_t5(config).double()
    _, mask = tokenize(["ab"], 4)
    x = torch.randn(1, 4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: model.encoder(x, mask)[:, :3], x)


def test_byte_t5_in_half_precision() -> None:
    model = byte_t5()
    ids, mask = tokenize(PROMPTS, 40)
    exact = model(ids, mask)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = model(ids, mask)
    half = model.bfloat16()(ids, mask)
    assert half.dtype == torch.bfloat16
    for rounded in (mixed, half):
        difference = (rounded.float() - exact)[mask.bool()].square().mean().sqrt()
        assert difference < 2e-2 * exact.std()


def test_distances_fall_into_buckets() -> None:
    offset = torch.tensor([0, -1, -2, -3, -7, -8, -20, -10_000, 1, 7, 8, 127, 128, 10_000])
    expected = [0, 1, 2, 3, 7, 8, 10, 15, 17, 23, 24, 31, 31, 31]
    assert relative_buckets(offset, 32, 128).tolist() == expected


def test_byte_t5_starts_with_activations_of_order_one() -> None:
    torch.manual_seed(0)
    config = ByteT5Config(d_model=64, num_layers=2, num_heads=4, d_kv=16, d_ff=128, max_length=64)
    features = ByteT5(config)(*tokenize(["a ball falls on a table"], 64))
    assert 0.5 < features.std().item() < 2


def test_byte_t5_config_round_trip_and_errors() -> None:
    assert ByteT5Config.from_dict(TINY.to_dict()) == TINY
    with pytest.raises(MagiUsageError, match="model_type"):
        ByteT5Config.from_dict({"model_type": "t5"})
    with pytest.raises(MagiUsageError, match="'dropout'"):
        ByteT5Config.from_dict(TINY.to_dict() | {"dropout": 0.1})
    lacking = TINY.to_dict()
    del lacking["d_kv"]
    with pytest.raises(MagiUsageError, match="d_kv"):
        ByteT5Config.from_dict(lacking)
