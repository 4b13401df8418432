"""Latents to video, and a gradient at the video back to the latents.

Rewards never see the decoder's graph. It waits beside theirs, or, in less memory, it does not: then frames
are decoded without a graph, and once more when the gradient at the pixels is known, to pull it back. The
gradient is the same to the bit.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from wmreward.pipelines.checkpoints import frugal
from wmreward.pipelines.families.base import Family
from wmreward.pipelines.shrinking import resized, shrunk
from wmreward.pipelines.slices import Slice, slices_of, turns_of

log = logging.getLogger(__name__)

TOO_FAR = 0.2
"""Where smaller frames differ by more, their gradient was of little or no use: see docs/pipelines.md."""


@dataclass
class Economy:
    """What is given up for memory; may change while a pipeline runs.

    Attributes:
        apart: The decoder's graph and the reward's are never there at the same time, for one more decoding.
            Exact. Several videos, and gradients in pieces, are always taken apart.
        on_host: What the decoder keeps for its gradient waits in host memory. Exact.
        pieces: Latent frames whose gradient is taken at once; None: of all. In pieces it is an approximation:
            a latent's effect on frames beyond the piece and its warm-up is lost.
        scored: Latent frames that are decoded and scored at a guided step; None: all. Others come at every
            step, so that all have their turn.
        warm_up: Latent frames decoded before a piece or a slice, and left out.
        shrink: Latents are averaged over squares of so many cells by so many before they are decoded: frames
            come out so many times smaller, and the decoder's time and memory fall by the square. An
            approximation.
        errors: How far frames were from those of the whole decode (resized, where they are smaller), relative
            (RMS): of every piece so far, and once for each ``scored`` and ``shrink``.
        measured: The last of these, as ``(scored, shrink)``.
    """

    apart: bool = False
    on_host: bool = False
    pieces: int | None = None
    scored: int | None = None
    warm_up: int = 2
    shrink: int | None = None
    errors: list[float] = field(default_factory=list)
    measured: tuple[int | None, int | None] = (None, None)


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
        small = self.shrunk(whole)
        self._measure_once(whole, small, scored)
        keep = self._keeps_graph(small, scored)
        return torch.cat([_Decoded.apply(row, self, scored, keep) for row in small.split(1)])

    def shrunk(self, latents: Tensor) -> Tensor:
        """Complete latents as they are decoded; see `shrinking.shrunk`."""
        return shrunk(latents, self.economy.shrink)

    def _keeps_graph(self, latents: Tensor, part: Slice | None) -> bool:
        """Whether the graph of the first decoding is kept for the gradient."""
        in_one_piece = self._pieces(latents.shape[2], part) == [part]
        return (
            torch.is_grad_enabled()
            and len(latents) == 1
            and in_one_piece
            and not self.economy.apart
        )

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

    def largest(self, latent_frames: int) -> Slice | None:
        """Of what is differentiated at once, that of most latent frames; None: all."""
        parts = [*self.turns(latent_frames)] or self._pieces(latent_frames, None)
        return max(parts, key=lambda part: part.end - part.begin if part else latent_frames)

    @torch.no_grad()
    def frames(self, latents: Tensor, part: Slice | None) -> Tensor:
        """The video of complete latents, or a slice of it."""
        return self._decoded(latents, part)

    def graph(self, latents: Tensor, part: Slice | None) -> tuple[Tensor, Tensor]:
        """Complete latents as a leaf, and the video with the graph between them."""
        leaf = latents.detach().requires_grad_()
        with torch.enable_grad(), self._frugal():
            return leaf, self._decoded(leaf, part)

    def pull_back(
        self,
        latents: Tensor,
        part: Slice | None,
        towards: Tensor,
        video: Tensor,
        graph: tuple[Tensor, Tensor] | None,
    ) -> Tensor:
        """The gradient in complete latents ``[1, C, T, H, W]`` of Σ ``towards`` · ``video``.

        Args:
            latents, part: What was decoded.
            towards, video: The gradient at the pixels, and these.
            graph: That of the decoding, if it was kept.
        """
        gradient = torch.zeros_like(latents)
        for piece in self._pieces(latents.shape[2], part):
            wanted = towards if piece in (part, None) else piece.of(towards, self._factor)
            if not wanted.any():
                continue
            # A kept graph is asked twice: for the reward, and for the edges that it may not blur.
            asked_again = graph is not None
            graph = graph or self.graph(latents, piece)
            gradient += self.through(graph, wanted, retain=asked_again)
            decoded, graph = graph[1], None
            if piece not in (part, None):
                self._note(decoded.detach(), piece.of(video, self._factor))
        return gradient

    def through(
        self, graph: tuple[Tensor, Tensor], towards: Tensor, *, retain: bool = False
    ) -> Tensor:
        """The gradient at the video, pulled back to the latents through :meth:`graph`."""
        leaf, decoded = graph
        with self._frugal():  # what is computed again asks how, once more
            return torch.autograd.grad(decoded, leaf, towards, retain_graph=retain)[0]

    def _frugal(self) -> AbstractContextManager[None]:
        return frugal(self.family.pipe.vae, on_host=self.economy.on_host)

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

    def _measure_once(self, whole: Tensor, small: Tensor, part: Slice | None) -> None:
        """Hold frames of the first video against the exact ones, unless that was done with these settings."""
        settings = (self.economy.scored, self.economy.shrink)
        if settings == self.economy.measured or (part is None and small is whole):
            return
        self.economy.measured = settings
        found, true = self.frames(small[:1].detach(), part), self.frames(whole[:1].detach(), None)
        if part is not None:
            true = part.of(true, self._factor)
        self._note(found, resized(true, *found.shape[-2:]) if small is not whole else true)
        if small is not whole and self.economy.errors[-1] > TOO_FAR:
            log.warning(
                "shrink=%d: smaller frames differ from the exact ones by %.0f %%: their gradient may lead "
                "nowhere; leave shrink out, or hold guided videos against plain ones",
                self.economy.shrink,
                100 * self.economy.errors[-1],
            )

    def _note(self, found: Tensor, true: Tensor) -> None:
        error = (found - true).square().mean().sqrt() / true.std().clamp_min(1e-12)
        self.economy.errors.append(error.item())


class _Decoded(torch.autograd.Function):
    """One video."""

    @staticmethod
    def forward(
        ctx: Any, latents: Tensor, decoder: Decoder, part: Slice | None, keep: bool
    ) -> Tensor:
        ctx.decoder, ctx.part = decoder, part
        ctx.graph = decoder.graph(latents, part) if keep else None
        video = ctx.graph[1].detach() if keep else decoder.frames(latents, part)
        ctx.save_for_backward(latents, video)
        return video

    @staticmethod
    def backward(ctx: Any, *towards: Any) -> tuple[Tensor, None, None, None]:
        latents, video = ctx.saved_tensors
        found = ctx.decoder.pull_back(latents, ctx.part, towards[0], video, ctx.graph)
        return found, None, None, None


@contextmanager
def _own_randomness(device: torch.device) -> Iterator[None]:
    """Some decoders add noise: always the same here, and the caller's random numbers stay what they are."""
    on_gpu = device.type == "cuda"
    with torch.random.fork_rng(devices=[device] if on_gpu else []):
        torch.default_generator.manual_seed(0)
        if on_gpu:
            torch.cuda.default_generators[device.index or 0].manual_seed(0)
        yield
