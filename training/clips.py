"""An endless stream of simulated clips: the batch of any step can be made again from the seed."""

from __future__ import annotations

import torch
from torch import Tensor

import simworld
from simworld import Looks, Style
from training.degrade import degrade
from vjepa2.config import VJEPA2Config
from vjepa2.preprocess import normalise

CLIP_FRAMES = 16
LONG_FRAMES = 48
LONG_EVERY = 4
"""Every so many steps the clips are long: a second to look at and a second to predict."""
STRIDES = (0.45, 0.3, 0.25)
"""Shares of the short clips that show every frame, every second, every third."""
LATEST_START = 24
"""Later on most things have come to rest."""
PLAIN, DRAWN = 0.2, 0.3
"""Shares of the clips in the plain style and in the drawn style."""
_LONG = LONG_FRAMES // CLIP_FRAMES


class ClipStream:
    """Clips of possible physics for one process, at several frame rates and of two lengths.

    Simulating is much cheaper in large pools than in batches, so a pool of scenes is simulated at once
    and every scene is used several times, each time from another frame on and with other looks.

    Args:
        config: The model the clips are for (their size).
        batch: Short clips per step; of the long ones there are a third as many.
        seed: Together with ``rank`` and the step it determines a batch.
        rank: Number of this process.
        device: Where clips are made.
        pool: Scenes simulated at once.
        reuse: How often a scene is used before the pool is renewed.
        frames: Simulated frames per scene.
        compiled: Compile the renderer.
    """

    def __init__(
        self,
        config: VJEPA2Config,
        *,
        batch: int,
        seed: int,
        rank: int,
        device: torch.device,
        pool: int = 65_536,
        reuse: int = 4,
        frames: int = 56,
        compiled: bool = False,
    ) -> None:
        if pool < batch:
            raise ValueError(f"pool={pool} must hold at least one batch of {batch}")
        if frames < LONG_FRAMES:
            raise ValueError(f"frames={frames} must be at least {LONG_FRAMES}, the longest clip")
        self.config, self.batch, self.device = config, batch, device
        self.seed, self.pool, self.reuse, self.frames = (seed, rank), pool, reuse, frames
        self._render = (
            torch.compile(simworld.render, dynamic=False) if compiled else simworld.render
        )
        self._filled = -1

    def _number(self, *parts: int) -> int:
        number = 0
        for part in (*self.seed, *parts):
            number = (number * 1_000_003 + part) % (1 << 62)
        return number

    def _fill(self, fill: int) -> None:
        """Simulate the scenes of a pool."""
        scenes = simworld.sample_scenes(
            self.pool, split="train", seed=self._number(1, fill), device=self.device
        )
        other = torch.Generator(self.device).manual_seed(self._number(4, fill))
        self._trajectories = simworld.simulate(
            simworld.vary_scenes(scenes, other),
            frames=self.frames,
            longest_occlusion=simworld.LONGEST_OCCLUSION,
        )
        self._covered = simworld.hidden(self._trajectories)[:, :, 0]
        self._filled = fill

    def _moments(self, chosen: Tensor, length: int, generator: torch.Generator) -> Tensor:
        """Which frames the clips show, ``[B, length]``: from anywhere, but half of the clips that can
        show a reappearance do.

        By chance few would: then nothing is learned of what an object does behind an occluder.
        """
        draw = torch.rand(4, len(chosen), generator=generator, device=self.device)
        shares = torch.tensor(STRIDES, device=self.device).cumsum(0)
        stride = 1 + torch.bucketize(draw[3], shares[:-1], right=True)
        if length == LONG_FRAMES:
            stride = torch.ones_like(stride)
        latest = (self.frames - 1 - (length - 1) * stride).clamp_max(LATEST_START)
        anywhere = (draw[0] * (latest + 1)).long()
        first, last = reappearance_starts(self._covered[chosen], length, stride)
        aimed = first + (draw[1] * (last - first + 1)).long()
        start = torch.where((first <= last) & (draw[2] < 0.5), aimed, anywhere)
        return start[:, None] + stride[:, None] * torch.arange(length, device=self.device)

    @torch.no_grad()
    def batch_at(self, step: int) -> Tensor:
        """The clips of ``step``: normalised pixels ``[B, 3, 16, crop, crop]``, or at every
        ``LONG_EVERY``-th step ``[B / 3, 3, 48, crop, crop]``.
        """
        per_pass = self.pool // self.batch
        fill, within = divmod(step, per_pass * self.reuse)
        if fill != self._filled:
            self._fill(fill)
        round_, place = divmod(within, per_pass)
        order = torch.Generator(self.device).manual_seed(self._number(2, fill, round_))
        shuffled = torch.randperm(self.pool, generator=order, device=self.device)
        chosen = shuffled[place * self.batch : (place + 1) * self.batch]
        generator = torch.Generator(self.device).manual_seed(self._number(3, step))
        length = CLIP_FRAMES
        if step % LONG_EVERY == LONG_EVERY - 1:
            chosen, length = chosen[: max(2, self.batch // _LONG)], LONG_FRAMES
        moments = self._moments(chosen, length, generator)
        looks, style = mixed_looks(len(chosen), generator)
        clips = self._film(chosen, moments, looks, style, generator)
        return normalise(degrade(clips, generator))

    def _film(
        self,
        chosen: Tensor,
        moments: Tensor,
        looks: Looks,
        style: Style,
        generator: torch.Generator,
    ) -> Tensor:
        """Render the scenes at these frames, ``[B, 3, T, crop, crop]`` in [0, 1].

        Long clips are rendered in pieces of ``CLIP_FRAMES``, so that one compiled renderer serves all.
        """
        pieces = moments.shape[1] // CLIP_FRAMES
        rows = torch.arange(len(chosen), device=self.device).repeat_interleave(pieces)
        shown = self._trajectories[chosen[rows]].retime(moments.reshape(-1, CLIP_FRAMES))
        size = self.config.crop
        noise = torch.randn(
            (len(rows), 3, CLIP_FRAMES, size, size), generator=generator, device=self.device
        )
        clips = self._render(
            style[rows].snapped(shown),
            looks[rows],
            size=size,
            frames=CLIP_FRAMES,
            noise=noise,
            style=style[rows],
        )
        return clips.unflatten(0, (-1, pieces)).transpose(1, 2).flatten(2, 3)


def mixed_looks(count: int, generator: torch.Generator) -> tuple[Looks, Style]:
    """Looks and styles of all kinds for ``count`` clips."""
    plain, drawn = round(PLAIN * count), round(DRAWN * count)
    usual = count - plain - drawn
    looks, style = simworld.sample_drawn_looks(drawn, generator=generator)
    looks = Looks.cat(
        [
            simworld.sample_looks(usual, generator=generator),
            simworld.sample_plain_looks(plain, generator=generator),
            looks,
        ]
    )
    return looks, Style.cat([Style.plain(usual + plain, generator.device), style])


def reappearance_starts(covered: Tensor, length: int, stride: Tensor) -> tuple[Tensor, Tensor]:
    """Range of first frames from which a clip shows an object go into hiding and come out again.

    The object is seen at two context frames at least before it is covered, and comes out in the
    predicted half, three shown frames before its end at the latest.

    Args:
        covered: Whether the object is hidden, ``[B, T]``.
        length: Frames of a clip.
        stride: Each clip shows every ``stride``-th frame, ``[B]``.

    Returns:
        First and last such frame, ``[B]`` each; first > last where there is none.
    """
    frames, half = covered.shape[1], length // 2
    out = covered[:, :-1] & ~covered[:, 1:]
    back = out.int().argmax(dim=1) + 1  # the first visible frame after the first hiding
    time = torch.arange(frames, device=covered.device)
    gone = back - (covered & (time < back[:, None])).sum(dim=1)
    first = (back - (length - 3) * stride).clamp_min(0)
    last = torch.minimum(back - half * stride, gone - 2 * stride)
    last = torch.minimum(last, frames - 1 - (length - 1) * stride)
    return first, torch.where(out.any(dim=1), last, -1)
