"""Weights files of every layout load strictly into the same model, or say in one line what is wrong."""

from __future__ import annotations

import logging
import os
import pickle
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from fakes import NANO, random_model
from safetensors.torch import load_file, save_file
from torch import Tensor

import vjepa2.files.checkpoint
import wmweights.kept_hash
from vjepa2 import MODELS, VJEPA2, Branches, WeightsError, load_model
from vjepa2.files import sources
from vjepa2.files.checkpoint import fingerprint
from vjepa2.files.key_maps import from_official, from_transformers, is_transformers, is_vjepa21
from vjepa2.files.quantise import dequantise, quantise
from vjepa2.files.sources import converted_path
from wmweights import safetensors_file

State = dict[str, Tensor]
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def nano_is_a_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """``nano`` by name, an official file name for it, and an empty working folder."""
    monkeypatch.setitem(MODELS, "nano", NANO)
    monkeypatch.setitem(sources.OFFICIAL_FILES, "nano", "nano.pt")
    monkeypatch.delenv(sources.CHECKPOINT_DIR_VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)


def weights(seed: int = 0) -> State:
    """Random weights by our names."""
    model = random_model(dtype=torch.float32, seed=seed)
    return {name: value.detach().clone() for name, value in model.named_parameters()}


def part(state: State, side: str) -> State:
    return {
        key.removeprefix(f"{side}."): value
        for key, value in state.items()
        if key.startswith(f"{side}.")
    }


def official(path: Path, prefix: str = "module.backbone.", seed: int = 0, **more: Any) -> Path:
    """A file as upstream's training saves it: wrapped, with unused tables and optimiser state."""
    state = weights(seed)
    tables = {
        "encoder": {"pos_embed": torch.randn(1, 32, 24)},
        "predictor": {"predictor_pos_embed": torch.randn(1, 32, 16)},
    }
    stored = {
        "encoder": part(state, "encoder") | tables["encoder"],
        "predictor": part(state, "predictor") | tables["predictor"],
        "target_encoder": part(weights(seed + 1), "encoder"),
    }
    wrapped = {
        name: {prefix + key: value for key, value in side.items()} for name, side in stored.items()
    }
    numbers = {
        "scaler": None,
        "epoch": 3,
        "loss": 0.5,
        "batch_size": 2,
        "world_size": 1,
        "lr": 1e-4,
    }
    opt = {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 1e-4}]}
    torch.save({**wrapped, "opt": opt, **numbers, **more}, path)
    return path


def to_transformers(state: State) -> State:
    """Our names → those of ``transformers``, written independently of the inverse."""
    out: State = {}
    tokens = {}
    for key, value in state.items():
        side, _, name = key.partition(".")
        if name.startswith("mask_tokens."):
            tokens[int(name.removeprefix("mask_tokens."))] = value
            continue
        for ours, theirs in (
            ("patch_embed.", "embeddings.patch_embeddings."),
            ("predictor_embed.", "embeddings.predictor_embeddings."),
            ("predictor_blocks.", "layer."),
            ("blocks.", "layer."),
            ("predictor_norm.", "layernorm."),
            ("predictor_proj.", "proj."),
        ):
            if name.startswith(ours):
                name = theirs + name.removeprefix(ours)
                break
        else:
            name = "layernorm." + name.removeprefix("norm.")
        name = f"{side}.{name}".replace(".attn.", ".attention.")
        if ".qkv." in name:
            for kind, rows in zip(("query", "key", "value"), value.chunk(3), strict=True):
                out[name.replace(".qkv.", f".{kind}.")] = rows.clone()
        else:
            out[name] = value
    out["predictor.embeddings.mask_tokens"] = torch.stack([tokens[i] for i in range(len(tokens))])
    return out


def same(model: VJEPA2, state: State) -> bool:
    """Whether exactly these weights were loaded, bit for bit, frozen and ready."""
    own = dict(model.named_parameters())
    assert own.keys() == state.keys()
    assert not model.training and not any(p.requires_grad for p in own.values())
    assert {str(p.device) for p in own.values()} == {"cpu"}
    return all(torch.equal(own[key], state[key]) for key in own)


def refuse_to_open(*_: Any, **__: Any) -> Any:
    raise AssertionError("the .pt file was opened")


def one_line(caught: pytest.ExceptionInfo[WeightsError], *parts: str) -> None:
    message = str(caught.value)
    assert "\n" not in message
    for expected in parts:
        assert expected in message, message


# --- the official layout


@pytest.mark.parametrize(
    "prefix", ["module.backbone.", "module.", "backbone.", "module.module.", ""]
)
def test_official_file(tmp_path: Path, prefix: str) -> None:
    model, info = load_model("nano", weights=official(tmp_path / "nano.pt", prefix))
    assert same(model, weights())
    assert (info.model, info.source, info.mask_token) == ("nano", "local file", 1)
    assert (info.context_encoder, info.target_encoder) == ("online", "online")
    assert info.files == (str(tmp_path / "nano.pt"),)
    norms = [weights()[f"predictor.mask_tokens.{i}"].norm().item() for i in range(3)]
    assert info.mask_token_norms == pytest.approx(norms)
    text = str(info)
    for shown in ("nano.pt", info.sha256, "online", *(f"{norm:.3g}" for norm in norms)):
        assert shown in text


def test_file_of_an_early_pytorch(tmp_path: Path) -> None:
    stored = torch.load(official(tmp_path / "nano.pt"), weights_only=True)
    torch.save(stored, tmp_path / "early.pt", _use_new_zipfile_serialization=False)
    assert same(load_model("nano", weights=tmp_path / "early.pt")[0], weights())


def test_converted_once_and_the_pt_not_opened_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = official(tmp_path / "nano.pt")
    _, first = load_model("nano", weights=path)
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "nano.encoder.safetensors",
        "nano.predictor.safetensors",
        "nano.pt",
    ]
    monkeypatch.setattr(torch, "load", refuse_to_open)
    model, second = load_model("nano", weights=path)
    assert same(model, weights()) and first == second


def test_conversion_of_an_older_file_is_made_again(tmp_path: Path) -> None:
    path = official(tmp_path / "nano.pt")
    load_model("nano", weights=path)
    official(path, seed=5)
    os.utime(path, ns=(1, 1))  # another time, whatever the size
    model, _ = load_model("nano", weights=path)
    assert same(model, weights(5))


def test_damaged_conversion_is_made_again(tmp_path: Path) -> None:
    path = official(tmp_path / "nano.pt")
    load_model("nano", weights=path)
    converted = converted_path(path, "encoder")
    converted.write_bytes(converted.read_bytes()[:-100])
    assert same(load_model("nano", weights=path)[0], weights())


def test_foreign_file_of_that_name_is_replaced(tmp_path: Path) -> None:
    path = official(tmp_path / "nano.pt")
    save_file(
        part(weights(7), "encoder"), converted_path(path, "encoder")
    )  # says not what it is from
    assert same(load_model("nano", weights=path)[0], weights())


@pytest.mark.parametrize("given", [True, False], ids=["given", "found"])
@pytest.mark.parametrize("side", ["online", "ema"])
def test_pt_may_be_removed_afterwards(tmp_path: Path, given: bool, side: str) -> None:
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    path = official(folder / "nano.pt")
    asked = {"weights": path} if given else {}
    branches = Branches(side, side)
    _, before = load_model("nano", branches=branches, **asked)
    path.unlink()
    model, after = load_model("nano", branches=branches, **asked)
    expected = weights() | {
        f"encoder.{key}": value
        for key, value in part(weights(0 if side == "online" else 1), "encoder").items()
    }
    assert same(model, expected) and before == after
    with pytest.raises(WeightsError, match=r"does not exist, and .* never converted") as caught:
        load_model("nano", branches=Branches("online", "ema"), **asked)
    one_line(caught, str(path.name))


def full_disk(limit: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


def test_full_disk_still_loads_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = official(tmp_path / "nano.pt")
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    full_disk(1000)  # no file may grow beyond 1000 bytes
    try:
        model, _ = load_model("nano", weights=path)
    finally:
        full_disk(unlimited)
    assert same(model, weights())
    assert [file.name for file in tmp_path.iterdir()] == ["nano.pt"]  # nothing half-written
    messages = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert len(messages) == 2 and all("could not be written" in m for m in messages)


def test_read_only_folder_still_loads_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = official(tmp_path / "nano.pt")

    def read_only(*_: Any, **__: Any) -> None:  # chmod would not stop root
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(safetensors_file, "save_file", read_only)
    assert same(load_model("nano", weights=path)[0], weights())
    assert "nano.encoder.safetensors could not be written" in caplog.text
    assert "Permission denied" in caplog.text


def test_ema_branches(tmp_path: Path) -> None:
    path = official(tmp_path / "nano.pt")
    online, ema = part(weights(0), "encoder"), part(weights(1), "encoder")
    for context, target in (("online", "ema"), ("ema", "online"), ("ema", "ema")):
        model, info = load_model("nano", weights=path, branches=Branches(context, target))
        assert (info.context_encoder, info.target_encoder) == (context, target)
        shared = context == target
        assert (model.encoder is model.target_encoder) == shared
        for encoder, side in ((model.encoder, context), (model.target_encoder, target)):
            stored = online if side == "online" else ema
            assert all(torch.equal(v, stored[k]) for k, v in encoder.state_dict().items())
    hashes = {
        load_model("nano", weights=path, branches=Branches(c, t))[1].sha256
        for c in ("online", "ema")
        for t in ("online", "ema")
    }
    assert len(hashes) == 4


def test_tensors_that_are_views_of_one_storage(tmp_path: Path) -> None:
    """A state saved from flattened parameters: every tensor a slice of one buffer."""
    state = part(weights(), "encoder")
    buffer = torch.cat([value.flatten() for value in state.values()])
    views, start = {}, 0
    for key, value in state.items():
        views[key] = buffer[start : start + value.numel()].view(value.shape)
        start += value.numel()
    path = official(tmp_path / "nano.pt", encoder=views)
    for _ in range(2):
        assert same(load_model("nano", weights=path)[0], weights())
    assert converted_path(path, "encoder").exists()


# --- the transformers layout and ours


def shards(folder: Path, state: State, count: int = 3) -> Path:
    """A folder of several files, cut without regard to what belongs together."""
    folder.mkdir()
    names = sorted(state)
    for i in range(count):
        few = {name: state[name] for name in names[i::count]}
        save_file(few, folder / f"model-{i + 1:05}-of-{count:05}.safetensors")
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors.index.json").write_text("{}")
    return folder


LAYOUTS: dict[str, Callable[[Path], Path]] = {}


def layout(make: Callable[[Path], Path]) -> Callable[[Path], Path]:
    LAYOUTS[make.__name__] = make
    return make


@layout
def ours(tmp_path: Path) -> Path:
    save_file(weights(), tmp_path / "ours.safetensors")
    return tmp_path / "ours.safetensors"


@layout
def hub(tmp_path: Path) -> Path:
    save_file(to_transformers(weights()), tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


@layout
def hub_with_prefix(tmp_path: Path) -> Path:
    state = {f"vjepa2.{key}": value for key, value in to_transformers(weights()).items()}
    save_file(state, tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


@layout
def hub_folder(tmp_path: Path) -> Path:
    return shards(tmp_path / "one", to_transformers(weights()), 1)


@layout
def hub_shards(tmp_path: Path) -> Path:
    return shards(tmp_path / "many", to_transformers(weights()))


@layout
def official_pt(tmp_path: Path) -> Path:
    return official(tmp_path / "nano.pt")


@layout
def official_pth(tmp_path: Path) -> Path:
    return official(tmp_path / "model.pth")


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_gives_the_same_model_and_fingerprint(tmp_path: Path, name: str) -> None:
    path = LAYOUTS[name](tmp_path)
    for given in (path, str(path)):
        model, info = load_model("nano", weights=given)
        assert same(model, weights())
        assert info.sha256 == fingerprint(weights())
        norms = [weights()[f"predictor.mask_tokens.{i}"].norm().item() for i in range(3)]
        assert info.mask_token_norms == pytest.approx(norms)


def test_key_maps_are_inverse() -> None:
    state = weights()
    theirs = to_transformers(state)
    assert is_transformers(set(theirs)) and not is_transformers(set(state))
    back = from_transformers(theirs)
    assert back.keys() == state.keys()
    assert all(torch.equal(back[key], state[key]) for key in state)
    wrapped = {f"module.backbone.{key}": value for key, value in state.items()}
    assert from_official(wrapped | {"module.pos_embed": torch.zeros(1)}).keys() == state.keys()


def test_only_the_two_known_tables_are_dropped(tmp_path: Path) -> None:
    for name in ("blocks.0.pos_embed", "pos_embed_2", "norm.pos_embed"):
        path = official(tmp_path / "nano.pt")
        stored = torch.load(path, weights_only=True)
        stored["encoder"][f"module.backbone.{name}"] = torch.zeros(3)
        torch.save(stored, path)
        with pytest.raises(WeightsError, match="1 unexpected keys") as caught:
            load_model("nano", weights=path)
        one_line(caught, f"encoder.{name}", str(path))


def test_fingerprint_tells_values_names_and_shapes_apart() -> None:
    state = weights()
    base = fingerprint(state)
    assert fingerprint(dict(reversed(state.items()))) == base
    assert fingerprint({key: value.double() for key, value in state.items()}) == base
    name = "encoder.norm.bias"
    for other in (
        state | {name: state[name] + 1e-6},
        state | {name: state[name][None]},
        {key if key != name else "encoder.norm.basis": value for key, value in state.items()},
    ):
        assert fingerprint(other) != base


@pytest.mark.parametrize("kind", ["official", "safetensors", "shards"])
def test_hash_is_computed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(wmweights.kept_hash, "LEAST_BYTES", 1)
    if kind == "official":
        path = official(tmp_path / "nano.pt")
    else:
        path = ours(tmp_path) if kind == "safetensors" else hub_shards(tmp_path)
    hashed: list[str] = []

    def counted(state: State) -> str:
        hashed.append(fingerprint(state))
        return hashed[-1]

    monkeypatch.setattr(vjepa2.files.checkpoint, "fingerprint", counted)
    loads = [load_model("nano", weights=path) for _ in range(3)]
    assert len(hashed) == 1
    assert all(same(model, weights()) for model, _ in loads)
    assert {info.sha256 for _, info in loads} == {fingerprint(weights())}
    assert load_model("nano", weights=path, rehash=True)[1].sha256 == hashed[0] == hashed[1]
    if kind == "official":  # another part of the same file has a hash of its own
        ema = load_model("nano", weights=path, branches=Branches("ema", "ema"))[1].sha256
        assert len(hashed) == 3 and ema == hashed[2] != hashed[0]
        assert load_model("nano", weights=path)[1].sha256 == hashed[0]
        os.utime(official(path, seed=3), ns=(0, 0))  # the file is replaced by another one
        assert load_model("nano", weights=path)[1].sha256 == fingerprint(weights(3))


def test_precision_and_mask_token_are_what_was_asked_for(tmp_path: Path) -> None:
    path = ours(tmp_path)
    model, info = load_model("nano", weights=path, dtype=torch.bfloat16, mask_token=2)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert model.mask_token == info.mask_token == 2
    assert info.sha256 == fingerprint(weights())  # of what the file holds


@pytest.mark.parametrize("name", ["ours", "hub", "hub_shards"])
def test_files_with_one_encoder_have_no_ema(tmp_path: Path, name: str) -> None:
    path = LAYOUTS[name](tmp_path)
    for branches in (Branches("ema", "ema"), Branches("online", "ema")):
        with pytest.raises(WeightsError, match="holds one encoder") as caught:
            load_model("nano", weights=path, branches=branches)
        one_line(caught, str(path), "official .pt file")


# --- quantised weights


def test_quantised_weights_are_near_and_small(tmp_path: Path) -> None:
    state = weights()
    small = quantise(state)
    back = dequantise(small)
    assert back.keys() == state.keys()
    for key, value in state.items():
        assert back[key].shape == value.shape
        if value.ndim < 2 or "mask_tokens" in key:
            assert torch.equal(back[key], value.half())
            continue
        rows, off = value.flatten(1), (back[key] - value).flatten(1).abs()
        assert (off <= rows.abs().amax(dim=1, keepdim=True) / 127 / 2 * 1.001).all()
    again = dequantise(quantise(back))
    assert all(torch.allclose(again[key].float(), back[key].float(), atol=1e-6) for key in back)
    zero = dequantise(quantise({"w": torch.zeros(3, 4)}))["w"]
    assert torch.equal(zero, torch.zeros(3, 4))
    path = tmp_path / "small.safetensors"
    save_file(small, path)
    model, info = load_model("nano", weights=path)
    assert same(model, {key: value.float() for key, value in back.items()})
    assert info.sha256 == fingerprint(back)


def test_what_is_not_quantised_passes_through() -> None:
    state = weights()
    out = dequantise(state)
    assert out.keys() == state.keys() and all(out[key] is state[key] for key in state)


# --- what does not fit


@pytest.mark.parametrize("name", LAYOUTS)
def test_missing_and_unexpected_keys(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = LAYOUTS[name](tmp_path)
    deeper = VJEPA2(NANO).config.__class__  # the same file, asked to fill another model
    monkeypatch.setitem(
        MODELS,
        "nano",
        deeper(name="nano", width=24, depth=3, heads=2, mlp_width=40, predictor=NANO.predictor),
    )
    with pytest.raises(WeightsError, match="does not fit model 'nano': 12 missing keys") as caught:
        load_model("nano", weights=path)
    first = path if path.is_file() else sorted(path.glob("*.safetensors"))[0]
    one_line(caught, str(first), "encoder.blocks.2.attn.proj.bias")
    monkeypatch.setitem(
        MODELS,
        "nano",
        deeper(name="nano", width=24, depth=1, heads=2, mlp_width=40, predictor=NANO.predictor),
    )
    with pytest.raises(WeightsError, match="12 unexpected keys") as caught:
        load_model("nano", weights=path)
    one_line(caught, "encoder.blocks.1.attn.proj.bias")


@pytest.mark.parametrize("name", LAYOUTS)
def test_wrong_shape_names_key_shapes_and_file(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = LAYOUTS[name](tmp_path)
    wider = NANO.__class__(
        name="nano", width=24, depth=2, heads=2, mlp_width=48, predictor=NANO.predictor
    )
    monkeypatch.setitem(MODELS, "nano", wider)
    with pytest.raises(WeightsError, match="does not fit model 'nano'") as caught:
        load_model("nano", weights=path)
    first = path if path.is_file() else sorted(path.glob("*.safetensors"))[0]
    one_line(caught, str(first), "encoder.blocks.0.mlp.fc1.", "has shape [40", "expected [48")


def test_weights_of_another_size_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="does not fit model 'vitl'") as caught:
        load_model("vitl", weights=ours(tmp_path))
    one_line(caught, "missing keys")


def test_missing_shard_or_third_of_a_projection(tmp_path: Path) -> None:
    folder = LAYOUTS["hub_shards"](tmp_path)
    next(iter(sorted(folder.glob("*.safetensors")))).unlink()
    with pytest.raises(WeightsError, match="missing keys") as caught:
        load_model("nano", weights=folder)
    one_line(caught, "model-00002-of-00003")
    for third in ("query", "key", "value"):
        state = to_transformers(weights())
        del state[f"encoder.layer.1.attention.{third}.weight"]
        save_file(state, tmp_path / "model.safetensors")
        with pytest.raises(WeightsError, match="1 missing keys") as caught:
            load_model("nano", weights=tmp_path / "model.safetensors")
        one_line(caught, "encoder.blocks.1.attn.qkv.weight")


class Payload:
    """Runs code when unpickled by a careless reader."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("was_here"),))


def test_pickle_with_code_is_refused(tmp_path: Path) -> None:
    official(tmp_path / "nano.pt", extra=Payload())
    (tmp_path / "plain.pt").write_bytes(pickle.dumps({"encoder": Payload()}))
    for name in ("nano.pt", "plain.pt"):
        with pytest.raises(WeightsError, match="not an official V-JEPA 2 checkpoint") as caught:
            load_model("nano", weights=tmp_path / name)
        one_line(caught, str(tmp_path / name), "download it again")
    assert not (tmp_path / "was_here").exists()


def damaged(tmp_path: Path) -> dict[str, Path]:
    whole = official(tmp_path / "whole.pt").read_bytes()
    middle = bytearray(whole)
    middle[len(whole) // 3 : len(whole) // 3 + 4000] = bytes(4000)
    small = ours(tmp_path).read_bytes()
    contents = {
        "empty.pt": b"",
        "text.pt": b"<html>404 not found</html>",
        "half.pt": whole[: len(whole) // 2],
        "tail.pt": whole[-2000:],
        "directory.pt": whole[:-200] + bytes(200),
        "empty.safetensors": b"",
        "text.safetensors": b"<html>404 not found</html>",
        "half.safetensors": small[: len(small) // 2],
        "header.safetensors": b"\xff" * 64,
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    return {name: tmp_path / name for name in contents}


def test_damaged_files(tmp_path: Path) -> None:
    for path in damaged(tmp_path).values():
        with pytest.raises(WeightsError, match="download it again") as caught:
            load_model("nano", weights=path)
        one_line(caught, str(path))


@pytest.mark.parametrize("seed", range(30))
def test_bytes_changed_at_random_never_give_a_traceback(tmp_path: Path, seed: int) -> None:
    """Values may change unnoticed; but whatever breaks is a :class:`WeightsError`."""
    generator = torch.Generator().manual_seed(seed)
    content = bytearray(official(tmp_path / "nano.pt").read_bytes())
    start = int(content.find(b"PK\x03\x04"))
    pickle_end = 12_000  # the pickled names and shapes stand at the start
    for _ in range(20):
        where = int(torch.randint(start, pickle_end, (1,), generator=generator))
        content[where] = int(torch.randint(256, (1,), generator=generator))
    (tmp_path / "nano.pt").write_bytes(content)
    try:
        load_model("nano", weights=tmp_path / "nano.pt")
    except WeightsError as error:
        assert "\n" not in str(error)


def test_what_is_no_checkpoint(tmp_path: Path) -> None:
    torch.save([1, 2], tmp_path / "list.pt")
    torch.save({"model": {}, "epoch": 3}, tmp_path / "other.pt")
    torch.save({"encoder": {"norm.weight": 3}, "predictor": {}}, tmp_path / "numbers.pt")
    (tmp_path / "weights.bin").write_bytes(b"0")
    (tmp_path / "folder").mkdir()
    for name, parts in {
        "list.pt": ("holds a list",),
        "other.pt": ("has no 'encoder'", "holds model, epoch"),
        "numbers.pt": ("norm.weight",),
        "weights.bin": (".pt, .pth or .safetensors",),
        "folder": ("no *.safetensors files",),
        "nothing.pt": ("does not exist",),
    }.items():
        with pytest.raises(WeightsError) as caught:
            load_model("nano", weights=tmp_path / name)
        one_line(caught, str(tmp_path / name), *parts)


def test_only_what_is_needed_has_to_be_in_order(tmp_path: Path) -> None:
    """A file that was made smaller may hold nothing where an encoder was."""
    for nothing in (None, {}, {"norm.weight": None}, torch.zeros(2)):
        path = official(tmp_path / "nano.pt", target_encoder=nothing)
        assert same(load_model("nano", weights=path)[0], weights())
        os.utime(path, ns=(1, 1))
    with pytest.raises(WeightsError, match="'target_encoder' holds a Tensor, no tensors"):
        load_model("nano", weights=path, branches=Branches("ema", "ema"))


def test_norms_of_mask_tokens_are_told(tmp_path: Path) -> None:
    """Published loaders predict with token 1, training as it was published touches token 0 alone."""
    path = official(tmp_path / "nano.pt")
    info = load_model("nano", weights=path)[1]
    assert info.remarks() == [f"nano: mask token 1 predicts; norms of all: {info.norms}"]
    stored = torch.load(path, weights_only=True)
    stored["predictor"]["module.backbone.mask_tokens.1"].zero_()
    torch.save(stored, path)
    assert "nano: mask token 1 is zero" in load_model("nano", weights=path)[1].remarks()[1]
    assert len(load_model("nano", weights=path, mask_token=2)[1].remarks()) == 1
    assert load_model("tiny")[1].remarks() == []  # it has only one


# --- V-JEPA 2.1


def test_vjepa21_is_refused(tmp_path: Path) -> None:
    state = part(weights(), "encoder")
    newer = {f"module.backbone.{key}": value for key, value in state.items()}
    newer["module.backbone.norms_block.0.weight"] = torch.zeros(24)
    files = {
        "distilled.pt": {"ema_encoder": newer, "predictor": {}},
        "teacher.pt": {"target_encoder": newer, "predictor": {}},
        "renamed.pt": {"encoder": newer, "predictor": {}},
    }
    for name, stored in files.items():
        torch.save(stored, tmp_path / name)
        with pytest.raises(WeightsError, match=r"holds V-JEPA 2\.1 weights") as caught:
            load_model("nano", weights=tmp_path / name)
        one_line(caught, str(tmp_path / name), "vitb21, vitl21, vitg21, vitG21")
    port = weights() | {"encoder.norms_block.2.bias": torch.zeros(24)}
    save_file(port, tmp_path / "port.safetensors")
    with pytest.raises(WeightsError, match=r"V-JEPA 2\.1"):
        load_model("nano", weights=tmp_path / "port.safetensors")
    for name in ("patch_embed_img.proj.weight", "img_mod_embed", "video_mod_embed"):
        assert is_vjepa21({f"encoder.{name}"})
    assert not is_vjepa21(set(weights())) and not is_vjepa21(set(to_transformers(weights())))
    # The name alone says nothing.
    path = official(tmp_path / "vjepa2_1_vitl_dist_vitG_384.pt")
    assert same(load_model("nano", weights=path)[0], weights())


# --- finding weights


def test_folders_are_searched_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "checkpoints").mkdir()
    official(tmp_path / "checkpoints" / "nano.pt", seed=2)
    model, info = load_model("nano")
    assert same(model, weights(2)) and info.source == "official file"
    (tmp_path / "mine").mkdir()
    monkeypatch.setenv(sources.CHECKPOINT_DIR_VARIABLE, str(tmp_path / "mine"))
    assert same(load_model("nano")[0], weights(2))  # nothing there: go on
    official(tmp_path / "mine" / "nano.pt", seed=4)
    assert same(load_model("nano")[0], weights(4))
    assert same(load_model("nano", weights=tmp_path / "checkpoints" / "nano.pt")[0], weights(2))


def test_one_model_is_not_taken_for_another(tmp_path: Path) -> None:
    """vitg.pt and vitg-384.pt lie side by side."""
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    save_file({}, folder / "vitg-384.encoder.safetensors")
    assert sources.find_weights("vitg384").files == (Path("checkpoints/vitg-384.pt"),)
    with pytest.raises(WeightsError, match="no weights for vitg:"):
        sources.find_weights("vitg")


def hub_download(monkeypatch: pytest.MonkeyPatch, answer: Any) -> list[tuple[str, str]]:
    """Replace the network: ``answer`` is a path to return or an error to raise."""
    import huggingface_hub

    asked = []

    def download(repo: str, file: str) -> str:
        asked.append((repo, file))
        if isinstance(answer, Exception):
            raise answer
        return str(answer)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    return asked


def test_hub_file_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sources.HUB_IDS, "nano", "somebody/nano")
    asked = hub_download(monkeypatch, hub(tmp_path))
    model, info = load_model("nano")
    assert same(model, weights()) and info.source == "Hugging Face Hub, somebody/nano"
    assert asked == [("somebody/nano", "model.safetensors")]


def hub_errors() -> dict[str, Exception]:
    from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled

    return {
        "offline": OfflineModeIsEnabled("offline"),
        "unreachable": LocalEntryNotFoundError("many lines\nof advice"),
        "disk": OSError(28, "No space left on device"),
        "certificate": OSError("certificate verify failed\nand more"),
        "nothing said": OSError(),
        "broken off": RuntimeError("peer closed connection"),
    }


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("offline", "HF_HUB_OFFLINE is set"),
        ("unreachable", "the Hub cannot be reached"),
        ("disk", "No space left on device)"),
        ("certificate", "(certificate verify failed)"),
        ("nothing said", "(no reason is given)"),
        ("broken off", "(peer closed connection)"),
    ],
)
def test_without_network_one_line_says_how(
    kind: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", kind == "offline")
    hub_download(monkeypatch, hub_errors()[kind])
    with pytest.raises(WeightsError) as caught:
        load_model("vitl")
    one_line(
        caught,
        "no weights for vitl",
        reason,
        "facebook/vjepa2-vitl-fpc64-256",
        "https://dl.fbaipublicfiles.com/vjepa2/vitl.pt",
        "VJEPA_CHECKPOINT_DIR",
        "tiny, works now",
        "its numbers mean something for simulated clips only",
    )


def test_action_model_is_not_on_the_hub() -> None:
    with pytest.raises(WeightsError, match="no weights for vitgac") as caught:
        load_model("vitgac")
    one_line(caught, "vjepa2/vjepa2-ac-vitg.pt", "tiny, works now")


def test_really_offline(tmp_path: Path) -> None:
    """The real huggingface_hub with an empty cache."""
    code = "from vjepa2 import load_model; load_model('vitg384')"
    env = os.environ | {"HF_HOME": str(tmp_path), "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=env,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("wmweights.errors.WeightsError: no weights for ")
    assert "HF_HUB_OFFLINE" in last and "tiny, works now" in last


def test_given_files_are_found_from_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    ours(tmp_path)
    assert same(load_model("nano", weights="~/ours.safetensors")[0], weights())


def test_loading_twice_at_once_leaves_whole_files(tmp_path: Path) -> None:
    """Two processes that convert the same file do not disturb each other."""
    path = official(tmp_path / "nano.pt")
    other = converted_path(path, "encoder").with_name(".nano.encoder.safetensors.1.tmp")
    other.write_bytes(b"another process is writing")
    assert same(load_model("nano", weights=path)[0], weights())
    assert other.read_bytes() == b"another process is writing"
    assert load_file(converted_path(path, "encoder")).keys() == part(weights(), "encoder").keys()


def test_embedded_model_needs_nothing_but_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*_: Any) -> Any:
        raise AssertionError("the Hub was asked")

    monkeypatch.setattr(sources, "_from_hub", no_network)
    model, info = load_model("tiny")
    assert info.source == "embedded in the package" and len(info.files) == 1
    latents = model.future_latents(model.preprocess(torch.rand(1, 3, 8, 64, 64)), 4)
    assert latents.predicted.shape == (1, 2, 64, 256)
    assert all(side.isfinite().all() for side in latents)
    with pytest.raises(WeightsError, match="holds one encoder"):
        load_model("tiny", branches=Branches("online", "ema"))
