"""Train the embedded generator: MAGI-1's transformer and a byte-level text encoder, on VAE latents.

    torchrun --nproc_per_node 2 -m training.generator --output runs/dit --vae runs/vae/vae_half
    python -m training.generator --output runs/smoke --smoke            # a minute on a CPU

Runs in slices: ``--max_minutes 9`` stops cleanly with a checkpoint, and the same command goes on.
Writes ``dit/`` and ``byte_t5/`` (int8 rows, as shipped), the same in half precision under ``half/``, and
``tiny_config.json``.

Two things are trained that no released weights hold, and are thrown away at the end. A linear reading of a
middle layer finds each token's place in the picture: MAGI-1's positions are relative, and in a world
that is its own mirror image nothing else would teach the model what is left. Another one reads from the
text features what a prompt says.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import simworld
from magi1.config import EngineConfig, MagiConfig, ModelConfig, RuntimeConfig
from magi1.text.byte_t5 import EOS, FIRST_BYTE, ByteT5, ByteT5Config, tokenize
from magi1.text.chunk_texts import NULL_LENGTH
from magi1.transformer.dit import DiT
from magi1.transformer.layers import ChunkTexts, TransformerLayer
from magi1.vae import VAE, VAEConfig
from simworld.geometry import SHAPES
from simworld.looks import VIVID
from training.autoencoder import SMOKE as SMOKE_AUTOENCODER
from training.autoencoder import WEIGHTS
from training.latents import CAPTION_TOKENS, Examples, LatentPool, latent_scale
from training.loop import Process, Trainer, command, joined, schedule, train
from training.muon import hidden_matrices
from training.noising import CHUNK, CLEAN, Plan, noised, plan_lone, plan_pairs
from training.videos import FRAMES, SIZE
from wmweights import dequantise, quantise, read_state, write_state

GRID = SIZE // 8
"""Latents along each side of the picture."""
GATE_BIAS = 0.6
KEPT = ("null_caption_embedding", "relative_attention_bias", "x_embedder", "final_linear")
"""In half precision: small, and at the borders of the model."""
SHARD_BYTES = 12 * 2**20
_MIRRORED = {b"left": b"right", b"right": b"left"}
_EVERY_PLACE = 5  # shares no factor with the grid: all rows and columns are among the tokens read
_CHOICES = (VIVID, len(SHAPES), len(simworld.SIDES), len(simworld.MOTIONS))


@dataclass(frozen=True, kw_only=True)
class GeneratorConfig:
    """Everything that determines the weights, given the number of processes.

    Attributes:
        vae: Folder of the trained autoencoder; empty: an untrained one, to see the code run.
        init_from: Folder of an earlier run's ``half`` to start from instead of random weights, or empty.
        steps: Optimiser steps.
        batch: Videos of two chunks per process and step, and as many lone chunks.
        learning_rate: Peak; warmed up over 4 % of the steps, then cosine to 2 %.
        weight_decay: On matrices only.
        place: Weight of the loss of finding a token's row and column from a middle layer.
        said: Weight of the loss of telling colour, shape, side and motion from the text features.
        average: Decay of the averaged weights.
        width, layers, heads, groups: Shape of the transformer; heads are 64 wide.
        text_width, text_layers: Shape of the text encoder.
        seed: Of data, noise and initial weights.
        pool: Videos encoded at once per process; each is used ``reuse`` times.
        reuse: Passes over a pool.
        held_out: Videos of the evaluation at the end.
    """

    vae: str = ""
    init_from: str = ""
    steps: int = 5_600
    batch: int = 128
    learning_rate: float = 2e-3
    weight_decay: float = 0.02
    place: float = 0.05
    said: float = 0.05
    average: float = 0.999
    width: int = 384
    layers: int = 8
    heads: int = 6
    groups: int = 3
    text_width: int = 192
    text_layers: int = 3
    seed: int = 0
    pool: int = 32_768
    reuse: int = 8
    held_out: int = 512

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "reuse", "held_out"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")
        if self.pool < 2 * self.batch:
            raise ValueError(f"pool={self.pool} must hold at least one step, {2 * self.batch}")

    @property
    def model(self) -> ModelConfig:
        return ModelConfig(
            model_name="tiny",
            num_layers=self.layers,
            hidden_size=self.width,
            ffn_hidden_size=4 * self.width,
            num_attention_heads=self.heads,
            num_query_groups=self.groups,
            kv_channels=64,
            layernorm_epsilon=1e-6,
            apply_layernorm_1p=True,
            x_rescale_factor=1.0,
            half_channel_vae=False,
            params_dtype="torch.float32",
            patch_size=1,
            t_patch_size=1,
            in_channels=16,
            out_channels=16,
            cond_hidden_ratio=0.25,
            caption_channels=self.text_width,
            caption_max_length=CAPTION_TOKENS,
            xattn_cond_hidden_ratio=1.0,
            cond_gating_ratio=1.0,
            gated_linear_unit=False,
        )

    @property
    def text(self) -> ByteT5Config:
        return ByteT5Config(
            d_model=self.text_width,
            num_layers=self.text_layers,
            num_heads=self.text_width // 32,
            d_kv=32,
            d_ff=2 * self.text_width,
            max_length=CAPTION_TOKENS,
        )


SMOKE = GeneratorConfig(
    steps=4,
    batch=2,
    width=64,
    layers=2,
    heads=2,
    groups=1,
    text_width=32,
    text_layers=1,
    pool=8,
    reuse=2,
    held_out=4,
)


class GeneratorModel(nn.Module):
    """Transformer, text encoder, and what only training needs."""

    scale: Tensor

    def __init__(self, config: GeneratorConfig, scale: float) -> None:
        super().__init__()
        self.dit = DiT(config.model)
        self.t5 = ByteT5(config.text)
        initialise(self.dit)
        self.place_head = nn.Linear(config.width, 2 * GRID)
        self.said_head = nn.Linear(config.text_width, sum(_CHOICES))
        self.register_buffer("scale", torch.tensor(scale, dtype=torch.float64))
        self._middle: list[Tensor] = []
        layer = self.dit.videodit_blocks.layers[(config.layers - 1) // 3]
        layer.register_forward_hook(lambda _, __, hidden: self._middle.append(hidden))

    def features(self, examples: Examples) -> Tensor:
        """Text features ``[B, 112, D]``."""
        out: Tensor = self.t5(examples.ids, examples.mask)
        return out

    def velocity(self, x: Tensor, plan: Plan, features: Tensor, mask: Tensor) -> Tensor:
        """Of noised latents ``[B, 16, C · 6, 8, 8]``."""
        self._middle.clear()
        out: Tensor = self.dit(
            x,
            plan.time,
            self._texts(plan, features, mask),
            text_dropped=plan.dropped,
        )
        return out

    def _texts(self, plan: Plan, features: Tensor, mask: Tensor) -> ChunkTexts:
        embedder = self.dit.y_embedder
        null = embedder.null_caption_embedding
        shown = torch.arange(CAPTION_TOKENS, device=mask.device) < NULL_LENGTH
        tokens, masks = [], []
        for told in plan.text.unbind(1):
            read = torch.where(told[:, None, None], features, null)
            tokens.append(embedder.y_proj_xattn(read).to(self.dit.block_dtype))
            masks.append(torch.where(told[:, None], mask, shown))
        return ChunkTexts(tokens, masks)

    def place_loss(self) -> Tensor:
        """Cross-entropy of row and column of tokens, read from the middle layer's last output."""
        hidden = self._middle[-1]
        index = torch.arange(0, hidden.shape[1], _EVERY_PLACE, device=hidden.device)
        logits = self.place_head(hidden[:, index]).float().unflatten(-1, (2, GRID))
        place = torch.stack((index // GRID % GRID, index % GRID), dim=-1)
        return F.cross_entropy(logits.flatten(0, -2), place.repeat(len(hidden), 1).flatten())

    def said_loss(self, features: Tensor, examples: Examples) -> Tensor:
        """Sum over `ASPECTS` of the cross-entropy of what prompts say, read from their mean feature."""
        mask = examples.mask[..., None]
        mean = (features * mask).sum(dim=1) / mask.sum(dim=1)
        logits = self.said_head(mean).float().split(_CHOICES, dim=-1)
        wanted = examples.said.unbind(1)
        losses = [
            F.cross_entropy(guess, ids, ignore_index=-1, reduction="sum")
            / (ids >= 0).sum().clamp_min(1)
            for guess, ids in zip(logits, wanted, strict=True)
        ]
        return torch.stack(losses).sum()


@torch.no_grad()
def initialise(dit: DiT) -> None:
    """Scales that keep activations near 1, with residual branches of 1/√L."""
    for module in dit.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=module.in_features**-0.5)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    nn.init.normal_(dit.x_embedder.weight, std=dit.x_embedder.weight[0].numel() ** -0.5)
    nn.init.normal_(dit.final_linear.linear.weight, std=1e-3)
    nn.init.normal_(dit.y_embedder.null_caption_embedding)
    branch = dit.config.num_layers**-0.5
    for layer in dit.videodit_blocks.layers:
        assert isinstance(layer, TransformerLayer)
        gates = layer.ada_modulate_layer.proj[0]
        assert isinstance(gates, nn.Linear)
        nn.init.constant_(gates.bias, GATE_BIAS)
        for norm in (layer.self_attn_post_norm, layer.mlp_post_norm):
            nn.init.constant_(norm.weight, branch - norm.one_plus)


def velocity_error(found: Tensor, wanted: Tensor, plan: Plan) -> Tensor:
    """Mean squared error over the latent frames that are learned from."""
    learned = plan.learned()
    error = (found.float() - wanted).square().mean(dim=(1, 3, 4))  # [B, T]
    return (error * learned).sum() / learned.sum().clamp_min(1)


class GeneratorTrainer(Trainer):
    """The run of `training.loop` for transformer and text encoder."""

    config: GeneratorConfig
    live: GeneratorModel

    def __init__(
        self, config: GeneratorConfig, out: Path, process: Process, *, compiled: bool
    ) -> None:
        super().__init__(config, out, process)
        self.compiled = compiled
        self.vae = load_autoencoder(config.vae).to(self.device)
        scale = latent_scale(self.vae, min(256, config.pool))
        torch.manual_seed(config.seed)
        self.live = GeneratorModel(config, scale)
        if config.init_from:
            load_start(self.live, Path(config.init_from))
        self.live.to(self.device)
        if compiled:
            # Two lengths of sequences occur; kernels for any length would be slower.
            torch._dynamo.config.automatic_dynamic_shapes = False
            for layer in self.live.dit.videodit_blocks.layers:
                layer.compile(dynamic=False)
            for block in self.live.t5.encoder.block:
                block.compile(dynamic=False)
        self.start_optimiser(config.weight_decay, hidden_matrices(self.live))
        self.last: dict[str, Tensor] = {}

    @property
    def total_steps(self) -> int:
        return self.config.steps

    def pool(self) -> LatentPool:
        config = self.config
        return LatentPool(
            self.vae,
            self.live.scale.item(),
            clips=config.pool,
            batch=2 * config.batch,
            reuse=config.reuse,
            seed=config.seed,
            rank=self.rank,
            compiled=self.compiled,
        )

    def train_step(self) -> Tensor:
        config, model = self.config, self.live
        if not hasattr(self, "_pool"):  # after resuming, which brings the scale
            self._pool = self.pool()
        examples = self._pool.batch_at(self.step)
        generator = simworld.make_generator(
            config.seed, f"noise/{self.rank}/{self.step}", self.device
        )
        parts: dict[str, Tensor] = {}
        with self.autocast():
            features = model.features(examples)
            parts["said"] = model.said_loss(features, examples)
            places = []
            for name, shown, plan, latents in situations(examples, generator):
                noise = torch.randn(latents.shape, generator=generator, device=self.device)
                x, wanted = noised(latents, noise, plan)
                found = model.velocity(x, plan, features[shown], examples.mask[shown])
                parts[name] = velocity_error(found, wanted, plan)
                places.append(model.place_loss())
            parts["place"] = torch.stack(places).mean()
        # A lone chunk is half of a pair.
        loss = (
            2 / 3 * parts["pairs"]
            + 1 / 3 * parts["lone"]
            + config.said * parts["said"]
            + config.place * parts["place"]
        )
        self.last = {name: value.detach() for name, value in parts.items()}
        rate = config.learning_rate * schedule(self.step / config.steps)
        self.learn(loss, rate=rate, decay=config.average, seen=self.step)
        return loss.detach()

    def diagnostics(self) -> dict[str, float]:
        return {name: value.item() for name, value in self.last.items()}

    def evaluation(self) -> dict[str, float]:
        """Held-out errors of the averaged weights; see `held_out_errors`."""
        config = self.config
        pool = LatentPool(
            self.vae,
            self.live.scale.item(),
            clips=config.held_out,
            batch=config.held_out,
            reuse=1,
            seed=0,
            rank=0,
            split="id",
            compiled=False,
        )
        # Compiling for batches of another size would take longer than this one evaluation.
        eager = torch.compiler.set_stance("force_eager") if self.compiled else nullcontext()
        with eager, self.averaged(), self.autocast():
            return held_out_errors(self.live, pool.batch_at(0))

    def export(self) -> list[Path]:
        state = self.averaged_state()
        paths = []
        for where, stored in ((self.out, quantised), (self.out / "half", halved)):
            dit, t5 = (
                {k.removeprefix(part): v for k, v in state.items() if k.startswith(part)}
                for part in ("dit.", "t5.")
            )
            folder = where / "byte_t5"
            folder.mkdir(parents=True, exist_ok=True)
            settings = json.dumps(self.live.t5.config.to_dict(), indent=2) + "\n"
            (folder / "config.json").write_text(settings)
            write_state(stored(t5), folder / "model.safetensors", self.record())
            paths += write_shards(stored(dit), where / "dit" / "inference_weight", self.record())
            paths.append(folder / "model.safetensors")
        paths.append(self.out / "tiny_config.json")
        self.generation_config().save(paths[-1])
        return paths

    def generation_config(self) -> MagiConfig:
        """A configuration that samples with these weights."""
        runtime = RuntimeConfig(
            cfg_number=3,
            cfg_t_range=(0.0, 0.0217, 0.1, 0.3, 0.999),
            prev_chunk_scales=(2.0, 2.0, 2.0, 1.0, 1.0),
            text_scales=(3.0, 3.0, 3.0, 0.0, 0.0),
            noise2clean_kvrange=(2, 2, 2, 2),
            clean_chunk_kvrange=1,
            clean_t=CLEAN,
            seed=1234,
            num_frames=FRAMES - 4,  # an image takes the place of four
            video_size_h=SIZE,
            video_size_w=SIZE,
            num_steps=12,
            window_size=4,
            fps=24,
            chunk_width=CHUNK,
            load=str(self.out / "dit"),
            t5_pretrained=str(self.out / "byte_t5"),
            t5_device="cpu",
            vae_pretrained=self.config.vae,
            scale_factor=self.live.scale.item(),
            temporal_downsample_factor=4,
        )
        engine = EngineConfig(
            distributed_backend="nccl",
            distributed_timeout_minutes=15,
            pp_size=1,
            cp_size=1,
            cp_strategy="cp_ulysses",
            ulysses_overlap_degree=1,
            fp8_quant=False,
            distill_nearly_clean_chunk_threshold=0.3,
            shortcut_mode="8,16,16",
            distill=False,
            kv_offload=False,
            enable_cuda_graph=False,
        )
        return MagiConfig(
            model_config=self.config.model, runtime_config=runtime, engine_config=engine
        )


def situations(
    examples: Examples, generator: torch.Generator
) -> Iterator[tuple[str, slice, Plan, Tensor]]:
    """The first half of the examples as pairs, the second as lone chunks: name, which, plan, latents."""
    half = len(examples.ids) // 2
    first, second = slice(0, half), slice(half, 2 * half)
    pairs = plan_pairs(half, generator)
    yield "pairs", first, pairs, Examples(*(v[first] for v in examples)).with_prefix(pairs.prefix)
    lone, chunk = plan_lone(half, generator)
    latents = Examples(*(v[second] for v in examples)).with_prefix(lone.prefix)
    late = (chunk == 1)[:, None, None, None, None]
    yield "lone", second, lone, torch.where(late, latents[:, :, CHUNK:], latents[:, :, :CHUNK])


def swap_sides(ids: Tensor) -> Tensor:
    """Prompts ``[B, 112]`` of the mirror image: "left" and "right" exchanged."""
    texts = []
    for row in ids.tolist():
        words = bytes(byte - FIRST_BYTE for byte in row[: row.index(EOS)]).split(b" ")
        texts.append(b" ".join(_MIRRORED.get(word, word) for word in words).decode())
    return tokenize(texts, ids.shape[1])[0].to(ids.device)


@torch.no_grad()
def held_out_errors(model: GeneratorModel, examples: Examples) -> dict[str, float]:
    """Velocity errors on videos that training never sees, with fixed noise.

    ``held_out_pairs`` and ``held_out_lone`` are as in training. ``told`` is the error of first chunks at
    early times with their own prompt; ``untold`` and ``mirrored`` with none, and with left and right
    exchanged: they are larger as far as the model reads prompts, and sides.
    """
    device = examples.ids.device
    generator = simworld.make_generator(0, "held-out noise", device)
    features = model.features(examples)
    found = {}
    for name, shown, plan, latents in situations(examples, generator):
        noise = torch.randn(latents.shape, generator=generator, device=device)
        x, wanted = noised(latents, noise, plan)
        v = model.velocity(x, plan, features[shown], examples.mask[shown])
        found[f"held_out_{name}"] = velocity_error(v, wanted, plan).item()
    mirrored = examples._replace(ids=swap_sides(examples.ids))
    mirrored = mirrored._replace(mask=mirrored.ids != 0)
    count = len(examples.ids)
    early = 0.02 + 0.2 * torch.arange(count, device=device)[:, None] / count
    no = torch.zeros(count, 1, dtype=torch.bool, device=device)
    plan = Plan(early, no, torch.zeros_like(examples.said[:, 0]), ~no, no)
    silent = plan._replace(text=no, dropped=~no)
    latents = examples.latents[:, :, :CHUNK]
    noise = torch.randn(latents.shape, generator=generator, device=device)
    x, wanted = noised(latents, noise, plan)
    for name, read, situation in (
        ("told", examples, plan),
        ("untold", examples, silent),
        ("mirrored", mirrored, plan),
    ):
        v = model.velocity(x, situation, model.features(read), read.mask)
        found[name] = velocity_error(v, wanted, plan).item()
    return found


# --- files


def load_autoencoder(folder: str) -> VAE:
    """The frozen VAE of ``folder``; without one an untrained small VAE, for trying things out."""
    if not folder:
        torch.manual_seed(0)
        return VAE(replace(SMOKE_AUTOENCODER, width=32).shape).eval().requires_grad_(False)
    place = Path(folder)
    vae = VAE(VAEConfig.from_json(json.loads((place / "config.json").read_text())))
    vae.load_state_dict(dequantise(read_state(place / WEIGHTS)))
    return vae.float().eval().requires_grad_(False)


def load_start(model: GeneratorModel, folder: Path) -> None:
    """Weights of an earlier run's export; the heads that only training has start anew."""
    shards = sorted((folder / "dit" / "inference_weight").glob("*.safetensors"))
    state: dict[str, Tensor] = {}
    for file in shards:
        state |= dequantise(read_state(file))
    model.dit.load_state_dict(state)
    model.t5.load_state_dict(dequantise(read_state(folder / "byte_t5" / "model.safetensors")))


def quantised(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """int8 rows but for `KEPT`."""
    return quantise(state, keep=KEPT)


def halved(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Half precision."""
    return {name: value.half() for name, value in state.items()}


def write_shards(state: dict[str, Tensor], folder: Path, record: Mapping[str, str]) -> list[Path]:
    """Files of at most `SHARD_BYTES` with an index; a matrix and its scales stay together."""
    groups: list[dict[str, Tensor]] = [{}]
    room = SHARD_BYTES
    for name in sorted(state):  # a scale follows its matrix
        size = state[name].nbytes
        if size > room and not name.endswith(".row_scale"):
            groups.append({})
            room = SHARD_BYTES
        groups[-1][name] = state[name]
        room -= size
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"model-{i:05d}-of-{len(groups):05d}.safetensors" for i in range(1, len(groups) + 1)]
    paths = [folder / name for name in names]
    for path, group in zip(paths, groups, strict=True):
        write_state(group, path, record)
    where = {key: name for name, group in zip(names, groups, strict=True) for key in group}
    size = sum(value.nbytes for value in state.values())
    index = {"metadata": {"total_size": size}, "weight_map": dict(sorted(where.items()))}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")
    return paths


def run(
    config: GeneratorConfig, out: Path, *, max_minutes: float, log_every: int, compiled: bool
) -> bool:
    """Train until done or out of time; returns whether it is done."""
    with joined() as process:
        trainer = GeneratorTrainer(config, out, process, compiled=compiled)
        return train(trainer, max_minutes=max_minutes, log_every=log_every)


def main(argv: Sequence[str] | None = None) -> int:
    return command("python -m training.generator", __doc__, GeneratorConfig(), SMOKE, run, argv)


if __name__ == "__main__":
    sys.exit(main())
