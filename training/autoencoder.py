"""Train the video autoencoder of the embedded generator on simulated videos.

    torchrun --nproc_per_node 2 -m training.autoencoder --output runs/vae
    python -m training.autoencoder --output runs/smoke --smoke          # a minute on a CPU

Runs in slices: ``--max_minutes 9`` stops cleanly with a checkpoint, and the same command goes on.
Writes ``vae/`` (int8 rows, as shipped) and ``vae_half/`` (half precision), each with its config.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

import simworld
from magi1.vae import VAE, Block, ColourConv, VAEConfig
from training.loop import Process, Trainer, command, joined, schedule, train
from training.muon import hidden_matrices
from training.videos import SIZE, UNIT, Camera, UnitPool, shoot, to_model
from wmweights import dequantise, quantise, read_state, write_state

PATCH, PATCH_FRAMES, CHANNELS = 8, 4, 16
SHORT_EVERY = 5
"""One step in so many trains on single latents: prefixes of an image, or of 12 + 4 frames."""
MOVING = 0.06
"""A pixel moves if it differs by this from its mean over the clip; pixels in [0, 1]."""
WEIGHTS = "diffusion_pytorch_model.safetensors"
KEPT = ("pos_embed", "cls_token", "last_layer")
"""In half precision: small, or without useful rows."""


@dataclass(frozen=True, kw_only=True)
class AutoencoderConfig:
    """Everything that determines the weights, given the number of processes.

    Attributes:
        init_from: Folder of an earlier run's ``vae_half`` to start from instead of random weights, or empty.
        steps: Optimiser steps.
        batch: Units of 12 frames per process and step.
        learning_rate: Peak; warmed up over 4 % of the steps, then cosine to 2 %.
        weight_decay: On matrices only.
        mse: Weight of the squared error beside the absolute one, pixels in [-1, 1].
        motion: Added weight of pixels that move.
        gradient: Weight of the absolute error of differences between neighbours.
        kl: Weight of the divergence of the latents from a standard normal.
        width, heads, encoder_depth, decoder_depth: Shape of the two transformers.
        seed: Of data, noise and initial weights.
        pool: Units rendered at once per process; each is used ``reuse`` times.
        reuse: Passes over a pool.
        held_out: Units of the evaluation at the end.
    """

    init_from: str = ""
    steps: int = 6_000
    batch: int = 256
    learning_rate: float = 8e-4
    weight_decay: float = 0.01
    mse: float = 6.0
    motion: float = 10.0
    gradient: float = 0.5
    kl: float = 1e-4
    width: int = 256
    heads: int = 4
    encoder_depth: int = 4
    decoder_depth: int = 6
    seed: int = 0
    pool: int = 65_536
    reuse: int = 4
    held_out: int = 1_024

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "reuse", "held_out"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")
        if self.pool < self.batch:
            raise ValueError(f"pool={self.pool} must hold at least one batch of {self.batch}")

    @property
    def shape(self) -> VAEConfig:
        return VAEConfig(
            video_size=SIZE,
            video_length=UNIT,
            patch_size=PATCH,
            patch_length=PATCH_FRAMES,
            z_chans=CHANNELS,
            embed_dim=self.width,
            depth=self.decoder_depth,
            num_heads=self.heads,
            use_final_proj=True,
            final_norm=False,
            encoder_depth=self.encoder_depth,
            decoder_depth=self.decoder_depth,
        )


SMOKE = AutoencoderConfig(
    steps=5,
    batch=2,
    width=64,
    heads=2,
    encoder_depth=1,
    decoder_depth=2,
    pool=8,
    held_out=8,
)


class FramewiseConv(ColourConv):
    """A 3 × 3 × 3 convolution as one in two dimensions over three stacked frames.

    The same numbers, but with so few channels many times faster on a GPU.
    """

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, T, H, W]`` → ``[B, C', T, H, W]``, zeros beyond the borders."""
        frames = x.shape[2]
        padded = F.pad(x, (0, 0, 0, 0, 1, 1))
        stacked = torch.stack([padded[:, :, k : k + frames] for k in range(3)], dim=2)
        out = F.conv2d(
            rearrange(stacked, "b c k t h w -> (b t) (c k) h w"),
            self.weight.flatten(1, 2),
            self.bias,
            padding=1,
        )
        return rearrange(out, "(b t) c h w -> b c t h w", t=frames)


def displacement(video: Tensor) -> Tensor:
    """Distance of each pixel from its mean over time, as a part of the range, ``[B, 1, T, H, W]``."""
    away = (video - video.mean(dim=2, keepdim=True)).abs()
    return away.amax(dim=1, keepdim=True) / 2


def motion_weight(video: Tensor, strength: float) -> Tensor:
    """1 for still pixels, ``1 + strength`` for moving ones, ``[B, 1, T, H, W]``.

    Most of a video stands still and would drown the few pixels that tell where things are.
    """
    return 1 + strength * (displacement(video) / MOVING - 0.5).clamp(0, 1)


def reconstruction_loss(made: Tensor, video: Tensor, config: AutoencoderConfig) -> Tensor:
    """Weighted absolute, squared and edge error of videos ``[B, 3, T, H, W]`` in [-1, 1]."""
    weight = motion_weight(video, config.motion)
    error = made.float() - video
    pixels = error.abs() + config.mse * error.square()
    down = error[..., 1:, :] - error[..., :-1, :]
    right = error[..., 1:] - error[..., :-1]
    edges = (weight[..., 1:, :] * down.abs()).mean() + (weight[..., 1:] * right.abs()).mean()
    return (weight * pixels).mean() + config.gradient * edges


def divergence(moments: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and standard deviation of the latents, and their mean KL divergence from a standard normal."""
    mean, log_variance = moments.float().chunk(2, dim=1)
    log_variance = log_variance.clamp(-30, 20)
    kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
    return mean, (0.5 * log_variance).exp(), kl


def short_units(video: Tensor) -> Tensor:
    """Units ``[B, 3, 12, H, W]`` cut into 4 frames, ``[3 B, 3, 4, H, W]``; half of them a still picture."""
    cut = rearrange(video, "b c (k t) h w -> (b k) c t h w", t=PATCH_FRAMES)
    still = cut[:, :, :1].expand_as(cut)
    odd = torch.arange(len(cut), device=cut.device) % 2 == 1
    return torch.where(odd[:, None, None, None, None], still, cut)


class AutoencoderTrainer(Trainer):
    """The run of `training.loop` for the VAE."""

    config: AutoencoderConfig
    live: VAE

    def __init__(
        self, config: AutoencoderConfig, out: Path, process: Process, *, compiled: bool
    ) -> None:
        super().__init__(config, out, process)
        self.compiled = compiled
        self.pool = UnitPool(
            units=config.pool,
            batch=config.batch,
            reuse=config.reuse,
            seed=config.seed,
            rank=process.rank,
            device=self.device,
            compiled=compiled,
        )
        torch.manual_seed(config.seed)
        vae = VAE(config.shape)
        if config.init_from:
            vae.load_state_dict(dequantise(read_state(Path(config.init_from) / WEIGHTS)))
        last = vae.decoder.last_layer
        framewise = FramewiseConv(last.in_channels, last.out_channels, 3, padding=1)
        framewise.load_state_dict(last.state_dict())
        vae.decoder.last_layer = framewise
        self.live = vae.to(self.device)
        self.loss = reconstruction_loss
        if compiled:
            for module in vae.modules():
                if isinstance(module, Block | FramewiseConv):
                    module.compile(dynamic=False)
            self.loss = torch.compile(reconstruction_loss, dynamic=False)
        self.start_optimiser(config.weight_decay, hidden_matrices(self.live))
        self.last: dict[str, Tensor] = {}

    @property
    def total_steps(self) -> int:
        return self.config.steps

    def train_step(self) -> Tensor:
        config, step = self.config, self.step
        video = self.pool.batch_at(step)
        if step % SHORT_EVERY == SHORT_EVERY - 1:
            video = short_units(video)
        generator = simworld.make_generator(config.seed, f"latents/{self.rank}/{step}", self.device)
        with self.autocast():
            mean, std, kl = divergence(self.live.moments(video))
            noise = torch.randn(mean.shape, generator=generator, device=self.device)
            made = self.live.decode(mean + std * noise)
        error = self.loss(made, video, config)
        loss = error + config.kl * kl
        self.last = {"error": error.detach(), "kl": kl.detach(), "latent_std": mean.detach().std()}
        rate = config.learning_rate * schedule(step / config.steps)
        self.learn(loss, rate=rate, decay=0.9985, seen=step)
        return loss.detach()

    def diagnostics(self) -> dict[str, float]:
        return {name: value.item() for name, value in self.last.items()}

    def evaluation(self) -> dict[str, float]:
        """Held-out quality of the averaged weights, and of what int8 makes of them."""
        video = held_out_units(self.config.held_out, self.device, compiled=self.compiled)
        vae = VAE(self.config.shape).to(self.device).eval()
        state = self.averaged_state()
        vae.load_state_dict(state)
        found = quality(vae, video)
        vae.load_state_dict(dequantise(quantise(state, keep=KEPT)))
        return found | {f"{name}_int8": value for name, value in quality(vae, video).items()}

    def export(self) -> list[Path]:
        state = self.averaged_state()
        half = {name: value.half() for name, value in state.items()}
        settings = {
            "_class_name": "ViTVAE",
            "model_type": "vit",
            "ddconfig": asdict(self.config.shape),
        }
        paths = []
        for folder, weights in (("vae", quantise(state, keep=KEPT)), ("vae_half", half)):
            place = self.out / folder
            place.mkdir(parents=True, exist_ok=True)
            (place / "config.json").write_text(json.dumps(settings, indent=2) + "\n")
            paths.append(place / WEIGHTS)
            write_state(weights, paths[-1], self.record())
        return paths


def held_out_units(count: int, device: torch.device, *, compiled: bool = False) -> Tensor:
    """Units of scenes that no training sees, ``[count, 3, 12, 64, 64]`` in [-1, 1]."""
    generator = simworld.make_generator(0, "held-out units", device)
    footage = shoot(count, generator, "id")
    starts = torch.arange(count, device=device) % 4 * UNIT
    return to_model(torch.cat(list(Camera(compiled).film(footage, starts, UNIT))))


@torch.no_grad()
def quality(vae: VAE, video: Tensor) -> dict[str, float]:
    """PSNR in dB of units ``[B, 3, 12, 64, 64]`` in [-1, 1] after encoding and decoding.

    ``psnr`` is the mean over clips, also for 4 frames and for 1; ``psnr_moving`` is that of all moving
    pixels together; ``latent_std`` is the standard deviation of the latents.
    """
    errors: dict[str, list[Tensor]] = {"psnr": [], "psnr_4_frames": [], "psnr_1_frame": []}
    moving_error, moving, latents = [], [], []
    for part in video.split(64):
        for name, frames in (("psnr", UNIT), ("psnr_4_frames", PATCH_FRAMES), ("psnr_1_frame", 1)):
            cut = part[:, :, :frames]
            latent = vae.encode(cut)
            made = vae.decode(latent).clamp(-1, 1)
            error = ((made - cut) / 2).square()
            errors[name].append(error.mean(dim=(1, 2, 3, 4)))
            if name == "psnr":
                latents.append(latent)
                moves = displacement(cut) > MOVING
                moving.append(moves.sum())
                moving_error.append((error.mean(dim=1, keepdim=True) * moves).sum())
    found = {
        name: -10 * torch.cat(parts).clamp_min(1e-10).log10().mean().item()
        for name, parts in errors.items()
    }
    pooled = torch.stack(moving_error).sum() / torch.stack(moving).sum().clamp_min(1)
    found["psnr_moving"] = -10 * pooled.clamp_min(1e-10).log10().item()
    found["latent_std"] = torch.cat(latents).std().item()
    return found


def run(
    config: AutoencoderConfig, out: Path, *, max_minutes: float, log_every: int, compiled: bool
) -> bool:
    """Train until done or out of time; returns whether it is done."""
    with joined() as process:
        trainer = AutoencoderTrainer(config, out, process, compiled=compiled)
        return train(trainer, max_minutes=max_minutes, log_every=log_every)


def main(argv: Sequence[str] | None = None) -> int:
    return command("python -m training.autoencoder", __doc__, AutoencoderConfig(), SMOKE, run, argv)


if __name__ == "__main__":
    sys.exit(main())
