"""MAGI-1's configuration files: what the released ones say, and what is refused with which words."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from magi1_goldens import COMPLETE, golden

from magi1.config import EngineConfig, MagiConfig, ModelConfig, RuntimeConfig
from magi1.errors import MagiError, MagiUsageError
from magi1.files.located import TINY_CONFIG, located
from magi1.refusal import FieldError

EXAMPLES = Path(__file__).parents[2] / "MAGI-1" / "example"
KINDS = ("base", "distill", "distill_quant")
NAMES = [f"{size}_{kind}" for size in ("24B", "4.5B") for kind in KINDS]
SECTIONS = {
    "model_config": ModelConfig,
    "runtime_config": RuntimeConfig,
    "engine_config": EngineConfig,
}
FIELDS = [(section, f.name) for section, cls in SECTIONS.items() for f in fields(cls)]


def example(name: str) -> Path:
    return EXAMPLES / name.partition("_")[0] / f"{name}_config.json"


def sections(name: str = "4.5B_base") -> dict[str, Any]:
    return json.loads(example(name).read_text())


def refused(tmp_path: Path, content: Any, *parts: str) -> None:
    """Reading ``content`` fails with one line that has the file's name and ``parts`` in it."""
    path = tmp_path / "mine.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(MagiUsageError) as caught:
        MagiConfig.load(path)
    message = str(caught.value)
    assert "\n" not in message
    for part in (str(path), *parts):
        assert part in message, message


# --- the released files


@pytest.mark.parametrize("name", NAMES)
def test_released_files_round_trip_byte_by_byte(name: str, tmp_path: Path) -> None:
    config = MagiConfig.load(example(name))
    assert config.to_json() == example(name).read_text()
    config.save(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == example(name).read_bytes()
    assert MagiConfig.load(tmp_path / "again.json") == config
    assert MagiConfig.from_dict(sections(name)) == config


def test_released_values() -> None:
    """Where the six files differ; the rest is alike."""
    released = {*EXAMPLES.rglob("*_config.json")} - {EXAMPLES / "tiny" / "tiny_config.json"}
    assert released == {*map(example, NAMES)}
    shared: dict[str, list[Any]] = {}
    for name in NAMES:
        config = MagiConfig.load(example(name))
        model, runtime, engine = config.model_config, config.runtime_config, config.engine_config
        large, base = name.startswith("24B"), name.endswith("base")
        assert (model.num_layers, model.hidden_size, model.ffn_hidden_size) == (
            (48, 6144, 16384) if large else (34, 3072, 12288)
        )
        assert model.num_attention_heads == (48 if large else 24)
        assert model.half_channel_vae == model.gated_linear_unit == large
        assert model.in_channels == model.out_channels == (32 if large else 16)
        assert model.x_rescale_factor == (0.1 if large else 1)
        assert runtime.cfg_number == (3 if base else 1)
        assert runtime.num_steps == ((32 if base else 16) if large else 64)
        assert runtime.video_size_w == (1280 if large else 720)
        assert runtime.load == f"./downloads/{name}"
        assert runtime.t5_device == ("cuda" if large else "cpu")
        assert engine.cp_size == (8 if large else 1)
        assert (engine.distill, engine.fp8_quant) == (not base, name.endswith("quant"))
        assert model.latent_channels == 16
        assert model.condition_width == model.hidden_size // 4
        assert model.dtype == torch.bfloat16
        assert config.tokens_per_chunk == (21600 if large else 12150)
        for section in SECTIONS:
            for key, value in json.loads(config.to_json())[section].items():
                shared.setdefault(key, []).append(value)
    alike = {key: values[0] for key, values in shared.items() if len({*map(str, values)}) == 1}
    assert alike == {
        "model_name": "videodit_ardf",
        "num_query_groups": 8,
        "kv_channels": 128,
        "layernorm_epsilon": 1e-6,
        "apply_layernorm_1p": True,
        "params_dtype": "torch.bfloat16",
        "patch_size": 2,
        "t_patch_size": 1,
        "cond_hidden_ratio": 0.25,
        "caption_channels": 4096,
        "caption_max_length": 800,
        "xattn_cond_hidden_ratio": 1.0,
        "cond_gating_ratio": 1.0,
        "cfg_t_range": [0.0, 0.0217, 0.1, 0.3, 0.999],
        "prev_chunk_scales": [1.5, 1.5, 1.5, 1.0, 1.0],
        "text_scales": [7.5, 7.5, 7.5, 0.0, 0.0],
        "noise2clean_kvrange": [5, 4, 3, 2],
        "clean_chunk_kvrange": 1,
        "clean_t": 0.9999,
        "seed": 1234,
        "num_frames": 96,
        "video_size_h": 720,
        "window_size": 4,
        "fps": 24,
        "chunk_width": 6,
        "t5_pretrained": "./downloads/t5_pretrained",
        "vae_pretrained": "./downloads/vae",
        "scale_factor": 0.18215,
        "temporal_downsample_factor": 4,
        "distributed_backend": "nccl",
        "distributed_timeout_minutes": 15,
        "pp_size": 1,
        "cp_strategy": "cp_ulysses",
        "ulysses_overlap_degree": 1,
        "distill_nearly_clean_chunk_threshold": 0.3,
        "shortcut_mode": "8,16,16",
        "kv_offload": True,
        "enable_cuda_graph": False,
    }


def test_configurations_of_golden_vectors_are_read() -> None:
    for name in ("dit_A_weights", "dit_B_weights", "dit_A_fp8_distill"):
        if not (COMPLETE / f"{name}.safetensors").exists():
            pytest.skip("the complete set of goldens is not beside this checkout")
        assert MagiConfig.from_dict(golden(name).metadata["config"]).model_config.kv_channels == 16


def test_a_small_model_is_a_configuration_too() -> None:
    given = sections()
    given["model_config"] |= {
        "patch_size": 1,
        "caption_channels": 192,
        "caption_max_length": 112,
        "kv_channels": 64,
        "num_attention_heads": 6,
        "num_query_groups": 2,
        "hidden_size": 384,
        "params_dtype": "torch.float32",
    }
    given["runtime_config"] |= {"video_size_h": 64, "video_size_w": 88, "num_steps": 8}
    config = MagiConfig.from_dict(given)
    assert config.tokens_per_chunk == 6 * 8 * 11
    assert config.model_config.dtype == torch.float32
    assert MagiConfig.from_json(config.to_json()) == config


# --- strict reading


@pytest.mark.parametrize(("section", "name"), FIELDS)
def test_every_field_must_be_there(tmp_path: Path, section: str, name: str) -> None:
    given = sections()
    del given[section][name]
    refused(tmp_path, given, f"{section}.{name} missing")


@pytest.mark.parametrize(("section", "name"), FIELDS)
def test_every_field_has_a_type(tmp_path: Path, section: str, name: str) -> None:
    given = sections()
    right = given[section][name]
    wrong: list[Any] = [None, {}]
    if isinstance(right, bool):
        wrong += [0, "true", [True]]
    elif isinstance(right, int):
        wrong += [True, 1.0, "1", [1]]
    elif isinstance(right, float):
        wrong += [True, "0.5", [0.5]]
    elif isinstance(right, str):
        wrong += [1, False, ["a"]]
    else:
        wrong += [1, "1,2", [*right[:-1], "1"], [*right[:-1], None], [*right[:-1], True]]
    for value in wrong:
        given[section][name] = value
        refused(tmp_path, given, f"{section}.{name}={json.dumps(value)} must be ")


@pytest.mark.parametrize("value", ["NaN", "Infinity", "1e999"])
def test_numbers_are_finite(tmp_path: Path, value: str) -> None:
    text = example("4.5B_base").read_text().replace("0.18215", value)
    refused(tmp_path, text, f"{value}", "is no finite number", "line 69")


def test_integers_stand_for_floats(tmp_path: Path) -> None:
    text = example("4.5B_base").read_text()
    assert MagiConfig.from_json(text.replace("1.0,", "1,")).to_json() == text


def test_unknown_fields_are_refused_with_the_nearest_name(tmp_path: Path) -> None:
    given = sections()
    given["runtime_config"]["num_step"] = 64
    refused(tmp_path, given, "runtime_config.num_step is unknown; did you mean num_steps?")
    given = sections()
    given["runtime_config"]["quality"] = 9
    refused(tmp_path, given, "runtime_config.quality is unknown; allowed are cfg_number, ")
    given = sections()
    given["engine"] = given.pop("engine_config")
    refused(tmp_path, given, "engine is unknown; did you mean engine_config?")


def test_what_is_no_configuration(tmp_path: Path) -> None:
    refused(tmp_path, "", "not JSON")
    refused(tmp_path, example("4.5B_base").read_text()[:-3], "not JSON")
    refused(tmp_path, [1, 2], "must be a JSON object, not a list")
    refused(tmp_path, sections() | {"model_config": 3}, "model_config must be a JSON object, not 3")
    refused(tmp_path, {"model_config": {}}, "runtime_config, engine_config missing")
    for path, what in ((tmp_path / "none.json", "no such file"), (tmp_path, "is a folder")):
        with pytest.raises(MagiUsageError, match=what):
            MagiConfig.load(path)
    (tmp_path / "weights.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(MagiUsageError, match="save it as UTF-8"):
        MagiConfig.load(tmp_path / "weights.json")
    assert issubclass(MagiUsageError, MagiError) and issubclass(MagiUsageError, ValueError)


# --- values


IMPOSSIBLE: list[tuple[str, Any, str]] = [
    ("model_config.num_layers", 0, "above 0"),
    ("model_config.hidden_size", -8, "above 0"),
    ("model_config.layernorm_epsilon", 0.0, "above 0"),
    ("model_config.x_rescale_factor", 0.0, "above 0"),
    ("model_config.cond_hidden_ratio", 1e-5, "hidden_size=3072"),
    ("model_config.params_dtype", "bfloat16", "torch.bfloat16, torch.float16, torch.float32"),
    ("model_config.num_query_groups", 7, "multiple of num_query_groups=7"),
    ("model_config.kv_channels", 100, "multiple of 8"),
    ("model_config.t_patch_size", 2, "must be 1"),
    ("model_config.xattn_cond_hidden_ratio", 0.5, "must be 1"),
    ("model_config.cond_gating_ratio", 2.0, "must be 1"),
    ("model_config.out_channels", 32, "in_channels=16"),
    ("runtime_config.cfg_number", 2, "one of 1, 3"),
    ("runtime_config.cfg_number", 1, "must be 3"),
    ("runtime_config.cfg_t_range", [], "rise from 0"),
    ("runtime_config.cfg_t_range", [0.1, 0.2, 0.3, 0.4, 0.5], "rise from 0"),
    ("runtime_config.cfg_t_range", [0, 0.2, 0.2, 0.4, 0.5], "rise from 0"),
    ("runtime_config.prev_chunk_scales", [1.5], "5 entries"),
    ("runtime_config.text_scales", [1.5] * 6, "5 entries"),
    ("runtime_config.noise2clean_kvrange", [5, 4, 0, 2], "at least 1"),
    ("runtime_config.noise2clean_kvrange", [5, 4, 3], "of 3, the entries of noise2clean_kvrange"),
    ("runtime_config.clean_chunk_kvrange", 0, "-1 or at least 1"),
    ("runtime_config.clean_t", 1.5, "at most 1"),
    ("runtime_config.clean_t", 0.0, "above 0"),
    ("runtime_config.seed", -1, "at least 0"),
    ("runtime_config.num_frames", 3, "at least 4, the frames of one latent"),
    ("runtime_config.video_size_h", 728, "multiple of 16"),
    ("runtime_config.video_size_w", 16, "at least 32"),
    ("runtime_config.video_size_w", -32, "above 0"),
    ("runtime_config.num_steps", 62, "multiple of window_size=4"),
    ("runtime_config.window_size", 5, "multiple of window_size=5"),
    ("runtime_config.window_size", 0, "above 0"),
    ("runtime_config.fps", 6, "at least 8"),
    ("runtime_config.chunk_width", 0, "above 0"),
    ("runtime_config.scale_factor", 0.0, "above 0"),
    ("engine_config.distributed_backend", "mpi", "nccl, gloo"),
    ("engine_config.pp_size", 2, "use cp_size or --offload"),
    ("engine_config.cp_size", 0, "above 0"),
    ("engine_config.cp_size", 7, "24 heads"),
    ("engine_config.cp_size", 3, "8 query groups"),
    ("engine_config.cp_strategy", "ring", "none, cp_ulysses, cp_shuffle_overlap"),
    ("engine_config.ulysses_overlap_degree", 0, "-1 or at least 1"),
    ("engine_config.shortcut_mode", "4,4", "8,16,16, 16,16,8"),
    ("engine_config.distill", True, "cfg_number=3 must be 1"),
    ("engine_config.fp8_quant", True, "cfg_number=3 must be 1"),
]


@pytest.mark.parametrize(("where", "value", "why"), IMPOSSIBLE)
def test_impossible_values(tmp_path: Path, where: str, value: Any, why: str) -> None:
    section, _, name = where.partition(".")
    given = deepcopy(sections())
    given[section][name] = value
    refused(tmp_path, given, why)


@pytest.mark.parametrize(
    ("where", "value"),
    [
        ("runtime_config.noise2clean_kvrange", []),
        ("runtime_config.clean_chunk_kvrange", -1),
        ("runtime_config.clean_t", 1),
        ("runtime_config.window_size", 1),
        ("runtime_config.video_size_h", 32),
        ("engine_config.cp_size", 24),
        ("engine_config.cp_size", 4),
        ("engine_config.cp_strategy", "none"),
        ("engine_config.ulysses_overlap_degree", -1),
        ("model_config.params_dtype", "torch.float16"),
    ],
)
def test_possible_values(where: str, value: Any) -> None:
    section, _, name = where.partition(".")
    given = sections()
    given[section][name] = value
    MagiConfig.from_dict(given)


def test_changes_are_checked_like_files() -> None:
    config = MagiConfig.load(example("24B_distill_quant"))
    with pytest.raises(MagiUsageError, match=r"runtime_config\.num_steps=6 must be a multiple"):
        replace(config.runtime_config, num_steps=6)
    with pytest.raises(MagiUsageError, match=r"fp8_quant=true needs params_dtype torch\.bfloat16"):
        replace(config, model_config=replace(config.model_config, params_dtype="torch.float32"))
    with pytest.raises(MagiUsageError, match=r"cp_strategy=\"none\" must be cp_ulysses"):
        replace(config.engine_config, cp_strategy="none")


def test_values_near_by_are_told() -> None:
    """Of a number that must be a multiple; and other fields by their names."""
    config = MagiConfig.load(located(TINY_CONFIG))
    for steps, fits in ((3, "4 fits"), (7, "4 and 8 fit"), (9, "8 and 12 fit")):
        with pytest.raises(FieldError, match=f"multiple of window_size=4; {fits}$") as found:
            replace(config.runtime_config, num_steps=steps)
        assert found.value.told(lambda name, _: f"<{name}>") == (
            f"<num_steps> must be a multiple of <window_size>; {fits}"
        )
    with pytest.raises(FieldError, match=r"cp_size=5 must divide .*; 1, 3 and 6 fit$"):
        replace(
            config, engine_config=replace(config.engine_config, cp_size=5, cp_strategy="cp_ulysses")
        )
