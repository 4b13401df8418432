"""Parts of a video along time: which latent frames are decoded for which frames of video."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from wmreward.errors import UsageError
from wmreward.pipelines.families.base import Family


@dataclass(frozen=True)
class Slice:
    """Latent frames ``start`` … ``stop`` (excluded), decoded with those from ``begin`` to ``end``."""

    start: int
    stop: int
    begin: int
    end: int

    def latents(self, whole: Tensor) -> Tensor:
        """What is decoded, of ``[B, C, T, H, W]``."""
        return whole[:, :, self.begin : self.end]

    def own(self, decoded: Tensor, factor: int) -> Tensor:
        """Of what was decoded, ``[B, 3, F, H, W]``, the frames of the slice itself."""
        return decoded[:, :, _frames(self.start - self.begin, self.stop - self.begin, factor)]

    def of(self, video: Tensor, factor: int) -> Tensor:
        """The same frames of the whole video."""
        return video[:, :, _frames(self.start, self.stop, factor)]

    def count(self, factor: int) -> int:
        """How many frames these are."""
        frames = _frames(self.start, self.stop, factor)
        return int(frames.stop - frames.start)


def _frames(start: int, stop: int, factor: int) -> slice:
    """A decoder's first latent frame is one frame of video, each other one ``factor``."""
    return slice(factor * (start - 1) + 1 if start else 0, factor * (stop - 1) + 1)


def slices_of(family: Family, latent_frames: int, size: int, warm_up: int) -> list[Slice]:
    """A video cut into slices of ``size`` latent frames, the last one maybe shorter.

    Args:
        family: Knows the decoder.
        latent_frames: Of the whole video.
        size: Rounded up to what the decoder takes together.
        warm_up: Latent frames that are decoded before (and after, where they matter) and left out.

    Raises:
        UsageError: this decoder makes another video of so many latent frames when they are cut.
    """
    unit = family.slice_unit
    if latent_frames % unit != 1 % unit:
        raise UsageError(
            f"{latent_frames} latent frames cannot be decoded in slices here: choose num_frames so that "
            f"their number is odd (such as {family.frames(latent_frames + 1)} frames)"
        )
    size = -(-size // unit) * unit
    starts = [0, *range(size + unit - 1, latent_frames, size)]
    bounds = zip(starts, [*starts[1:], latent_frames], strict=True)
    return [_slice(family, start, stop, latent_frames, warm_up) for start, stop in bounds]


def turns_of(family: Family, latent_frames: int, size: int, warm_up: int) -> list[Slice]:
    """The same, but the last slice is as long as the others, and begins within the one before."""
    *others, last = slices_of(family, latent_frames, size, warm_up)
    if others:
        size = -(-size // family.slice_unit) * family.slice_unit
        last = _slice(family, latent_frames - size, latent_frames, latent_frames, warm_up)
    return [*others, last]


def _slice(family: Family, start: int, stop: int, latent_frames: int, warm_up: int) -> Slice:
    begin = max(0, start - warm_up) // family.slice_unit * family.slice_unit
    end = min(latent_frames, stop + warm_up) if family.sees_ahead else stop
    return Slice(start, stop, begin, end)
