"""Train the embedded world model on simulated physics.

    torchrun --nproc_per_node 2 -m training.world_model --output runs/tiny
    python -m training.world_model --output runs/smoke --smoke          # two minutes on a CPU

Runs in slices: ``--max_minutes 9`` stops cleanly with a checkpoint, and the same command goes on.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from training import loop
from training.clips import CLIP_FRAMES, LONG_FRAMES, ClipStream
from training.loop import CHECK_EVERY, Process, command, joined, schedule, train
from training.masks import block_masks, causal_masks
from training.objectives import LatentModel, PixelModel, collapse_diagnostics
from vjepa2.config import VJEPA2Config, get_config
from vjepa2.files.checkpoint import load_model
from vjepa2.files.quantise import quantise
from vjepa2.layers import Block


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Everything that determines the weights, given the number of processes.

    Attributes:
        model: A configuration of :mod:`vjepa2.config`.
        pixel_steps: Steps of stage 1 (filling in pixels).
        latent_steps: Steps of stage 2 (predicting the frozen features).
        batch: Clips of 16 frames per process and step; of 48 frames there are a third as many.
        learning_rate: Peak; warmed up over 4 % of a stage, then cosine to 2 %.
        weight_decay: On matrices only.
        seed: Of data, masks and initial weights.
        pool: Scenes simulated at once per process.
        init_from: Weights to start from instead of random ones (an exported file), or empty.
    """

    model: str = "tiny"
    pixel_steps: int = 9_000
    latent_steps: int = 20_000
    batch: int = 384
    learning_rate: float = 1.5e-3
    weight_decay: float = 0.04
    seed: int = 0
    pool: int = 65_536
    init_from: str = ""

    def __post_init__(self) -> None:
        if self.batch < 2:
            raise ValueError(f"batch={self.batch} must be at least 2: clips are compared")
        if self.pixel_steps < 1:
            raise ValueError(f"pixel_steps={self.pixel_steps} must be at least 1")
        if self.pool < self.batch:
            raise ValueError(f"pool={self.pool} must hold at least one batch of {self.batch}")


SMOKE = TrainConfig(pixel_steps=8, latent_steps=8, batch=4, pool=16)


class Trainer(loop.Trainer):
    """The run of `training.loop` for the world model, in two stages."""

    config: TrainConfig

    def __init__(
        self, config: TrainConfig, out: Path, device: torch.device, compiled: bool
    ) -> None:
        super().__init__(config, out, Process.current(device))
        shape = get_config(config.model)
        if not isinstance(shape, VJEPA2Config):
            raise ValueError(
                f"model {config.model!r} is {shape.generation}: only V-JEPA 2 is trained"
            )
        self.shape = shape
        self.stream = ClipStream(
            self.shape,
            batch=config.batch,
            seed=config.seed,
            rank=self.rank,
            device=device,
            pool=config.pool,
            compiled=compiled,
        )
        self.masks = {
            frames: causal_masks(frames // self.shape.tubelet, self.shape.grid, device)
            for frames in (CLIP_FRAMES, LONG_FRAMES)
        }
        self.latents: Tensor | None = None
        torch.manual_seed(config.seed)
        model = PixelModel(self.shape)
        model.apply(_initialise)
        if config.init_from:
            start, _ = load_model(config.model, weights=config.init_from)
            model.encoder.load_state_dict(start.encoder.state_dict())
            model.predictor.load_state_dict(start.predictor.state_dict())
        self.live = model.to(device)
        if compiled:
            # Two lengths, three masks, with and without gradients: beyond the default limit blocks
            # would run eagerly.
            dynamo = torch._dynamo.config
            dynamo.cache_size_limit = max(dynamo.cache_size_limit, 64)
            for module in model.modules():
                if isinstance(module, Block):
                    module.compile(dynamic=False)
        self.start_optimiser(config.weight_decay)

    @property
    def stage(self) -> int:
        return 1 if self.step < self.config.pixel_steps else 2

    @property
    def total_steps(self) -> int:
        return self.config.pixel_steps + self.config.latent_steps

    def _finish_pixel_stage(self) -> None:
        """The averaged encoder becomes the frozen teacher; the predictor keeps its trunk, not its head."""
        assert isinstance(self.live, PixelModel)
        for p, mean in zip(self.learning, self.average, strict=True):
            p.data.copy_(mean)
        predictor = self.live.predictor
        torch.manual_seed(self.config.seed + 1)
        _initialise(predictor.predictor_proj)
        self.live = LatentModel(self.shape, self.live.encoder, predictor).to(self.device)
        self.start_optimiser(self.config.weight_decay)

    def train_step(self) -> Tensor:
        stage, config = self.stage, self.config
        first, steps = (
            (0, config.pixel_steps) if stage == 1 else (config.pixel_steps, config.latent_steps)
        )
        progress = (self.step - first) / steps
        pixels = self.stream.batch_at(self.step)
        with self.autocast():
            if stage == 1:
                generator = torch.Generator(self.device).manual_seed(
                    (config.seed * 1_000_003 + self.step) * 1_009 + self.rank
                )
                frames = pixels.shape[2]
                tubelets = frames // self.shape.tubelet
                block = block_masks(len(pixels), tubelets, self.shape.grid, generator, self.device)
                loss, self.latents = self.live(pixels, self.masks[frames], block), None
            else:
                loss, self.latents = self.live(pixels)
        self.learn(
            loss,
            rate=config.learning_rate * schedule(progress),
            decay=0.999 if stage == 1 else 0.996 + 0.0038 * progress,
            seen=self.step - first,
        )
        if self.step == config.pixel_steps:
            self._finish_pixel_stage()
        return loss.detach()

    def diagnostics(self) -> dict[str, float]:
        if self.latents is None:
            return {"stage": 1}
        return {"stage": 2, **collapse_diagnostics(self.latents)}

    def prepare_resumed(self) -> None:
        if self.stage == 2:
            assert isinstance(self.live, PixelModel)
            self.live = LatentModel(self.shape, self.live.encoder, self.live.predictor)
            self.start_optimiser(self.config.weight_decay)

    def export(self) -> list[Path]:
        """The averaged model as the package stores it: int8 rows with scales, half-precision vectors.

        There is none in stage 1.
        """
        if not isinstance(self.live, LatentModel):
            return []
        teacher = self.live.teacher.state_dict()
        state = {f"encoder.{name}": value.cpu() for name, value in teacher.items()}
        state |= self.averaged_state()
        record = {"model": self.config.model, **self.record()}
        path = self.out / f"{self.config.model}.safetensors"
        save_file(quantise({k: v.contiguous() for k, v in state.items()}), path, metadata=record)
        return [path]


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Conv3d):
        fan_in = module.weight[0].numel()
        std = 0.02 if isinstance(module, nn.Linear) else fan_in**-0.5
        nn.init.trunc_normal_(module.weight, std=std)
        assert module.bias is not None
        nn.init.zeros_(module.bias)


def run(
    config: TrainConfig, out: Path, *, max_minutes: float, log_every: int, compiled: bool
) -> bool:
    """Train until done or out of time; returns whether it is done."""
    with joined() as process:
        trainer = Trainer(config, out, process.device, compiled)
        return train(trainer, max_minutes=max_minutes, log_every=log_every, check_every=CHECK_EVERY)


def main(argv: Sequence[str] | None = None) -> int:
    return command("python -m training.world_model", __doc__, TrainConfig(), SMOKE, run, argv)


if __name__ == "__main__":
    sys.exit(main())
