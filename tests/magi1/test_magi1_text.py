"""Text of MAGI-1: the byte encoder, T5, prompt cleaning, special tokens and the text of each chunk."""

from __future__ import annotations

import builtins
import json
import shutil
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from magi1_goldens import COMMITTED, COMPLETE, golden
from torch import Tensor

from magi1.errors import MagiError, MagiUsageError
from magi1.files.located import located
from magi1.text.byte_t5 import ByteT5, ByteT5Config, relative_buckets, tokenize
from magi1.text.chunk_texts import (
    ChunkText,
    SpecialTokens,
    TokenVectors,
    chunk_text,
    load_token_vectors,
)
from magi1.text.cleaning import clean_prompt
from magi1.text.encoder import (
    ByteEncoder,
    T5Encoder,
    TextFeatures,
    check_text_encoder,
    load_text_encoder,
)
from magi1.text.reader import PromptReader
from wmweights import quantise, write_state

CAN_CLEAN = find_spec("ftfy") is not None and find_spec("bs4") is not None
REASON = "prompt cleaning needs the extra generate"
needs_cleaner = pytest.mark.skipif(not CAN_CLEAN, reason=REASON)

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
    with pytest.raises(MagiUsageError, match="'d_kv' is missing"):
        ByteT5Config.from_dict(lacking)
    for wrong in (0, "64", None):
        with pytest.raises(MagiUsageError, match="d_kv is"):
            ByteT5Config.from_dict(TINY.to_dict() | {"d_kv": wrong})


# --- text encoders from folders ---


def save_byte_t5(model: ByteT5, folder: Path, *, int8: bool = False) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(model.config.to_dict()))
    state = model.state_dict()
    write_state(quantise(state) if int8 else state, folder / "model.safetensors")


def test_byte_encoder_from_a_folder(tmp_path: Path) -> None:
    model = byte_t5()
    save_byte_t5(model, tmp_path)
    encoder = load_text_encoder(tmp_path)
    assert (encoder.width, encoder.max_length) == (24, 40)
    features, mask = encoder.encode(["  A red\n\tBall  falls ", ""])
    assert features.shape == (2, 40, 24)
    assert features.dtype == torch.float32
    assert not features.requires_grad
    ids, expected = tokenize(["a red ball falls", ""], 40)
    assert torch.equal(mask, expected)
    assert torch.allclose(features, model(ids, expected), rtol=0, atol=1e-5)

    shorter = load_text_encoder(tmp_path, dtype=torch.bfloat16, max_length=9)
    features, mask = shorter.encode(["a red ball"])
    assert features.shape == (1, 9, 24)
    assert features.dtype == torch.float32
    assert mask.sum() == 9


def test_byte_encoder_from_int8_weights(tmp_path: Path) -> None:
    model = byte_t5()
    save_byte_t5(model, tmp_path, int8=True)
    assert (tmp_path / "model.safetensors").stat().st_size < 40_000
    exact, mask = ByteEncoder(model).encode(PROMPTS)
    rounded = load_text_encoder(tmp_path).encode(PROMPTS).features
    difference = (rounded - exact)[mask.bool()].square().mean().sqrt()
    assert 0 < difference < 0.03 * exact.std()


def test_byte_encoder_carries_gradients() -> None:
    model = byte_t5()
    ByteEncoder(model).encode(["a red ball"]).features.sum().backward()
    assert model.shared.weight.grad is not None


def test_folders_that_are_no_text_encoder(tmp_path: Path) -> None:
    with pytest.raises(MagiError, match=r"config\.json is missing"):
        load_text_encoder(tmp_path)
    config = tmp_path / "config.json"
    for content, message in (
        ("{", "config.json: not JSON"),
        ("[]", "not a JSON object"),
        ('{"model_type": "bert"}', "'bert'"),
        ('{"model_type": "byte_t5"}', "'d_ff' is missing in .*config.json"),
        (json.dumps(TINY.to_dict()), "model.safetensors: no such file"),
        ('{"model_type": "t5"}', "has no tokenizer"),
    ):
        config.write_text(content)
        with pytest.raises(MagiError, match=message) as caught:
            load_text_encoder(tmp_path)
        assert "\n" not in str(caught.value)


def test_weights_that_do_not_fit_their_config(tmp_path: Path) -> None:
    save_byte_t5(byte_t5(), tmp_path)
    wider = TINY.to_dict() | {"d_ff": 48}
    (tmp_path / "config.json").write_text(json.dumps(wider))
    with pytest.raises(MagiError, match=r"DenseReluDense.* has shape .*, expected"):
        load_text_encoder(tmp_path)
    more = TINY.to_dict() | {"num_layers": 4}
    (tmp_path / "config.json").write_text(json.dumps(more))
    with pytest.raises(MagiError, match="missing keys"):
        load_text_encoder(tmp_path)


CORPUS = [f"a {c} ball {v} on a mat" for c in ("red", "blue") for v in ("rolls", "falls", "stops")]


@pytest.fixture(scope="module")
def t5_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny T5 with random weights and a sentencepiece tokenizer, laid out as the released one."""
    transformers = pytest.importorskip("transformers")
    sentencepiece = pytest.importorskip("sentencepiece")
    if not CAN_CLEAN:
        pytest.skip(REASON)
    folder = tmp_path_factory.mktemp("t5") / "t5-v1_1-xxl"
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS),
        model_prefix=str(folder.parent / "spiece"),
        vocab_size=40,
        hard_vocab_limit=False,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    torch.manual_seed(0)
    config = transformers.T5Config(
        vocab_size=48,
        d_model=16,
        d_kv=4,
        d_ff=20,
        num_layers=2,
        num_heads=4,
        feed_forward_proj="gated-gelu",
    )
    transformers.T5EncoderModel(config).save_pretrained(folder)
    (folder.parent / "spiece.model").rename(folder / "spiece.model")
    return folder


def test_t5_encoder_is_a_direct_call_of_transformers(t5_folder: Path) -> None:
    import sentencepiece
    import transformers

    encoder = load_text_encoder(
        t5_folder.parent
    )  # the folder around it, as in MAGI-1's configuration
    assert isinstance(encoder, T5Encoder)
    assert (encoder.width, encoder.max_length) == (16, 800)
    features, mask = encoder.encode(["A (Red) Ball FALLS", ""])
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(t5_folder / "spiece.model"))
    tokens = [*pieces.encode("a red ball falls"), 1]
    assert mask.shape == (2, 800)
    assert mask.sum(1).tolist() == [len(tokens), 1]
    assert features.shape == (2, 800, 16)
    assert features.dtype == torch.float32
    assert not features.requires_grad

    model = transformers.T5EncoderModel.from_pretrained(t5_folder).eval()
    ids = torch.tensor([tokens])
    alone = model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
    torch.testing.assert_close(features[:1, : len(tokens)], alone, rtol=0, atol=1e-5)


def test_t5_encoder_cuts_long_prompts_and_runs_in_half_precision(t5_folder: Path) -> None:
    encoder = load_text_encoder(t5_folder, dtype=torch.bfloat16, max_length=6)
    assert encoder.model.dtype == torch.bfloat16  # type: ignore[attr-defined]
    features, mask = encoder.encode([" ".join(CORPUS), "a"])
    assert features.shape == (2, 6, 16)
    assert features.dtype == torch.float32
    assert mask[0].sum() == 6
    ids, _ = encoder.reader.tokens([" ".join(CORPUS)])
    assert ids[0, -1] == 1  # the end of sequence is kept


def test_t5_encoder_reads_torch_weights_and_a_json_tokenizer(
    t5_folder: Path, tmp_path: Path
) -> None:
    transformers = pytest.importorskip("transformers")
    import sentencepiece
    from tokenizers import Tokenizer
    from tokenizers.models import Unigram
    from tokenizers.pre_tokenizers import Metaspace
    from tokenizers.processors import TemplateProcessing

    pieces = sentencepiece.SentencePieceProcessor(model_file=str(t5_folder / "spiece.model"))
    scores = [(pieces.id_to_piece(i), pieces.get_score(i)) for i in range(len(pieces))]
    tokenizer = Tokenizer(Unigram(scores, unk_id=2))
    tokenizer.pre_tokenizer = Metaspace()
    tokenizer.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps(
            {
                "tokenizer_class": "PreTrainedTokenizerFast",
                "pad_token": "<pad>",
                "eos_token": "</s>",
            }
        )
    )
    model = transformers.T5EncoderModel.from_pretrained(t5_folder)
    (tmp_path / "config.json").write_text(model.config.to_json_string())
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")

    actual = load_text_encoder(tmp_path, max_length=20).encode(CORPUS[:3])
    expected = load_text_encoder(t5_folder, max_length=20).encode(CORPUS[:3])
    assert torch.equal(actual.mask, expected.mask)
    torch.testing.assert_close(actual.features, expected.features)


def test_t5_with_a_weight_missing_or_damaged_files(t5_folder: Path, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    for name in ("config.json", "spiece.model"):
        (tmp_path / name).write_bytes((t5_folder / name).read_bytes())
    with pytest.raises(MagiError, match="cannot load"):
        load_text_encoder(tmp_path)
    state = transformers.T5EncoderModel.from_pretrained(t5_folder).state_dict()
    lacking = {
        k: v.clone() for k, v in state.items() if "wi_1" not in k and "embed_tokens" not in k
    }
    write_state(lacking, tmp_path / "model.safetensors")
    with pytest.raises(MagiError, match=r"lacks 2 weights .*wi_1"):
        load_text_encoder(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(MagiError, match="cannot load"):
        load_text_encoder(tmp_path)
    (tmp_path / "spiece.model").write_bytes(b"not a tokenizer")
    with pytest.raises(MagiError, match="cannot read"):
        load_text_encoder(tmp_path)


def test_t5_is_checked_by_the_headers_of_its_files(t5_folder: Path, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    whole = tmp_path / "whole"
    shutil.copytree(t5_folder, whole)
    assert check_text_encoder(whole).max_length == 800
    state = transformers.T5EncoderModel.from_pretrained(t5_folder).state_dict()
    (whole / "model.safetensors").unlink()
    torch.save(state, whole / "pytorch_model.bin")
    check_text_encoder(whole)
    torch.save(state, whole / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    check_text_encoder(whole)  # an old file has no list of contents: loading it tells

    def refused(name: str, content: bytes, says: str) -> None:
        folder = tmp_path / "damaged"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(t5_folder, folder)
        if name.endswith(".bin"):
            (folder / "model.safetensors").unlink()
        (folder / name).write_bytes(content)
        with pytest.raises(MagiError, match=says) as found:
            check_text_encoder(folder)
        assert "damaged" in str(found.value) and "\n" not in str(found.value)

    good = (t5_folder / "model.safetensors").read_bytes()
    refused("model.safetensors", good[: len(good) // 2], "model.safetensors cannot be read")
    torch.save(state, tmp_path / "state.bin")
    packed = (tmp_path / "state.bin").read_bytes()
    refused("pytorch_model.bin", packed[: len(packed) // 2], "pytorch_model.bin cannot be read")
    refused("pytorch_model.bin", b"", "pytorch_model.bin cannot be read")
    for name, says in (
        ("spiece.model", "cannot read"),
        ("tokenizer.json", "cannot read the token"),
    ):
        for content in (b"", b"{}", good[:1000]):
            refused(name, content, says)
    config = json.loads((t5_folder / "config.json").read_text())
    for changes, says in (
        ({"d_model": 24}, "has shape"),
        ({"num_layers": 3}, "lacks 9 weights"),
        ({"d_model": "wide"}, "config.json' is not|config.json is not"),
        ({"model_type": "bert"}, "has model_type 'bert'"),
    ):
        refused("config.json", json.dumps(config | changes).encode(), says)


def test_what_is_said_of_the_small_encoder_is_what_it_reads() -> None:
    root = Path(__file__).parents[2]
    config = located("magi1:weights/tiny/byte_t5/config.json")
    reads = json.loads(config.read_text())["max_length"] - 1
    for page in ("docs/generating.md", "MAGI-1/magi1/weights/README.md"):
        assert f"reads {reads} bytes of a prompt" in (root / page).read_text(encoding="utf-8")


def test_what_is_cut_of_a_prompt(t5_folder: Path) -> None:
    def cut(reader: PromptReader, prompt: str, special: int = 0) -> tuple[int, int, str] | None:
        found = reader.cut(prompt, special)
        return None if found is None else (found.length, found.read, found.unread)

    bytes_ = ByteEncoder(byte_t5()).reader  # 40 tokens, end of sequence included
    exact = "a red ball on the left falls on the mat"
    assert len(exact) == 39 and cut(bytes_, exact) is None
    assert cut(bytes_, exact.replace(" ", "   ").upper()) is None
    assert cut(bytes_, exact + "s and stops") == (50, 39, "mats and stops")
    assert cut(bytes_, exact + " and stops") == (49, 39, "and stops")
    assert cut(bytes_, exact, special=1) is None  # only the end of sequence falls off
    assert cut(bytes_, exact, special=3) == (39, 37, "mat")
    assert cut(bytes_, "é" * 30) == (60, 39, "é" * 30)  # one word
    assert cut(bytes_, "") is None
    reader = check_text_encoder(t5_folder, 8)
    length, read, unread = cut(reader, " ".join(CORPUS)) or (0, 0, "")
    assert read == 7 < length and " ".join(CORPUS).endswith(unread) and unread.count(" ") > 20
    ids, mask = reader.tokens([" ".join(CORPUS)])
    assert ids.shape == (1, 8) and mask.all() and ids[0, -1] == 1
    told = str(reader.cut(" ".join(CORPUS)))
    assert f"reads 7 of its {length} tokens, and nothing from" in told and len(told) < 200


@pytest.mark.parametrize("package", ["ftfy", "bs4", "transformers", "sentencepiece"])
def test_what_needs_the_extra_says_so(
    package: str, t5_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def refuse(name: str, *args: Any) -> Any:
        if name.partition(".")[0] == package:
            raise ImportError(f"No module named {package!r}", name=package)
        return real(name, *args)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(MagiError, match=r'pip install -e "\.\[generate\]"'):
        load_text_encoder(t5_folder).encode(["a ball"])


# --- prompt cleaning ---


def cleaning_pairs() -> list[tuple[str, str]]:
    folder = COMPLETE if COMPLETE.exists() else COMMITTED
    pairs = json.loads((folder / "text_cleaning.json").read_text(encoding="utf-8"))
    assert len(pairs) >= 16
    return [(pair["input"], pair["cleaned"]) for pair in pairs]


FURTHER_PAIRS = [
    (
        "see www.example.com/a-b, example.org and mail me@example.com",
        "see , and mail me",
    ),
    ("http:example and https://example", "xample and example"),
    ("shop.co.uk or bbc.co", ".uk or"),
    ("100%25+sure", "100% sure"),
    ("<p>Fire <b>burns</b></p> &lt;i&gt;hot&lt;/i&gt;", "fire burns hot< i>"),
    ("㈱ ㍿ ㇀ ㇰ 㐀 ䷀ 龥 あ", "あ"),  # kana stay
    ("one‐two–three〜four゠five", "one-two-three-four-five".replace("-", " ")),
    ("1.2.3.4 and 10.11.12.13:80", "and :80"),
    ("at 7:30 ", "at 7:30"),
    ("at 7:30 <br>", "at"),
    ("« a ¨ b", '" a " b'),
    ("a &amp;quot;b &amp;amp;c", "a b ;c"),
    ("say ''hi'' now", 'say "hi" now'),
    (".gif", ""),
    ("#1 #12 #123 #1234 #12345 123456 12345", "1234 12345"),
    ("a.jpeg b.webp.c c:/d/e.pdf f.gif", ".c f. gif"),
    ("''x''", "x"),
    ("wait.... what .. . ok", "wait what ok"),
    ("a-b_c-d", "a-b_c-d"),  # three joints stay, four do not
    ("a-b_c-d_e", "a b c d e"),
    ("ﬁre ｂｕｒｎｓ", "fire burns"),
    ("jc6640 jc6640vc 6640vc231 abcd1234", "abcd1234"),
    ("worldwide free shipping, free download free now", "now"),
    ("click on me, click me", "click me"),
    ("a png image, png images, pngs", "a , , s"),
    ("page 3 of pages 3", "of pages 3"),
    ("640x480 3.5×2 2х4 4 x 4", "4 x 4"),
    ("red,green.blue/white 3.5", "red, green. blue white 3.5"),
    ("time : now", "time: now"),
    ('"quoted"', "quoted"),
    ("-start and end+", "start and end"),
    ("", ""),
    ("   ", ""),
]


@needs_cleaner
@pytest.mark.parametrize(("prompt", "cleaned"), [*cleaning_pairs(), *FURTHER_PAIRS])
def test_prompts_are_cleaned(prompt: str, cleaned: str) -> None:
    assert clean_prompt(prompt) == cleaned


WORDS = [
    "a",
    "The",
    "Ball",
    "rolls",
    "DOWN",
    "slowly,",
    "and",
    "stops.",
    "Two",
    "glass",
    "3",
    "it's",
]


@needs_cleaner
@settings(max_examples=100, deadline=None, database=None)
@given(st.lists(st.sampled_from(WORDS), min_size=1), st.sampled_from([" ", "  ", " \n", "\t"]))
def test_plain_english_only_becomes_lower_case(words: list[str], space: str) -> None:
    cleaned = clean_prompt(space.join(words))
    expected = " ".join(words).lower()
    assert cleaned in (expected, expected[:-1])  # a comma at the end goes
    assert clean_prompt(cleaned) == cleaned


@needs_cleaner
@settings(max_examples=200, deadline=None, database=None)
@given(st.text(max_size=60))
def test_any_text_can_be_cleaned(text: str) -> None:
    cleaned = clean_prompt(text)
    assert cleaned == cleaned.strip()
    assert "  " not in cleaned
    assert not set(cleaned) & set("#®•©™@½¾¿¡§~)(][}{|\\/*")


# --- special tokens and the text of each chunk ---

ROWS = {
    "TRANS_TOKEN": 0,
    "HQ_TOKEN": 1,
    "STATIC_FIRST_FRAMES_TOKEN": 2,
    "DYNAMIC_FIRST_FRAMES_TOKEN": 3,
    "BORDERNESS_TOKEN": 4,
    **{f"DURATION_TOKEN_{i}": 6 + i for i in range(1, 9)},
    "THREE_D_MODEL_TOKEN": 15,
    "TWO_D_ANIME_TOKEN": 16,
}


def golden_vectors() -> TokenVectors:
    tensors = golden("prompt_tokens").tensors
    other = torch.full((100, 8), torch.nan)
    for name, row in ROWS.items():
        other[row] = tensors[f"token.{name}"][0]
    return TokenVectors(tensors["token.CAPTION_TOKEN"][0], tensors["token.LOGO_TOKEN"][0], other)


def padded_to(length: int, x: Tensor) -> Tensor:
    """``[n, D]`` → ``[length, D]``: the files keep only the first positions."""
    return torch.cat((x, torch.zeros(length - len(x), x.shape[1])))


@pytest.mark.parametrize("case", ["hq_duration", "plain", "many_neg_v2v"])
def test_text_of_chunks_is_that_of_the_released_pipeline(case: str) -> None:
    file = golden("prompt_tokens")
    about = file.metadata["cases"][case]
    mask = file[f"{case}.in.mask"]
    length = mask.shape[1]
    features = padded_to(length, file[f"{case}.in.emb"][0, 0])
    y, seen = chunk_text(
        TextFeatures(features[None], mask),
        padded_to(length, file[f"{case}.in.null"][0]),
        chunks=about["infer_chunk_num"],
        prefix_chunks=about["clean_chunk_num"],
        tokens=SpecialTokens.from_environment(dict.fromkeys(about["env"], "1")),
        vectors=golden_vectors(),
    )
    assert y.shape == (2, *about["out_shape"][1:])
    assert y.dtype == seen.dtype == torch.float32
    for row, name in enumerate(("caption", "null")):
        kept = file[f"{case}.out.{name}_first64"][0]
        torch.testing.assert_close(y[row, :, : kept.shape[1]], kept, rtol=0, atol=1e-6)
        expected = file[f"{case}.out.{name}_mask"][0].float()
        assert torch.equal(seen[row], expected)


def random_text(prompts: int, tokens: int, length: int = 60, width: int = 8) -> TextFeatures:
    features = torch.randn(prompts, length, width, generator=torch.Generator().manual_seed(3))
    mask = torch.zeros(prompts, length, dtype=torch.int64)
    mask[:, :tokens] = 1
    return TextFeatures(features, mask)


NULL = torch.randn(60, 8, generator=torch.Generator().manual_seed(4))


def numbered_vectors() -> TokenVectors:
    """Row i holds the number i everywhere; caption -1, logo -2."""
    other = torch.arange(100.0)[:, None].expand(-1, 8)
    return TokenVectors(torch.full((8,), -1.0), torch.full((8,), -2.0), other)


def test_every_token_in_its_place() -> None:
    every = SpecialTokens(True, True, True, True, True, True, True, True)
    text = random_text(1, 5)
    y, mask = chunk_text(text, NULL, chunks=2, tokens=every, vectors=numbered_vectors())
    assert y[0, :, :7, 0].tolist() == [[8, 16, 15, 1, 4, 3, 2], [7, 16, 15, 1, 4, 3, 2]]
    assert torch.equal(y[0, 1, 7:], text.features[0, :53])
    assert mask[0].sum(1).tolist() == [12, 12]
    assert y[1, 0, :4, 0].tolist() == [4, 0, -2, -1]
    assert torch.equal(y[1, 1, 4:], NULL[:56])
    assert mask[1].sum(1).tolist() == [50, 50]


def test_duration_counts_the_generated_chunks_to_come_up_to_8() -> None:
    y, _ = chunk_text(
        random_text(1, 5),
        NULL,
        chunks=12,
        prefix_chunks=2,
        tokens=SpecialTokens(duration=True),
        vectors=numbered_vectors(),
    )
    assert (y[0, 2:, 0, 0] - 6).tolist() == [8, 8, 8, 7, 6, 5, 4, 3, 2, 1]


def test_a_prompt_for_each_generated_chunk() -> None:
    text = random_text(3, 5)
    y, mask = chunk_text(text, NULL, chunks=4, prefix_chunks=1)
    assert torch.equal(y[0, 1:], text.features)
    assert torch.equal(y[0, 0], NULL)
    assert mask[0].sum(1).tolist() == [0, 5, 5, 5]


def test_text_without_tokens_is_the_null_text() -> None:
    every = SpecialTokens(hq=True, negative=True)
    y, mask = chunk_text(
        random_text(1, 0), NULL, chunks=3, tokens=every, vectors=numbered_vectors()
    )
    assert torch.equal(y[0], y[1])
    assert torch.equal(mask[0], mask[1])
    assert y[0, 0, :4, 0].tolist() == [4, 0, -2, -1]


def test_short_texts_show_all_of_the_null_text() -> None:
    y, mask = chunk_text(random_text(1, 3, length=20), NULL[:20], chunks=1)
    assert mask[1].sum() == 20
    assert y.shape == (2, 1, 20, 8)


def test_text_of_chunks_is_differentiable() -> None:
    text = random_text(1, 5)
    features = text.features.double().requires_grad_()
    null = NULL.double().requires_grad_()
    y, _ = chunk_text(
        TextFeatures(features, text.mask),
        null,
        chunks=3,
        prefix_chunks=1,
        tokens=SpecialTokens(duration=True),
        vectors=numbered_vectors(),
    )
    assert y.dtype == torch.float64
    y.sum().backward()
    assert features.grad is not None
    assert null.grad is not None
    assert features.grad[0, :, 0].tolist() == [2.0] * 59 + [
        0.0
    ]  # two chunks; the last place is cut
    assert null.grad[:, 0].tolist() == [4.0] * 60  # three null texts and one prefix chunk


def call(**changes: Any) -> ChunkText:
    return chunk_text(**{"text": random_text(1, 5), "null_embedding": NULL, "chunks": 2} | changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"chunks": 2, "prefix_chunks": 2}, "no chunk is left"),
        ({"chunks": 3, "text": random_text(2, 5)}, "2 prompts for 3"),
        ({"null_embedding": NULL[:50]}, "do not fit"),
        ({"tokens": SpecialTokens(hq=True)}, "vectors are not given"),
        ({"vectors": TokenVectors(NULL[0], NULL[0], torch.zeros(100, 4))}, "width 4"),
    ],
)
def test_text_that_does_not_fit(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(MagiUsageError, match=message):
        call(**changes)


def test_options_from_the_environment() -> None:
    assert SpecialTokens.from_environment({}) == SpecialTokens()
    assert not SpecialTokens.from_environment({"PAD_HQ": "0", "NEG_PROMPT": "no"}).any()
    for value in ("1", "true", "YES", "y", "On", "enabled"):
        tokens = SpecialTokens.from_environment({"PAD_HQ": value, "PAD_DURATION": value})
        assert tokens == SpecialTokens(hq=True, duration=True)
    names = ["STATIC", "DYNAMIC", "BORDERNESS", "HQ", "THREE_D_MODEL", "TWO_D_ANIME", "DURATION"]
    everything = dict.fromkeys([f"PAD_{name}" for name in names] + ["NEG_PROMPT"], "1")
    assert SpecialTokens.from_environment(everything) == SpecialTokens(*[True] * 8)
    for variable in everything:
        assert SpecialTokens.from_environment({variable: "1"}).any(), variable


def save_vectors(file: Path, **changes: np.ndarray | None) -> np.ndarray:
    rng = np.random.default_rng(0)
    other = rng.standard_normal((100, 8))
    arrays = {"caption_token": other[:1] + 1, "logo_token": other[:1] - 1, "other_tokens": other}
    np.savez(file, **{k: v for k, v in (arrays | changes).items() if v is not None})
    return other


def test_vectors_are_rounded_through_float16(tmp_path: Path) -> None:
    file = tmp_path / "special_tokens.npz"
    other = save_vectors(file)
    vectors = load_token_vectors(file, SpecialTokens(hq=True))
    assert vectors is not None
    assert vectors.other.dtype == torch.float32
    assert np.array_equal(vectors.other.numpy(), other.astype(np.float16).astype(np.float32))
    assert vectors.caption.shape == vectors.logo.shape == (8,)
    assert vectors.caption[0] > vectors.logo[0]


def test_files_of_vectors_that_cannot_be_used(tmp_path: Path) -> None:
    file = tmp_path / "special_tokens.npz"
    assert load_token_vectors(file, SpecialTokens()) is None
    hq = SpecialTokens(hq=True)
    with pytest.raises(MagiError, match="is missing"):
        load_token_vectors(file, hq)
    file.write_bytes(b"PK not a zip")
    with pytest.raises(MagiError, match="cannot read"):
        load_token_vectors(file, hq)
    save_vectors(file, other_tokens=None)
    with pytest.raises(MagiError, match="other_tokens"):
        load_token_vectors(file, hq)
    save_vectors(file, other_tokens=np.array([{"code": "to run"}], dtype=object))
    with pytest.raises(MagiError, match="is damaged, or not a"):
        load_token_vectors(file, hq)
    save_vectors(file, other_tokens=np.zeros((17, 8)))
    load_token_vectors(file, hq)
    save_vectors(file, other_tokens=np.zeros((5, 8)))
    with pytest.raises(MagiError, match=r"other_tokens .*\[5, 8\]"):
        load_token_vectors(file, hq)


def test_packages_are_checked_before_anything_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "config.json"
    save_byte_t5(byte_t5(), tmp_path)
    monkeypatch.setattr("magi1.text.encoder.find_spec", lambda name: None)
    check_text_encoder(tmp_path)  # needs none
    config.write_text(json.dumps({"model_type": "t5"}))
    with pytest.raises(MagiError, match=r"transformers, ftfy, bs4, sentencepiece.*\[generate\]"):
        check_text_encoder(tmp_path)
    (tmp_path / "tokenizer.json").touch()
    with pytest.raises(MagiError, match=r"transformers, ftfy, bs4: pip"):
        check_text_encoder(tmp_path)
