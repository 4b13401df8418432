"""An endless stream of simulated clips: the batch of any step can be made again from the seed."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

import simworld
from vjepa2.config import VJEPA2Config
from vjepa2.preprocess import normalise

CLIP_FRAMES = 16


class ClipStream:
    """Clips of possible physics for one process.

    Simulating is much cheaper in large pools than in batches, so a pool of scenes is simulated at once
    and every scene is used several times, each time from another frame on and with other looks.

    Args:
        config: The model the clips are for (their size).
        batch: Clips per step.
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
        frames: int = 40,
        compiled: bool = False,
    ) -> None:
        if pool < batch:
            raise ValueError(f"pool={pool} must hold at least one batch of {batch}")
        self.config, self.batch, self.device = config, batch, device
        self.seed, self.pool, self.reuse, self.frames = (seed, rank), pool, reuse, frames
        self._render = torch.compile(simworld.render) if compiled else simworld.render
        self._filled = -1

    def _number(self, *parts: int) -> int:
        number = 0
        for part in (*self.seed, *parts):
            number = (number * 1_000_003 + part) % (1 << 62)
        return number

    def _starts(self, chosen: Tensor, generator: torch.Generator) -> Tensor:
        """First frames ``[B]``: anywhere, but half of the clips that can show a reappearance do.

        By chance few would: then nothing is learned of what an object does behind an occluder.
        """
        draw = torch.rand(3, len(chosen), generator=generator, device=self.device)
        anywhere = (draw[0] * (self.frames - CLIP_FRAMES + 1)).long()
        first, last = (side[chosen] for side in self._aims)
        aimed = first + (draw[1] * (last - first + 1)).long()
        return torch.where((first <= last) & (draw[2] < 0.5), aimed, anywhere)

    @torch.no_grad()
    def batch_at(self, step: int) -> Tensor:
        """The clips of ``step``: normalised pixels ``[B, 3, 16, crop, crop]``."""
        per_pass = self.pool // self.batch
        fill, within = divmod(step, per_pass * self.reuse)
        if fill != self._filled:
            self._scenes = simworld.sample_scenes(
                self.pool, split="train", seed=self._number(1, fill), device=self.device
            )
            self._trajectories = simworld.simulate(self._scenes, frames=self.frames)
            self._aims = reappearance_starts(simworld.hidden(self._trajectories)[:, :, 0])
            self._filled = fill
        round_, place = divmod(within, per_pass)
        order = torch.Generator(self.device).manual_seed(self._number(2, fill, round_))
        shuffled = torch.randperm(self.pool, generator=order, device=self.device)
        chosen = shuffled[place * self.batch : (place + 1) * self.batch]
        generator = torch.Generator(self.device).manual_seed(self._number(3, step))
        start = self._starts(chosen, generator)
        looks = simworld.sample_looks(self.batch, split="train", generator=generator)
        noise_shape = (self.batch, 3, CLIP_FRAMES, self.config.crop, self.config.crop)
        noise = torch.randn(noise_shape, generator=generator, device=self.device)
        clips = self._render(
            self._trajectories[chosen],
            looks,
            size=self.config.crop,
            start=start,
            frames=CLIP_FRAMES,
            noise=noise,
        )
        return normalise(degrade(clips, generator))


def reappearance_starts(covered: Tensor) -> tuple[Tensor, Tensor]:
    """Range of first frames from which a clip shows an object go into hiding and come out again.

    The object is seen for two context frames at least before it is covered, and comes out in the
    predicted half, three frames before its end at the latest.

    Args:
        covered: Whether the object is hidden, ``[B, T]``.

    Returns:
        First and last such frame, ``[B]`` each; first > last where there is none.
    """
    frames, half = covered.shape[1], CLIP_FRAMES // 2
    out = covered[:, :-1] & ~covered[:, 1:]
    back = out.int().argmax(dim=1) + 1  # the first visible frame after the first hiding
    time = torch.arange(frames, device=covered.device)
    gone = back - (covered & (time < back[:, None])).sum(dim=1)
    first = (back - CLIP_FRAMES + 3).clamp_min(0)
    last = torch.minimum(back - half, gone - 2).clamp_max(frames - CLIP_FRAMES)
    return first, torch.where(out.any(dim=1), last, -1)


def degrade(clips: Tensor, generator: torch.Generator) -> Tensor:
    """What cameras and codecs do to clips, to a part of them each: blur, faded contrast, noise.

    ``[B, 3, T, H, W]`` in [0, 1], before and after. Without it the model takes compression artefacts
    for surprising events.
    """
    count = len(clips)

    def draw(share: float, high: float) -> Tensor:
        """Uniform up to ``high`` in a ``share`` of the clips, else 0; ``[B, 1, 1, 1, 1]``."""
        value = torch.rand(2, count, generator=generator, device=clips.device)
        return ((value[0] < share) * value[1] * high).view(-1, 1, 1, 1, 1)

    soft = F.avg_pool3d(clips, (1, 3, 3), stride=1, padding=(0, 1, 1), count_include_pad=False)
    clips = clips.lerp(soft, draw(0.3, 1.0))
    middle = clips.mean(dim=(2, 3, 4), keepdim=True)
    clips = middle + (clips - middle) * (1 - draw(0.2, 0.5))
    noise = torch.randn(clips.shape, generator=generator, device=clips.device)
    return (clips + noise * draw(0.3, 0.04)).clamp(0, 1)
