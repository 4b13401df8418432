"""MAGI-1's weights: found in every layout, loaded exactly, refused with one clear line, downloaded."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from magi1_goldens import COMPLETE, golden
from safetensors.torch import save_file
from torch import Tensor, nn

from magi1.config import MagiConfig
from magi1.errors import MagiError, MagiUsageError
from magi1.files import folders
from magi1.files.checkpoint import load_dit, load_vae
from magi1.files.download import download
from magi1.files.folders import find_t5, missing_files, variant, weights_subfolder
from magi1.files.located import located
from magi1.transformer.dit import DiT
from magi1.transformer.rope import default_bands
from magi1.vae import VAE, VAEConfig
from wmweights import WeightsError, places, quantise

State = dict[str, Tensor]
EXAMPLES = Path(__file__).parents[2] / "MAGI-1" / "example"
BLOCK = "videodit_blocks.layers.1."
VAE_SHAPE = {
    "video_size": 16,
    "video_length": 8,
    "patch_size": 8,
    "patch_length": 4,
    "in_chans": 3,
    "z_chans": 16,
    "double_z": True,
    "embed_dim": 256,
    "depth": 1,
    "num_heads": 2,
    "mlp_ratio": 2,
    "qkv_bias": True,
    "with_cls_token": True,
    "ln_in_attn": True,
    "norm_code": False,
    "conv_last_layer": True,
}


def tiny(*, fp8: bool = False, distill: bool = False, **model: Any) -> MagiConfig:
    """Three small layers in bfloat16."""
    given = json.loads((EXAMPLES / "4.5B" / "4.5B_base_config.json").read_text())
    given["model_config"] |= {
        "num_layers": 3,
        "hidden_size": 32,
        "ffn_hidden_size": 48,
        "num_attention_heads": 4,
        "num_query_groups": 2,
        "kv_channels": 16,
        "caption_channels": 24,
        "caption_max_length": 60,
    } | model
    given["runtime_config"]["cfg_number"] = 1 if distill or fp8 else 3
    given["engine_config"] |= {"fp8_quant": fp8, "distill": distill}
    return MagiConfig.from_dict(given)


def stored(config: MagiConfig, seed: int = 0) -> State:
    """Random values for every parameter, in the precisions in which they are stored."""
    model = DiT(config.model_config, fp8=config.engine_config.fp8_quant)
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(value.shape, generator=generator).to(value.dtype)
        for name, value in places(model).items()
    }


def save(folder: Path, state: State) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    save_file(state, folder / "model.safetensors")
    return folder


def same(model: nn.Module, state: State) -> bool:
    """Whether a model holds exactly these bits."""
    own = places(model)
    return own.keys() == state.keys() and all(
        own[name].dtype == value.dtype
        and torch.equal(
            own[name].reshape(-1).view(torch.uint8), value.reshape(-1).view(torch.uint8)
        )
        for name, value in state.items()
    )


def fails(load: Callable[[], object], *parts: str) -> None:
    with pytest.raises((WeightsError, MagiError)) as caught:
        load()
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message, message


# --- layouts


def whole(folder: Path, state: State) -> None:
    save(folder, state)


def shards(folder: Path, state: State, *, count: int = 3) -> None:
    """Cut without regard to what belongs together."""
    folder.mkdir(parents=True)
    names = sorted(state)
    weight_map = {}
    for i in range(count):
        file = f"model-{i + 1:05}-of-{count:05}.safetensors"
        few = {name: state[name] for name in names[i::count]}
        weight_map |= dict.fromkeys(few, file)
        save_file(few, folder / file, metadata={"format": "pt"})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


def compressed(folder: Path, state: State) -> None:
    """Of three shards, two are compressed."""
    shards(folder, state)
    compress(sorted(folder.glob("*.safetensors"))[1:])


def compress(files: list[Path]) -> None:
    zstandard = pytest.importorskip("zstandard")
    for file in files:
        content = zstandard.ZstdCompressor().compress(file.read_bytes())
        file.with_name(file.name + ".zst").write_bytes(content)
        file.unlink()


@pytest.mark.parametrize("layout", [whole, shards, compressed])
@pytest.mark.parametrize("place", ["subfolder", "direct", "hub"])
@pytest.mark.parametrize("fp8", [False, True])
def test_layouts(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    layout: Callable[[Path, State], None],
    place: str,
    fp8: bool,
) -> None:
    config = tiny(fp8=fp8, distill=fp8)
    state = stored(config)
    sub = "inference_weight.fp8.distill" if fp8 else "inference_weight"
    monkeypatch.setattr("magi1.files.folders.variant", lambda config: "24B_x")
    base = tmp_path / ("ckpt/magi/24B_x" if place == "hub" else "mine")
    folder = base if place == "direct" else base / sub
    layout(folder, state)
    config = replace(
        config, runtime_config=replace(config.runtime_config, load=str(tmp_path / "mine"))
    )
    model, info = load_dit(config)
    assert same(model, state) and not model.training
    assert not any(value.requires_grad for value in model.parameters())
    assert info.part == "transformer" and info.folder == str(folder)
    assert len(info.files) == (1 if layout is whole else 3)
    assert all(Path(file).is_file() for file in info.files)
    expected = sum(v.numel() for n, v in state.items() if not n.endswith("_scale"))
    assert info.parameters == expected
    assert info.bytes == sum(value.nbytes for value in state.values())
    assert load_dit(config, folder)[1] == info
    save(tmp_path / "other", stored(config, seed=1))
    assert load_dit(config, tmp_path / "other")[1].fingerprint != info.fingerprint


@pytest.mark.parametrize("zipped", [False, True])
def test_of_two_tensors_of_a_name_the_one_in_the_index_counts(tmp_path: Path, zipped: bool) -> None:
    """As MAGI-1 loads them; a shard may still hold what was moved to another."""
    config, folder = tiny(), tmp_path / "inference_weight"
    state = stored(config)
    shards(folder, state)
    index = json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]
    stale = {name: value + 1 for name, value in state.items()}
    for file in folder.glob("*.safetensors"):
        own = {name: state[name] for name, shard in index.items() if shard == file.name}
        save_file({**stale, **own}, file)
    if zipped:
        compress(sorted(folder.glob("*.safetensors"))[1:])
    assert same(load_dit(config, folder)[0], state)


def test_a_tensor_that_is_not_in_the_shard_of_the_index_is_missing(tmp_path: Path) -> None:
    config, folder = tiny(), tmp_path / "inference_weight"
    state = stored(config)
    shards(folder, state)
    index = folder / "model.safetensors.index.json"
    wrong = json.loads(index.read_text())
    wrong["weight_map"]["x_embedder.weight"] = wrong["weight_map"]["rope.bands"]
    index.write_text(json.dumps(wrong))
    fails(lambda: load_dit(config, folder), "1 missing keys (first: x_embedder.weight)")


def test_subfolders_follow_the_kind() -> None:
    names = {
        (fp8, distill): weights_subfolder(tiny(fp8=fp8, distill=distill))
        for fp8 in (False, True)
        for distill in (False, True)
    }
    assert names == {
        (False, False): "inference_weight",
        (False, True): "inference_weight.distill",
        (True, False): "inference_weight.fp8",
        (True, True): "inference_weight.fp8.distill",
    }
    for file in EXAMPLES.rglob("*B_*.json"):
        assert variant(MagiConfig.load(file)) == file.stem.removesuffix("_config")
    assert variant(MagiConfig.load(EXAMPLES / "tiny" / "tiny_config.json")) is None
    assert variant(tiny()) is None


@pytest.mark.parametrize("name", ["dit_A_weights", "dit_B_weights"])
def test_weights_of_the_goldens(tmp_path: Path, name: str) -> None:
    if not (COMPLETE / f"{name}.safetensors").exists():
        pytest.skip("the complete set of goldens is not beside this checkout")
    reference = golden(name)
    config = MagiConfig.from_dict(reference.metadata["config"])
    model, info = load_dit(config, save(tmp_path, reference.tensors))
    assert same(model, reference.tensors)
    assert info.bytes == sum(value.nbytes for value in reference.tensors.values())


def test_fp8_weights_of_the_goldens(tmp_path: Path) -> None:
    if not (COMPLETE / "dit_A_fp8_distill.safetensors").exists():
        pytest.skip("the complete set of goldens is not beside this checkout")
    reference = golden("dit_A_fp8_distill")
    state = {
        n.removeprefix("weights."): v
        for n, v in reference.tensors.items()
        if n.startswith("weights.")
    }
    config = MagiConfig.from_dict(reference.metadata["config"])
    assert same(load_dit(config, save(tmp_path, state))[0], state)


# --- precisions

FLOAT32 = [
    "x_embedder.weight",
    "t_embedder.mlp.0.weight",
    "t_embedder.mlp.2.bias",
    "y_embedder.null_caption_embedding",
    "y_embedder.y_proj_xattn.0.weight",
    "y_embedder.y_proj_adaln.0.bias",
    "rope.bands",
    "final_linear.linear.weight",
    "videodit_blocks.final_layernorm.weight",
    BLOCK + "self_attention.q_layernorm.weight",
    BLOCK + "self_attention.k_layernorm.bias",
    BLOCK + "self_attn_post_norm.weight",
    BLOCK + "mlp_post_norm.bias",
]
BLOCK_DTYPE = [
    BLOCK + "ada_modulate_layer.proj.0.weight",
    BLOCK + "ada_modulate_layer.proj.0.bias",
    BLOCK + "self_attention.linear_qkv.layer_norm.weight",
    BLOCK + "self_attention.linear_qkv.q.weight",
    BLOCK + "self_attention.linear_qkv.qx.weight",
    BLOCK + "self_attention.linear_qkv.k.weight",
    BLOCK + "self_attention.linear_qkv.v.weight",
    BLOCK + "self_attention.linear_kv_xattn.weight",
    BLOCK + "self_attention.linear_proj.weight",
    BLOCK + "self_attention.q_layernorm_xattn.weight",
    BLOCK + "self_attention.k_layernorm_xattn.bias",
    BLOCK + "mlp.layer_norm.weight",
    BLOCK + "mlp.linear_fc1.weight",
    BLOCK + "mlp.linear_fc2.weight",
]


def test_which_weights_run_in_float32(tmp_path: Path) -> None:
    config = tiny()
    model, _ = load_dit(config, save(tmp_path, stored(config)))
    own = places(model)
    assert {own[name].dtype for name in FLOAT32} == {torch.float32}
    assert {own[name].dtype for name in BLOCK_DTYPE} == {torch.bfloat16}
    assert sum(value.dtype == torch.float32 for value in own.values()) == 14 + 3 * 8


def test_weights_stored_narrower_are_promoted(tmp_path: Path) -> None:
    config = tiny()
    state = {name: value.bfloat16() for name, value in stored(config).items()}
    model, _ = load_dit(config, save(tmp_path, state))
    own = places(model)
    assert {own[name].dtype for name in FLOAT32} == {torch.float32}
    assert all(torch.equal(own[name].float(), value.float()) for name, value in state.items())


@pytest.mark.parametrize("name", [n for n in BLOCK_DTYPE if "linear_proj" not in n])
def test_weights_are_not_rounded_unasked(tmp_path: Path, name: str) -> None:
    config = tiny()
    state = stored(config)
    state[name] = state[name].float()
    folder = save(tmp_path, state)
    fails(
        lambda: load_dit(config, folder),
        str(folder / "model.safetensors"),
        f"{name} is stored as torch.float32, expected torch.bfloat16",
    )
    model, _ = load_dit(config, folder, dtype=torch.bfloat16)
    assert places(model)[name].dtype == torch.bfloat16


def test_projection_stored_in_float32_stays(tmp_path: Path) -> None:
    config, name = tiny(), BLOCK + "self_attention.linear_proj.weight"
    state = stored(config)
    state[name] = torch.randn_like(state[name], dtype=torch.float32)
    folder = save(tmp_path, state)
    assert same(load_dit(config, folder)[0], state)
    rounded = state | {name: state[name].bfloat16()}
    assert same(load_dit(config, folder, dtype=torch.bfloat16)[0], rounded)


def test_another_precision_can_be_asked_for(tmp_path: Path) -> None:
    config = tiny()
    state = stored(config)
    folder = save(tmp_path, state)
    model, info = load_dit(config, folder, dtype=torch.float32)
    assert same(model, {name: value.float() for name, value in state.items()})
    assert info.bytes == 4 * info.parameters
    quantised = tiny(fp8=True)
    save(tmp_path / "fp8", stored(quantised))
    fails(
        lambda: load_dit(quantised, tmp_path / "fp8", dtype=torch.float32),
        "fp8_quant=true needs params_dtype torch.bfloat16",
    )


def test_bands_may_be_absent(tmp_path: Path) -> None:
    config = tiny()
    state = stored(config)
    del state["rope.bands"]
    model, _ = load_dit(config, save(tmp_path, state))
    assert torch.equal(model.rope.bands, default_bands(2))
    assert default_bands(16).tolist() == pytest.approx([10_000 ** (-i / 16) for i in range(16)])


def test_int8_rows(tmp_path: Path) -> None:
    """As small models are stored that ship with the code."""
    config = tiny()
    state = {name: value.float() for name, value in stored(config).items()}
    small = quantise(state)
    model, _ = load_dit(config, save(tmp_path, small))
    own = places(model)
    assert {own[name].dtype for name in BLOCK_DTYPE} == {torch.bfloat16}
    for name, value in state.items():
        assert (own[name].float() - value).abs().max() <= value.abs().max() / 100


# --- what does not fit


def test_missing_unexpected_and_misshapen(tmp_path: Path) -> None:
    config = tiny()
    state = stored(config)
    name = BLOCK + "mlp.linear_fc1.weight"
    for wrong, words in (
        ({n: v for n, v in state.items() if n != name}, f"1 missing keys (first: {name})"),
        (state | {"teacher.weight": torch.ones(1)}, "1 unexpected keys (first: teacher.weight)"),
        (
            state | {name: torch.ones(96, 32, dtype=torch.bfloat16)},
            f"{name} has shape [96, 32], expected [48, 32]",
        ),
    ):
        folder = save(tmp_path, wrong)
        fails(partial(load_dit, config, folder), str(folder / "model.safetensors"), words)


def test_packed_over_layers(tmp_path: Path) -> None:
    packed = {"videodit_blocks.layers.self_attention.linear_qkv.weight": torch.ones(3, 8, 8)}
    fails(lambda: load_dit(tiny(), save(tmp_path, packed)), "magi1.1", "not supported")


@pytest.mark.parametrize("fp8", [False, True])
def test_float8_mixed_up(tmp_path: Path, fp8: bool) -> None:
    folder = save(tmp_path, stored(tiny(fp8=fp8)))
    words = "holds float8 weights" if fp8 else "holds unquantised weights"
    fails(lambda: load_dit(tiny(fp8=not fp8), folder), words, "agrees in fp8_quant")


@pytest.mark.parametrize("distill", [False, True])
def test_base_and_distilled_mixed_up(tmp_path: Path, distill: bool) -> None:
    """Both have the same names and shapes: only the folder tells."""
    config = tiny(distill=distill)
    other = tmp_path / weights_subfolder(tiny(distill=not distill))
    save(other, stored(config))
    words = (str(other), f"needs {weights_subfolder(config)};", "distill and fp8_quant")
    fails(lambda: load_dit(config, tmp_path), *words)


def test_damaged_files(tmp_path: Path) -> None:
    zstandard = pytest.importorskip("zstandard")
    config = tiny()
    good = (save(tmp_path / "good", stored(config)) / "model.safetensors").read_bytes()
    packed = zstandard.ZstdCompressor().compress(good)
    lying = bytearray(good)
    lying[:8] = (2**40).to_bytes(8, "little")
    for number, (name, content) in enumerate(
        [
            ("model.safetensors", good[:1000]),
            ("model.safetensors", b""),
            ("model.safetensors.zst", good),
            ("model.safetensors.zst", b""),
            ("model.safetensors.zst", packed[: len(packed) // 2]),
            ("model.safetensors.zst", zstandard.ZstdCompressor().compress(good[:-5])),
            ("model.safetensors.zst", zstandard.ZstdCompressor().compress(bytes(lying))),
            (
                "model.safetensors.zst",
                zstandard.ZstdCompressor().compress(b"\x02" + bytes(7) + b"[]"),
            ),
        ]
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / name).write_bytes(content)
        fails(partial(load_dit, config, folder), str(folder / name), "download it again")
    (tmp_path / "index").mkdir()
    for text in ("", "[]", '{"weight_map": 3}', '{"weight_map": {"a": 3}}'):
        (tmp_path / "index" / "model.safetensors.index.json").write_text(text)
        fails(lambda: load_dit(config, tmp_path / "index"), "index.json")


# --- what is missing


def test_all_that_is_missing_is_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = MagiConfig.load(EXAMPLES / "24B" / "24B_distill_config.json")
    lines = missing_files(config)
    assert [line.partition(":")[0] for line in lines] == ["transformer", "text encoder", "VAE"]
    for place in (
        "downloads/24B_distill/inference_weight.distill, downloads/24B_distill, ",
        "downloads/ckpt/magi/24B_distill/inference_weight.distill",
    ):
        assert place in lines[0]
    assert "downloads/t5_pretrained/t5-v1_1-xxl, " in lines[1] and "downloads/ckpt/t5" in lines[1]
    assert "downloads/vae, downloads/ckpt/vae" in lines[2]
    fails(lambda: load_dit(config), "transformer", "--download", "sand-ai/MAGI-1")
    fails(lambda: load_vae(config), "VAE", "downloads/vae")

    folder = tmp_path / "downloads" / "24B_distill" / "inference_weight.distill"
    shards(folder, {f"{i}": torch.ones(1) for i in range(8)}, count=6)
    for file in sorted(folder.glob("*.safetensors"))[:4]:
        file.unlink()
    (tmp_path / "downloads/vae").mkdir()
    (tmp_path / "downloads/vae/diffusion_pytorch_model.safetensors").touch()
    t5 = tmp_path / "downloads/t5_pretrained/t5-v1_1-xxl"
    t5.mkdir(parents=True)
    (t5 / "config.json").write_text('{"model_type": "t5"}')
    lines = missing_files(config)
    assert len(lines) == 4 + 2 + 1
    assert "model-00001-of-00006.safetensors is not there" in lines[0]
    assert "t5-v1_1-xxl/spiece.model" in lines[4] and "model.safetensors" in lines[5]
    assert "downloads/vae/config.json is not there" in lines[6]
    fails(lambda: load_dit(config), "00001-of", "00003-of", "and 1 files more")
    (t5 / "spiece.model").touch()
    (t5 / "pytorch_model-00001-of-00002.bin").touch()
    assert find_t5(config).folder == Path("downloads/t5_pretrained/t5-v1_1-xxl")
    (t5 / "config.json").write_text("broken")
    fails(lambda: missing_files(config), "config.json: not JSON")


def test_a_byte_encoder_needs_no_vocabulary(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "byte_t5"}')
    (tmp_path / "model.safetensors").touch()
    assert len(find_t5(tiny(), tmp_path).files) == 2


# --- VAE


def vae_folder(folder: Path, state: State | None = None) -> tuple[Path, State]:
    folder.mkdir(parents=True, exist_ok=True)
    state = state or {
        n: torch.randn_like(v) for n, v in places(VAE(VAEConfig.from_json(VAE_SHAPE))).items()
    }
    save_file(state, folder / "diffusion_pytorch_model.safetensors")
    given = {"_class_name": "ViTVAE", "model_type": "vit", "ddconfig": VAE_SHAPE}
    (folder / "config.json").write_text(json.dumps(given))
    return folder, state


def test_vae(tmp_path: Path) -> None:
    torch.manual_seed(0)
    folder, state = vae_folder(tmp_path / "vae")
    model, info = load_vae(tiny(), folder)
    assert same(model, {name: value.bfloat16() for name, value in state.items()})
    assert info.part == "VAE" and info.files == (
        str(folder / "diffusion_pytorch_model.safetensors"),
    )
    model, info = load_vae(tiny(), folder, dtype=torch.float32)
    assert same(model, state) and info.bytes == 4 * info.parameters
    assert model.decode(torch.zeros(1, 16, 2, 1, 1)).shape == (1, 3, 8, 8, 8)
    vae_folder(tmp_path / "int8", quantise(state))
    off = places(load_vae(tiny(), tmp_path / "int8")[0])["encoder.last_layer.weight"]
    assert (off.float() - state["encoder.last_layer.weight"]).abs().max() < 0.05
    for name, value in (("z_chans", 8), ("patch_size", 4), ("patch_length", 2)):
        (folder / "config.json").write_text(
            json.dumps({**VAE_SHAPE, "embed_dim": 512, name: value})
        )
        fails(
            lambda: load_vae(tiny(), folder), f"config.json: {name}={value}, but the configuration"
        )
    (folder / "config.json").write_text('{"ddconfig": {}}')
    fails(lambda: load_vae(tiny(), folder), str(folder / "config.json"), "lacks")
    (folder / "config.json").write_text("")
    fails(lambda: load_vae(tiny(), folder), "config.json: not JSON")


# --- download

SIZES = {
    "README.md": 5,
    "ckpt/magi/24B_distill/inference_weight.distill/model.safetensors.index.json": 100,
    "ckpt/magi/24B_distill/inference_weight.distill/model-00001-of-00001.safetensors": 3000,
    "ckpt/magi/24B_base/inference_weight/model.safetensors": 3000,
    "ckpt/t5/t5-v1_1-xxl/config.json": 10,
    "ckpt/t5/t5-v1_1-xxl/spiece.model": 20,
    "ckpt/t5/t5-v1_1-xxl/pytorch_model.bin": 900,
    "ckpt/t5/t5-v1_1-xxl/tf_model.h5": 900,
    "ckpt/vae/config.json": 10,
    "ckpt/vae/diffusion_pytorch_model.safetensors": 400,
}


class FakeHub:
    """A repository whose files hold zeros."""

    def __init__(self) -> None:
        self.sizes = dict(SIZES)
        self.fetched: list[str] = []
        self.failure: Exception | None = None

    def model_info(self, repo: str, *, files_metadata: bool) -> Any:
        assert repo == "sand-ai/MAGI-1" and files_metadata
        if self.failure:
            raise self.failure
        files = [SimpleNamespace(rfilename=n, size=s) for n, s in self.sizes.items()]
        return SimpleNamespace(sha="abc", siblings=files)

    def snapshot_download(
        self, repo: str, *, revision: str, local_dir: Path, allow_patterns: list[str]
    ) -> None:
        assert repo == "sand-ai/MAGI-1" and revision == "abc"
        for name in allow_patterns:
            self.fetched.append(name)
            path = Path(local_dir) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(bytes(self.sizes[name]))
            if name.endswith("index.json"):
                shard = "model-00001-of-00001.safetensors"
                path.write_text(json.dumps({"weight_map": {"a": shard}}))
            elif name.endswith("config.json"):
                path.write_text("{}")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeHub:
    fake = FakeHub()
    monkeypatch.setattr("huggingface_hub.HfApi", lambda: fake)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("magi1.files.download.MARGIN", 0)
    monkeypatch.chdir(tmp_path)
    return fake


DISTILLED = EXAMPLES / "24B" / "24B_distill_config.json"


@pytest.mark.parametrize("into", [None, "elsewhere"])
def test_download_fetches_what_a_configuration_needs(hub: FakeHub, into: str | None) -> None:
    config = MagiConfig.load(DISTILLED)
    found = download(config, into)
    expected = {n for n in SIZES if "README" not in n and "base" not in n and "h5" not in n}
    assert set(hub.fetched) == expected
    root = Path(into or "downloads")
    assert all((root / name).is_file() for name in expected)
    assert missing_files(found) == []
    assert bool(missing_files(config)) == bool(into)
    assert found.runtime_config.load.startswith(str(root))
    assert replace(found, runtime_config=config.runtime_config) == config
    hub.fetched.clear()
    assert download(found, into) == found and not hub.fetched


def test_download_fetches_only_what_is_missing(hub: FakeHub, tmp_path: Path) -> None:
    vae_folder(tmp_path / "downloads" / "vae")
    found = download(MagiConfig.load(DISTILLED))
    assert not any(name.startswith("ckpt/vae") for name in hub.fetched)
    assert found.runtime_config.vae_pretrained == "./downloads/vae"
    hub.fetched.clear()
    lost = "ckpt/magi/24B_distill/inference_weight.distill/model-00001-of-00001.safetensors"
    (tmp_path / "downloads" / lost).unlink()
    download(found)
    assert lost in hub.fetched and not any("t5" in name for name in hub.fetched)


def test_one_format_of_the_same_weights_is_enough(hub: FakeHub) -> None:
    hub.sizes["ckpt/t5/t5-v1_1-xxl/model.safetensors"] = 900
    download(MagiConfig.load(DISTILLED))
    assert [n for n in hub.fetched if n.endswith((".bin", "xxl/model.safetensors"))] == [
        "ckpt/t5/t5-v1_1-xxl/model.safetensors"
    ]


def test_download_looks_at_the_disk_first(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    need = sum(
        s for n, s in SIZES.items() if "README" not in n and "base" not in n and "h5" not in n
    )

    def disk(free: int) -> None:
        monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=free))

    config = MagiConfig.load(DISTILLED)
    disk(need - 1)
    fails(lambda: download(config), "downloads needs", "GiB are free", "choose another folder")
    assert hub.fetched == []
    disk(need)
    download(config)
    # What is there already needs no room.
    lost = Path("downloads/ckpt/vae/diffusion_pytorch_model.safetensors")
    lost.unlink()
    disk(SIZES["ckpt/vae/diffusion_pytorch_model.safetensors"])
    lost.with_name("config.json").write_bytes(bytes(SIZES["ckpt/vae/config.json"]))
    download(config)


@pytest.mark.parametrize(
    "failure", [ConnectionError("no route to host\nat all"), OSError("gone"), ValueError("odd")]
)
def test_hub_out_of_reach(hub: FakeHub, failure: Exception) -> None:
    hub.failure = failure
    words = (str(failure).splitlines()[0], "sand-ai/MAGI-1", "copy its ckpt folder to downloads")
    fails(lambda: download(MagiConfig.load(DISTILLED)), *words)


def test_download_offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The real client."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    fails(lambda: download(MagiConfig.load(DISTILLED)), "HF_HUB_OFFLINE is set")


def test_nothing_to_download(hub: FakeHub) -> None:
    with pytest.raises(MagiUsageError, match="released configurations"):
        download(tiny())
    hub.sizes = {"ckpt/magi1.1/24B_base/model.safetensors": 1}
    fails(lambda: download(MagiConfig.load(DISTILLED)), "has no folder ckpt/magi/24B_distill")


def test_folders_are_found_from_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    config = tiny()
    save(tmp_path / "mine", stored(config))
    assert same(load_dit(config, "~/mine")[0], stored(config))
    assert folders.find_dit(config, "~/mine").folder == tmp_path / "mine"


def test_folders_in_the_package() -> None:
    """The embedded model is found from wherever the command runs."""
    import magi1

    found = located("magi1:weights/tiny/vae")
    assert found == Path(magi1.__file__).parent / "weights" / "tiny" / "vae"
    assert located("~/x") == Path.home() / "x" and located("./x") == Path("x")
