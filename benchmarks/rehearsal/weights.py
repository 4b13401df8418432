"""Random weights in the layouts that Meta and Sand AI released.

They are written, or hollow: files with the released names, shapes and headers, and holes in the place of the
numbers, which take no room on a disk. Whoever reads a hollow file gets random numbers instead, made where
they are wanted (:func:`fill_hollow_files`). So everything can be rehearsed but the reading itself.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from benchmarks.bench_generate.workload import CONFIGS, MODELS, nano
from magi1.config import MagiConfig
from magi1.files.checkpoint import BANDS
from magi1.files.folders import INDEX, T5_FOLDER, VAE_CONFIG, VAE_WEIGHTS, weights_subfolder
from magi1.planning.plan import RELEASED_VAE
from magi1.text import t5_files
from magi1.text.byte_t5 import ByteT5, ByteT5Config
from magi1.transformer.dit import DiT
from magi1.vae import VAE, VAEConfig
from vjepa2 import VJEPA2, VJEPA2Config, get_config
from vjepa2.files.sources import EMBEDDED, OFFICIAL_FILES, converted_path
from wmweights import TensorSpec, blank, safetensors_file

HOLLOW = "hollow"
"""Noted in a file's header."""
SHARD_BYTES = 5 * 2**30
STD = 0.02
_TEXT = "a {} ball falls from the table onto the floor and {}"

Specs = Mapping[str, TensorSpec]
Value = Callable[[str, TensorSpec], Tensor]


def random_value(name: str, spec: TensorSpec, device: torch.device | str = "cpu") -> Tensor:
    """Numbers of a plausible scale; the same in every process."""
    shape, dtype = spec
    generator = torch.Generator(device).manual_seed(zlib.crc32(name.encode()))
    if name.endswith("weight_scale"):
        return torch.full(shape, STD, dtype=dtype, device=device)
    if name.endswith(("input_scale", "smooth_scale")) or (len(shape) == 1 and "norm" in name):
        fill = torch.zeros if name.endswith("bias") else torch.ones
        return fill(shape, dtype=dtype, device=device)
    if len(shape) < 2:
        return torch.zeros(shape, dtype=dtype, device=device)
    scale = 1.0 if dtype == torch.float8_e4m3fn else STD
    wide = torch.randn(shape, generator=generator, device=device)
    return wide.mul_(scale).to(dtype)


def fill_hollow_files() -> None:
    """From now on, hollow files are read as random numbers."""
    real = safetensors_file.read_tensors

    def read_tensors(
        file: Path,
        device: torch.device | str = "cpu",
        wanted: Callable[[str], bool] = lambda _: True,
    ) -> Iterator[tuple[str, Tensor]]:
        if HOLLOW not in safetensors_file.read_metadata(file):
            yield from real(file, device, wanted)
            return
        for name, spec in safetensors_file.read_specs(file).items():
            if wanted(name):
                yield name, random_value(name, spec, device)

    for module in (safetensors_file, t5_files):
        module.read_tensors = read_tensors  # type: ignore[attr-defined]


class Stage:
    """A folder with all weights of a rehearsal.

    Args:
        root: The folder.
        model: One of `MODELS` of the generator's benchmark; ``nano`` is small enough for a CPU.
        world_model: One of the world models; one that comes along is not written.
        device: Where numbers are made that are written; None: files stay hollow.
    """

    def __init__(
        self, root: Path, model: str, world_model: str, device: torch.device | None
    ) -> None:
        self.root, self.model, self.world_model, self.device = root, model, world_model, device
        released = MagiConfig.load(CONFIGS / f"{MODELS[model]}_config.json")
        runtime = replace(
            released.runtime_config,
            load=str(root / "dit"),
            t5_pretrained=str(root / "t5"),
            vae_pretrained=str(root / "vae"),
        )
        if self.is_small:
            shape = nano(released.model_config, released.engine_config.fp8_quant)
            runtime = replace(runtime, video_size_h=64, video_size_w=64, num_frames=24)
            released = replace(released, model_config=shape)
        self.config = replace(released, runtime_config=runtime)

    @property
    def is_small(self) -> bool:
        return self.model.startswith("nano")

    @property
    def config_file(self) -> Path:
        return self.root / "config.json"

    @property
    def checkpoints(self) -> Path:
        """For VJEPA_CHECKPOINT_DIR."""
        return self.root / "checkpoints"

    @property
    def vae(self) -> VAEConfig:
        """The released shape, or a small one."""
        if not self.is_small:
            return RELEASED_VAE
        return replace(RELEASED_VAE, embed_dim=32, depth=2, num_heads=2, use_final_proj=True)

    def parts(self) -> dict[str, Specs]:
        """What the files hold, by name of the part."""
        with blank():
            dit = DiT(self.config.model_config, fp8=self.config.engine_config.fp8_quant)
            vae = VAE(self.vae)
        parts = {"transformer": _specs(dit, leave=BANDS), "VAE": _specs(vae, torch.float32)}
        if self.is_small:
            with blank():
                parts["text encoder"] = _specs(ByteT5(self._byte_t5()))
        else:
            parts["text encoder"] = _specs(
                _t5(), torch.bfloat16, leave="encoder.embed_tokens.weight"
            )
        if self.world_model not in EMBEDDED:
            parts["world model"] = _specs(self._vjepa())
        return parts

    def bytes(self) -> dict[str, int]:
        """Room that each part takes on a disk, once written."""
        sizes = {
            part: sum(math.prod(spec.shape) * spec.dtype.itemsize for spec in specs.values())
            for part, specs in self.parts().items()
        }
        if "world model" in sizes:  # two encoders, and what they are converted into
            sizes["world model"] *= 3
        return sizes if self.device is not None else dict.fromkeys(sizes, 0)

    def write(self) -> None:
        """All parts, and the configuration that names their folders."""
        parts = self.parts()
        (self.root / "vae").mkdir(parents=True, exist_ok=True)
        self._save(parts["VAE"], self.root / "vae" / VAE_WEIGHTS)
        (self.root / "vae" / VAE_CONFIG).write_text(json.dumps(asdict(self.vae)))
        self._save_shards(parts["transformer"], self.root / "dit" / weights_subfolder(self.config))
        self._write_text_encoder(parts["text encoder"])
        if "world model" in parts:
            self._write_world_model(parts["world model"])
        self.config.save(self.config_file)

    # --- parts ------------------------------------------------------------------------------------------

    def _byte_t5(self) -> ByteT5Config:
        model = self.config.model_config
        return ByteT5Config(
            d_model=model.caption_channels,
            num_layers=1,
            num_heads=2,
            d_kv=8,
            d_ff=16,
            max_length=model.caption_max_length,
        )

    def _vjepa(self) -> nn.Module:
        config = get_config(self.world_model)
        assert isinstance(config, VJEPA2Config), "a world model of the first generation"
        with blank():
            return VJEPA2(config)

    def _write_text_encoder(self, specs: Specs) -> None:
        if self.is_small:
            (self.root / "t5").mkdir(parents=True, exist_ok=True)
            self._save(specs, self.root / "t5" / "model.safetensors")
            config = {"model_type": "byte_t5", **asdict(self._byte_t5())}
            (self.root / "t5" / "config.json").write_text(json.dumps(config))
            return
        folder = self.root / "t5" / T5_FOLDER
        self._save_shards(specs, folder)
        (folder / "config.json").write_text(_t5().config.to_json_string())
        import sentencepiece

        colours, ends = ("red", "blue", "green", "small", "large"), ("bounces", "rolls", "stops")
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter([_TEXT.format(c, e) for c in colours for e in ends]),
            model_prefix=str(folder / "spiece"),
            vocab_size=60,
            hard_vocab_limit=False,
            pad_id=0,
            eos_id=1,
            unk_id=2,
            bos_id=-1,
            minloglevel=2,
        )

    def _write_world_model(self, specs: Specs) -> None:
        """The official file, or, hollow, the files that it is converted into."""
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        path = self.checkpoints / OFFICIAL_FILES[self.world_model]
        sides: dict[str, dict[str, TensorSpec]] = {"encoder": {}, "predictor": {}}
        for name, spec in specs.items():
            side, _, rest = name.partition(".")
            if side in sides:
                sides[side][rest] = spec
        if self.device is None:
            for side, own in sides.items():
                write_hollow(converted_path(path, side), own)
            return
        parts = {
            side: {
                f"module.backbone.{name}": random_value(name, spec, self.device).cpu()
                for name, spec in own.items()
            }
            for side, own in sides.items()
        }
        torch.save({**parts, "target_encoder": parts["encoder"], "epoch": 240, "opt": None}, path)

    # --- files ------------------------------------------------------------------------------------------

    def _save_shards(self, specs: Specs, folder: Path) -> None:
        """As the Hub has them: files of 5 GiB, and an index."""
        folder.mkdir(parents=True, exist_ok=True)
        shards: list[dict[str, TensorSpec]] = [{}]
        size = 0
        for name, spec in specs.items():
            own = math.prod(spec.shape) * spec.dtype.itemsize
            if shards[-1] and size + own > SHARD_BYTES:
                shards.append({})
                size = 0
            shards[-1][name] = spec
            size += own
        where: dict[str, str] = {}
        for number, shard in enumerate(shards, 1):
            file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
            self._save(shard, folder / file)
            where |= dict.fromkeys(shard, file)
        (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": where}))

    def _save(self, specs: Specs, path: Path) -> None:
        if self.device is None:
            write_hollow(path, specs)
            return
        value = partial(random_value, device=self.device)
        save_file({name: value(name, spec).cpu() for name, spec in specs.items()}, path)


def write_hollow(path: Path, specs: Specs) -> None:
    """A safetensors file whose numbers are a hole."""
    names = {dtype: name for name, dtype in safetensors_file.DTYPES.items()}
    header: dict[str, object] = {"__metadata__": {HOLLOW: "yes"}}
    end = 0
    for name, (shape, dtype) in specs.items():
        start, end = end, end + math.prod(shape) * dtype.itemsize
        header[name] = {"dtype": names[dtype], "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)


def _specs(module: nn.Module, dtype: torch.dtype | None = None, leave: str = "") -> Specs:
    return {
        name: TensorSpec(tuple(value.shape), dtype or value.dtype)
        for name, value in module.state_dict().items()
        if name != leave
    }


def _t5() -> Any:
    from transformers import T5Config, T5EncoderModel

    config = T5Config(
        d_model=4096,
        d_ff=10240,
        num_layers=24,
        num_heads=64,
        d_kv=64,
        vocab_size=32128,
        feed_forward_proj="gated-gelu",
    )
    with blank():
        return T5EncoderModel(config)
