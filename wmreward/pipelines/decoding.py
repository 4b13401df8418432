"""Latents to video, and a gradient at the video back to the latents, one after the other.

The decoder's graph and the reward's are never there at the same time: frames are decoded without a graph, and
when the gradient at the pixels is known they are decoded again to pull it back. The sum is the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from wmreward.pipelines.checkpoints import frugal
from wmreward.pipelines.families.base import Family
from wmreward.pipelines.slices import Slice, slices_of, turns_of


@dataclass
class Economy:
    """What is given up for memory; may change while a pipeline runs.

    Attributes:
        on_host: What the decoder keeps for its gradient waits in host memory. Exact.
        pieces: Latent frames whose gradient is taken at once; None: of all. In pieces it is an approximation:
            a latent's effect on frames beyond the piece and its warm-up is lost.
        scored: Latent frames that are decoded and scored at a guided step; None: all. Others come at every
            step, so that all have their turn.
        warm_up: Latent frames decoded before a piece or a slice, and left out.
        errors: Of every slice so far, how far its frames were from those of the whole decode, relative (RMS).
    """

    on_host: bool = False
    pieces: int | None = None
    scored: int | None = None
    warm_up: int = 2
    errors: list[float] = field(default_factory=list)


class Decoder:
    """Decodes the clean latents of one call of a pipeline; differentiable.

    Args:
        family: Knows the pipeline.
        economy: What is given up.
    """

    def __init__(self, family: Family, economy: Economy) -> None:
        self.family, self.economy = family, economy

    def __call__(self, latents: Tensor, turn: int = 0) -> Tensor:
        """Clean latents ``[B, C, T, H, W]`` → video ``[B, 3, F, H, W]`` in about [−1, 1], float32 or more; at
        the ``turn``-th guided step.
        """
        whole = self.family.complete(latents)
        scored = self.scored(whole.shape[2], turn)
        if scored is not None:
            self._measure_once(whole, scored)
        rows = [_TwoPhases.apply(row, self, scored) for row in whole.split(1)]
        return torch.cat(rows)

    def scored(self, latent_frames: int, turn: int) -> Slice | None:
        """What is decoded at the ``turn``-th guided step; None: all."""
        turns = self.turns(latent_frames)
        return turns[turn % len(turns)] if turns else None

    def turns(self, latent_frames: int) -> list[Slice]:
        """The slices that are scored one step after the other; none where all is scored at every step."""
        size = self.economy.scored
        if size is None or size >= latent_frames:
            return []
        return turns_of(self.family, latent_frames, size, self.economy.warm_up)

    @torch.no_grad()
    def frames(self, latents: Tensor, part: Slice | None) -> Tensor:
        """The video of complete latents, or a slice of it."""
        return self._decoded(latents, part)

    def pull_back(
        self, latents: Tensor, part: Slice | None, towards: Tensor, video: Tensor
    ) -> Tensor:
        """The gradient in complete latents ``[1, C, T, H, W]`` of Σ ``towards`` · ``video``."""
        gradient = torch.zeros_like(latents)
        for piece in self._pieces(latents.shape[2], part):
            wanted = towards if piece in (part, None) else piece.of(towards, self._factor)
            if not wanted.any():
                continue
            leaf = latents.detach().requires_grad_()
            with torch.enable_grad(), frugal(self.family.pipe.vae, on_host=self.economy.on_host):
                decoded = self._decoded(leaf, piece)
                gradient += torch.autograd.grad(decoded, leaf, wanted.to(decoded.dtype))[0]
            if piece not in (part, None):
                self._note(decoded.detach(), piece.of(video, self._factor))
        return gradient

    @property
    def _factor(self) -> int:
        return self.family.temporal_factor

    def _pieces(self, latent_frames: int, part: Slice | None) -> list[Slice | None]:
        """What is differentiated one after the other; a slice is one piece."""
        size = self.economy.pieces
        if part is not None or size is None or size >= latent_frames:
            return [part]
        return list(slices_of(self.family, latent_frames, size, self.economy.warm_up))

    def _decoded(self, latents: Tensor, part: Slice | None) -> Tensor:
        with _own_randomness(latents.device):
            if part is None:
                decoded = self.family.decode(latents)
            else:
                decoded = part.own(self.family.decode(part.latents(latents)), self._factor)
        return decoded.to(torch.promote_types(decoded.dtype, torch.float32))

    def _measure_once(self, latents: Tensor, part: Slice) -> None:
        if not self.economy.errors:
            row = latents[:1].detach()
            self._note(self.frames(row, part), part.of(self.frames(row, None), self._factor))

    def _note(self, found: Tensor, true: Tensor) -> None:
        error = (found - true).square().mean().sqrt() / true.std().clamp_min(1e-12)
        self.economy.errors.append(error.item())


class _TwoPhases(torch.autograd.Function):
    """One video."""

    @staticmethod
    def forward(ctx: Any, latents: Tensor, decoder: Decoder, part: Slice | None) -> Tensor:
        video = decoder.frames(latents, part)
        ctx.save_for_backward(latents, video)
        ctx.decoder, ctx.part = decoder, part
        return video

    @staticmethod
    def backward(ctx: Any, *towards: Any) -> tuple[Tensor, None, None]:
        latents, video = ctx.saved_tensors
        return ctx.decoder.pull_back(latents, ctx.part, towards[0], video), None, None


@contextmanager
def _own_randomness(device: torch.device) -> Iterator[None]:
    """Some decoders add noise: always the same here, and the caller's random numbers stay what they are."""
    on_gpu = device.type == "cuda"
    with torch.random.fork_rng(devices=[device] if on_gpu else []):
        torch.default_generator.manual_seed(0)
        if on_gpu:
            torch.cuda.default_generators[device.index or 0].manual_seed(0)
        yield
