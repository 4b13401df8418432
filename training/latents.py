"""A pool of videos as the transformer sees them: latents and the bytes of prompts, made on the GPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor

import simworld
from magi1.text.byte_t5 import EOS, FIRST_BYTE, PAD
from magi1.vae import VAE
from simworld import Split
from training.videos import FRAMES, UNIT, Camera, Footage, shoot, to_model

CAPTION_TOKENS = 112
CAPTIONS = 2
"""Prompts written for each video."""
LATENT_FRAMES = FRAMES // 4
ASPECTS = ("color", "shape", "side", "motion")
"""What a prompt may say of the object that it names first."""
_IMAGE = 3
"""The frame that stands for an image: the video goes on where the four frames of its latent end."""
_HIGHEST = 1 << 30


class Examples(NamedTuple):
    """B videos of 48 frames."""

    latents: Tensor
    """[B, 16, 12, 8, 8] encoded 12 frames at a time, times the scale."""
    image: Tensor
    """[B, 16, 8, 8] the first latent where an image is given: of frame 3, repeated."""
    fourth: Tensor
    """[B, 16, 8, 8] the fourth latent where 16 frames are given: of frames 12 to 15 alone."""
    ids: Tensor
    """[B, 112] bytes of a prompt, see `magi1.text.byte_t5`."""
    mask: Tensor
    """[B, 112] 1 where there is one."""
    said: Tensor
    """[B, 4] what the prompt says, in the order of `ASPECTS`; -1 where it says nothing."""

    def with_prefix(self, prefix: Tensor) -> Tensor:
        """Latents whose first ``prefix [B]`` frames are as they are when given."""
        latents = self.latents.clone()
        for frames, index, given in ((1, 0, self.image), (4, 3, self.fourth)):
            chosen = (prefix == frames)[:, None, None, None]
            latents[:, :, index] = torch.where(chosen, given, latents[:, :, index])
        return latents


@torch.no_grad()
def encode(vae: VAE, video: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Latents, image latent and fourth latent (see `Examples`) of uint8 videos ``[B, 3, 48, 64, 64]``."""
    video = to_model(video)
    units = rearrange(video, "b c (k t) h w -> (b k) c t h w", t=UNIT)
    latents = rearrange(vae.encode(units), "(b k) c t h w -> b c (k t) h w", b=len(video))
    image = vae.encode(video[:, :, _IMAGE : _IMAGE + 1])[:, :, 0]
    fourth = vae.encode(video[:, :, UNIT : UNIT + 4])[:, :, 0]
    return latents, image, fourth


class LatentPool:
    """An endless stream of examples; the batch of any step can be made again from the seed.

    Args:
        vae: Encodes; frozen.
        scale: Latents are multiplied by it.
        clips: Videos per pool.
        batch: Examples per step.
        reuse: Passes over a pool before the next one is made.
        seed, rank: They determine all pools.
        split: Of the scenes.
        compiled: Compile the renderer.
    """

    def __init__(
        self,
        vae: VAE,
        scale: float,
        *,
        clips: int,
        batch: int,
        reuse: int,
        seed: int,
        rank: int,
        split: Split = "train",
        compiled: bool,
    ) -> None:
        if clips < batch:
            raise ValueError(f"pool={clips} must hold at least one batch of {batch}")
        self.vae, self.scale, self.split = vae, scale, split
        self.clips, self.batch, self.reuse = clips, batch, reuse
        self.seed, self.label = seed, f"clips/{split}/{rank}"
        self.device = next(vae.parameters()).device
        self.camera = Camera(compiled)
        self._filled = -1

    def _generator(self, *number: int) -> torch.Generator:
        label = "/".join(map(str, (self.label, *number)))
        return simworld.make_generator(self.seed, label, self.device)

    def batch_at(self, step: int) -> Examples:
        """The examples of ``step``."""
        per_pass = self.clips // self.batch
        fill, within = divmod(step, per_pass * self.reuse)
        if fill != self._filled:
            self._fill(fill)
        round_, place = divmod(within, per_pass)
        generator = self._generator(1, fill, round_)
        order = torch.randperm(self.clips, generator=generator, device=self.device)
        chosen = order[place * self.batch : (place + 1) * self.batch]
        wording = (round_ + chosen) % CAPTIONS
        latents, image, fourth = (part[chosen].float() for part in self._latents)
        ids, mask, said = (part[chosen, wording] for part in self._words)
        return Examples(latents, image, fourth, ids.long(), mask, said)

    def _fill(self, fill: int) -> None:
        generator = self._generator(0, fill)
        footage = shoot(self.clips, generator, self.split)
        start = torch.zeros(self.clips, dtype=torch.long, device=self.device)
        cuda = self.device.type == "cuda"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=cuda):
            parts = [encode(self.vae, video) for video in self.camera.film(footage, start, FRAMES)]
        self._latents = [(torch.cat(kind) * self.scale).half() for kind in zip(*parts, strict=True)]
        self._words = prompts(footage, generator)
        self._filled = fill


def prompts(footage: Footage, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Ids and mask ``[N, 2, 112]`` of two prompts for each video, and what they say, ``[N, 2, 4]``."""
    facts = simworld.describe(*footage)
    ids, masks, said = [], [], []
    for _ in range(CAPTIONS):
        captions = simworld.write_captions(facts, generator)
        tokens = tokens_of([caption.text for caption in captions])
        ids.append(tokens)
        masks.append(tokens != PAD)
        said.append(
            torch.tensor([[getattr(caption, name) for name in ASPECTS] for caption in captions])
        )

    def joined(parts: list[Tensor]) -> Tensor:
        return torch.stack(parts, dim=1).to(generator.device)

    return joined(ids), joined(masks), joined(said)


def tokens_of(texts: Sequence[str]) -> Tensor:
    """`magi1.text.byte_t5.tokenize` for tens of thousands of captions at once: int16 ids ``[N, 112]``."""
    padded = b"".join(text.encode().ljust(CAPTION_TOKENS, b"\0") for text in texts)
    raw = torch.frombuffer(bytearray(padded), dtype=torch.uint8).view(len(texts), -1).short()
    written = raw != 0
    ids = torch.where(written, raw + FIRST_BYTE, PAD)
    ids[torch.arange(len(texts)), written.sum(dim=1)] = EOS
    return ids


def latent_scale(vae: VAE, clips: int) -> float:
    """The factor that gives latents unit variance, measured on ``clips`` videos; five digits."""
    pool = LatentPool(
        vae, 1.0, clips=clips, batch=clips, reuse=1, seed=0, rank=_HIGHEST, compiled=False
    )
    return float(f"{1 / pool.batch_at(0).latents.std().item():.5g}")
