"""Train the embedded world model on simulated physics.

    torchrun --nproc_per_node 2 -m training.world_model --out runs/tiny
    python -m training.world_model --out runs/smoke --smoke          # two minutes on a CPU

Runs in slices: ``--max_minutes 9`` stops cleanly with a checkpoint, and the same command goes on.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors.torch import save_file
from torch import Tensor, nn

from training.clips import CLIP_FRAMES, ClipStream
from training.masks import block_masks, causal_masks
from training.objectives import LatentModel, PixelModel, collapse_diagnostics
from vjepa2.checkpoint import load_model
from vjepa2.config import VJEPA2Config, get_config
from vjepa2.layers import Block
from vjepa2.quantise import quantise


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Everything that determines the weights, given the number of processes.

    Attributes:
        model: A configuration of :mod:`vjepa2.config`.
        pixel_steps: Steps of stage 1 (filling in pixels).
        latent_steps: Steps of stage 2 (predicting the frozen features).
        batch: Clips per process and step.
        learning_rate: Peak; warmed up over 4 % of a stage, then cosine to 2 %.
        weight_decay: On matrices only.
        seed: Of data, masks and initial weights.
        pool: Scenes simulated at once per process.
        init_from: Weights to start from instead of random ones (an exported file), or empty.
    """

    model: str = "tiny"
    pixel_steps: int = 9_000
    latent_steps: int = 20_000
    batch: int = 256
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


CHECK_EVERY = 20
"""Steps between looks at the clock."""

SMOKE = TrainConfig(pixel_steps=8, latent_steps=8, batch=4, pool=16)


class Trainer:
    """State of a run: which step, the weights, their average, and the optimiser."""

    def __init__(
        self, config: TrainConfig, out: Path, device: torch.device, compiled: bool
    ) -> None:
        self.config, self.out, self.device = config, out, device
        self.rank = dist.get_rank() if dist.is_initialized() else 0
        self.world = dist.get_world_size() if dist.is_initialized() else 1
        self.shape: VJEPA2Config = get_config(config.model)
        self.stream = ClipStream(
            self.shape,
            batch=config.batch,
            seed=config.seed,
            rank=self.rank,
            device=device,
            pool=config.pool,
            compiled=compiled,
        )
        self.masks = causal_masks(CLIP_FRAMES // self.shape.tubelet, self.shape.grid, device)
        self.step = 0
        torch.manual_seed(config.seed)
        model = PixelModel(self.shape)
        model.apply(_initialise)
        if config.init_from:
            start, _ = load_model(config.model, weights=config.init_from)
            model.encoder.load_state_dict(start.encoder.state_dict())
            model.predictor.load_state_dict(start.predictor.state_dict())
        self.live: nn.Module = model.to(device)
        if compiled:
            for module in model.modules():
                if isinstance(module, Block):
                    module.compile(dynamic=False)
        self._start_stage()

    @property
    def stage(self) -> int:
        return 1 if self.step < self.config.pixel_steps else 2

    @property
    def total_steps(self) -> int:
        return self.config.pixel_steps + self.config.latent_steps

    @property
    def learning(self) -> list[nn.Parameter]:
        """The parameters of this stage that are trained."""
        return [p for p in self.live.parameters() if p.requires_grad]

    def _start_stage(self) -> None:
        learning = self.learning
        groups = [
            {
                "params": [p for p in learning if p.ndim >= 2],
                "weight_decay": self.config.weight_decay,
            },
            {"params": [p for p in learning if p.ndim < 2], "weight_decay": 0.0},
        ]
        self.optimiser = torch.optim.AdamW(
            groups, lr=0.0, betas=(0.9, 0.98), fused=self.device.type == "cuda"
        )
        self.average = [p.detach().clone() for p in learning]

    def _finish_pixel_stage(self) -> None:
        """The averaged encoder becomes the frozen teacher; the predictor keeps its trunk, not its head."""
        assert isinstance(self.live, PixelModel)
        self._load_average()
        predictor = self.live.predictor
        torch.manual_seed(self.config.seed + 1)
        _initialise(predictor.predictor_proj)
        self.live = LatentModel(self.shape, self.live.encoder, predictor).to(self.device)
        self._start_stage()

    def _load_average(self) -> None:
        for p, mean in zip(self.learning, self.average, strict=True):
            p.data.copy_(mean)

    def train_step(self) -> tuple[Tensor, Tensor | None]:
        """One optimiser step; returns the loss and, in stage 2, the teacher's latents."""
        stage, config = self.stage, self.config
        first, steps = (
            (0, config.pixel_steps) if stage == 1 else (config.pixel_steps, config.latent_steps)
        )
        progress = (self.step - first) / steps
        for group in self.optimiser.param_groups:
            group["lr"] = config.learning_rate * _schedule(progress)
        pixels = self.stream.batch_at(self.step)
        latents = None
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            if stage == 1:
                generator = torch.Generator(self.device).manual_seed(
                    (config.seed * 1_000_003 + self.step) * 1_009 + self.rank
                )
                tubelets = CLIP_FRAMES // self.shape.tubelet
                block = block_masks(len(pixels), tubelets, self.shape.grid, generator, self.device)
                loss = self.live(pixels, self.masks, block)
            else:
                loss, latents = self.live(pixels)
        loss.backward()
        learning = self.learning
        self._average_gradients(p for p in learning if p.grad is not None)
        nn.utils.clip_grad_norm_(learning, 1.0, foreach=True)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        # The average forgets quickly at first, so that early steps do not linger in the teacher.
        seen = self.step - first
        decay = 0.999 if stage == 1 else 0.996 + 0.0038 * progress
        decay = min(decay, (1 + seen) / (10 + seen))
        torch._foreach_lerp_(self.average, [p.detach() for p in learning], 1 - decay)
        self.step += 1
        if self.step == config.pixel_steps:
            self._finish_pixel_stage()
        return loss.detach(), latents

    def _average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        if self.world == 1:
            return
        grads = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([grad.flatten() for grad in grads])
        dist.all_reduce(flat, op=dist.ReduceOp.SUM)
        flat /= self.world
        for grad, part in zip(grads, flat.split([g.numel() for g in grads]), strict=True):
            grad.copy_(part.view_as(grad))

    # --- files ---------------------------------------------------------------------------------

    @property
    def checkpoint(self) -> Path:
        return self.out / "state.pt"

    def save(self) -> None:
        """Write the whole state; the other processes hold the same, but for their data stream."""
        if self.rank == 0:
            state = {
                "config": asdict(self.config),
                "step": self.step,
                "model": self.live.state_dict(),
                "average": self.average,
                "optimiser": self.optimiser.state_dict(),
            }
            temporary = self.checkpoint.with_suffix(".tmp")
            torch.save(state, temporary)
            temporary.replace(self.checkpoint)
        if self.world > 1:
            dist.barrier()

    def resume(self) -> None:
        """Go on from the checkpoint, if there is one; refuses one of other settings."""
        if not self.checkpoint.exists():
            return
        state = torch.load(self.checkpoint, map_location=self.device, weights_only=True)
        if state["config"] != asdict(self.config):
            raise SystemExit(
                f"{self.checkpoint} was written with other settings ({state['config']}); "
                "use the same ones or another --out"
            )
        self.step = state["step"]
        if self.step >= self.config.pixel_steps:
            assert isinstance(self.live, PixelModel)
            self.live = LatentModel(self.shape, self.live.encoder, self.live.predictor)
            self._start_stage()
        self.live.load_state_dict(state["model"])
        self.average = state["average"]
        self.optimiser.load_state_dict(state["optimiser"])

    def export(self) -> Path:
        """The averaged model as the package stores it: int8 rows with scales, half-precision vectors."""
        assert isinstance(self.live, LatentModel)
        teacher = self.live.teacher.state_dict()
        names = [n for n, p in self.live.predictor.named_parameters() if p.requires_grad]
        state = {f"encoder.{name}": value for name, value in teacher.items()}
        state |= {f"predictor.{n}": v for n, v in zip(names, self.average, strict=True)}
        record = {
            "model": self.config.model,
            "training": json.dumps({**asdict(self.config), "processes": self.world}),
            "step": str(self.step),
            "torch": torch.__version__,
        }
        path = self.out / f"{self.config.model}.safetensors"
        save_file(
            quantise({k: v.cpu().contiguous() for k, v in state.items()}), path, metadata=record
        )
        return path


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Conv3d):
        fan_in = module.weight[0].numel()
        std = 0.02 if isinstance(module, nn.Linear) else fan_in**-0.5
        nn.init.trunc_normal_(module.weight, std=std)
        assert module.bias is not None
        nn.init.zeros_(module.bias)


def _schedule(progress: float, warmup: float = 0.04, floor: float = 0.02) -> float:
    if progress < warmup:
        return progress / warmup + 1e-3
    cosine = 0.5 * (1 + math.cos((progress - warmup) / (1 - warmup) * math.pi))
    return floor + (1 - floor) * cosine


def run(
    config: TrainConfig, out: Path, *, max_minutes: float, log_every: int, compiled: bool
) -> bool:
    """Train until done or out of time; returns whether it is done."""
    distributed = "RANK" in os.environ
    cuda = torch.cuda.is_available()
    if distributed:
        dist.init_process_group("nccl" if cuda else "gloo")
    device = (
        torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0))) if cuda else torch.device("cpu")
    )
    if cuda:
        torch.cuda.set_device(device)
        torch.backends.cuda.matmul.allow_tf32 = True
    out.mkdir(parents=True, exist_ok=True)
    trainer = Trainer(config, out, device, compiled)
    trainer.resume()
    begun, last = time.monotonic(), time.monotonic()
    first_step = trainer.step
    log = out / "log.jsonl"
    while trainer.step < trainer.total_steps:
        loss, latents = trainer.train_step()
        finished = trainer.step == trainer.total_steps
        if trainer.rank == 0 and (trainer.step % log_every == 0 or finished):
            now = time.monotonic()
            record = {
                "step": trainer.step,
                "stage": 1 if latents is None else 2,
                "loss": round(loss.item(), 5),
                "steps_per_s": round((trainer.step - first_step) / (now - last), 2),
                "minutes": round((now - begun) / 60, 2),
            }
            if latents is not None:
                record |= {k: round(v, 3) for k, v in collapse_diagnostics(latents).items()}
            first_step, last = trainer.step, now
            line = json.dumps(record)
            with log.open("a") as file:
                file.write(line + "\n")
            print(line, file=sys.stderr, flush=True)
        if trainer.step % CHECK_EVERY and not finished:
            continue
        stop = torch.tensor(time.monotonic() - begun > 60 * max_minutes, device=device)
        if trainer.world > 1:
            dist.broadcast(stop, 0)
        if stop.item():
            break
    trainer.save()
    if trainer.stage == 2 and trainer.rank == 0:
        print(trainer.export())
    if distributed:
        dist.destroy_process_group()
    return trainer.step == trainer.total_steps


def main(argv: list[str] | None = None) -> int:
    defaults = TrainConfig()
    parser = argparse.ArgumentParser(
        prog="python -m training.world_model",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--out", type=Path, required=True, help="folder for checkpoint, log and weights"
    )
    parser.add_argument(
        "--max_minutes", type=float, default=1e9, help="stop with a checkpoint after this"
    )
    parser.add_argument("--log_every", type=int, default=200, help="steps, default %(default)s")
    parser.add_argument(
        "--smoke", action="store_true", help="a run of two minutes on a CPU, to see it work"
    )
    parser.add_argument(
        "--no_compile", action="store_true", help="do not compile blocks and renderer"
    )
    for name, value in asdict(defaults).items():
        parser.add_argument(f"--{name}", type=type(value), help=f"default {value}")
    args = parser.parse_args(argv)
    base = SMOKE if args.smoke else defaults
    given = {k: v for k in asdict(defaults) if (v := getattr(args, k)) is not None}
    try:
        config = TrainConfig(**{**asdict(base), **given})
    except ValueError as error:
        parser.error(str(error))
    compiled = torch.cuda.is_available() and not args.no_compile
    done = run(
        config, args.out, max_minutes=args.max_minutes, log_every=args.log_every, compiled=compiled
    )
    if not done:
        print(f"stopped on time; run the same command to go on from {args.out}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
