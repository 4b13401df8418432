"""Videos of any size through the VAE: tile by tile, neighbours cross-faded where they overlap in space.

Tiles follow each other in time without overlap, so half a second (12 frames, 3 latents) is a unit that
is encoded or decoded by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from types import EllipsisType

import torch
from torch import Tensor

from magi1.errors import MagiUsageError
from magi1.vae import VAE, VAEConfig

TileMap = Callable[[Callable[[Tensor], Tensor], Sequence[Tensor]], Sequence[Tensor]]
"""Applies a function to every tile and returns the results in the order of the tiles."""

Shape = tuple[int, int, int]
"""Tiles in time, height and width."""

Place = tuple[EllipsisType, slice, slice, slice]
"""Where a tile is: an index of a video or its latents."""

HEIGHT, WIDTH = -2, -1


@dataclass(frozen=True)
class Tiling:
    """How a video is cut.

    Attributes:
        frames: Frames per tile, at most.
        size: Height and width of a tile in pixels, at most.
        overlap: Part of ``size`` that a tile shares with the next one, in [0, 1).

    Raises:
        MagiUsageError: Values outside these ranges.
    """

    frames: int = 12
    size: int = 256
    overlap: float = 0.25

    def __post_init__(self) -> None:
        if self.frames < 1 or self.size < 1:
            raise MagiUsageError(
                f"tiles must not be empty, got frames={self.frames}, size={self.size}"
            )
        if not 0 <= self.overlap < 1:
            raise MagiUsageError(
                f"overlap of tiles must be at least 0 and below 1, got {self.overlap}"
            )

    def on(self, config: VAEConfig) -> Cut:
        """The same in latents of a VAE; raises ``MagiUsageError`` where these are not whole."""
        length, patch = config.patch_length, config.patch_size
        overlap = self.overlap * self.size
        for name, value, unit in (
            ("frames", self.frames, length),
            ("size", self.size, patch),
            ("overlap · size", overlap, patch),
        ):
            if abs(value / unit - round(value / unit)) > 1e-6:
                raise MagiUsageError(f"tiling: {name} = {value:g} must be a multiple of {unit}")
        return Cut(self.frames // length, self.size // patch, round(overlap / patch))


MAGI_TILING = Tiling()
"""The tiles of the released pipeline: half a second of 256 × 256 pixels."""


def map_tiles(
    function: Callable[[Tensor], Tensor], tiles: Sequence[Tensor], batch: int = 4
) -> list[Tensor]:
    """Apply a function to tiles, those of equal shape together.

    Args:
        function: Takes and returns a batch of clips ``[N, ...]``.
        tiles: ``[B, C, T, H, W]`` each.
        batch: The most clips at a time.

    Returns:
        The results in the order of the tiles.
    """
    groups: dict[torch.Size, list[int]] = {}
    for index, tile in enumerate(tiles):
        groups.setdefault(tile.shape, []).append(index)
    results: dict[int, Tensor] = {}
    for shape, group in groups.items():
        step = max(1, batch // shape[0])
        for some in (group[start : start + step] for start in range(0, len(group), step)):
            done = function(torch.cat([tiles[index] for index in some]))
            results.update(zip(some, done.split(shape[0]), strict=True))
    return [results[index] for index in range(len(tiles))]


def tiled_encode(
    vae: VAE, video: Tensor, tiling: Tiling = MAGI_TILING, tile_map: TileMap = map_tiles
) -> Tensor:
    """Encode a video of any length and size (MAGI-1's way).

    Overlaps are cross-faded over tiles that are cross-faded already. See :func:`tiled_decode` for the
    other way.

    Args:
        vae: The model.
        video: ``[B, 3, T, H, W]`` in [-1, 1]; one frame is an image. The frames of the last tile beyond a
            multiple of the patch length are left out.
        tiling: The tiles, in pixels and frames.
        tile_map: What runs the tiles: here, in batches, or dealt to several processes.

    Returns:
        Means of the latents, ``[B, z, about T/pT, H/p, W/p]``.

    Raises:
        MagiUsageError: Another shape, sizes that are not multiples of the patch, tiles that do not fit
            the patch, or a last tile of more than one frame but fewer than a patch has.
    """
    cut, length = tiling.on(vae.config), vae.config.patch_length
    vae.check_video(video)
    rest = video.shape[2] % tiling.frames
    if 1 < rest < length:
        raise MagiUsageError(
            f"VAE: {video.shape[2]} frames leave {rest} for the last tile of {tiling.frames}; "
            f"leave none, 1, or at least {length}"
        )
    tiles, shape = cut.in_pixels(vae.config).tiles(video)
    return assemble(tile_map(vae.encode, tiles), shape, cut, chained=True)


def tiled_decode(
    vae: VAE, latent: Tensor, tiling: Tiling = MAGI_TILING, tile_map: TileMap = map_tiles
) -> Tensor:
    """Decode latents of any length and size (MAGI-1's way); differentiable.

    Overlaps are cross-faded over tiles as the decoder returns them. A tile of a single latent frame gives
    one frame, so that 4 latent frames in tiles of 3 make 13 frames, not 16.

    Args:
        vae: The model. Set its ``checkpoint`` for gradients in bounded memory.
        latent: ``[B, z, T, H, W]``, without the scale factor of the diffusion model.
        tiling: The tiles, in pixels and frames.
        tile_map: What runs the tiles: here, in batches, or dealt to several processes.

    Returns:
        ``[B, 3, about pT T, p H, p W]`` in about [-1, 1], not clamped.

    Raises:
        MagiUsageError: Another shape, or tiles that do not fit the patch.
    """
    cut = tiling.on(vae.config)
    vae.check_latent(latent)
    tiles, shape = cut.tiles(latent)
    return assemble(tile_map(vae.decode, tiles), shape, cut.in_pixels(vae.config), chained=False)


@dataclass(frozen=True)
class Cut:
    """A tiling in the unit of the tensor at hand."""

    frames: int
    size: int
    overlap: int

    @property
    def stride(self) -> int:
        return self.size - self.overlap

    def in_pixels(self, config: VAEConfig) -> Cut:
        """The pixels and frames of a cut in latents."""
        length, patch = config.patch_length, config.patch_size
        return Cut(self.frames * length, self.size * patch, self.overlap * patch)

    def tiles(self, x: Tensor) -> tuple[list[Tensor], Shape]:
        """Tiles of ``x [B, C, T, H, W]``, width fastest, and their number along each axis."""
        times, rows, columns = self._starts(x)
        return [x[place] for place in self.places(x)], (len(times), len(rows), len(columns))

    def places(self, x: Tensor) -> list[Place]:
        """Where the same tiles are."""
        return [
            (
                ...,
                slice(t, t + self.frames),
                slice(row, row + self.size),
                slice(column, column + self.size),
            )
            for t, row, column in product(*self._starts(x))
        ]

    def _starts(self, x: Tensor) -> tuple[range, range, range]:
        """A tile begins at every stride, even where the one before reaches the border already."""
        frames, height, width = x.shape[2:]
        return (
            range(0, frames, self.frames),
            range(0, height, self.stride),
            range(0, width, self.stride),
        )


def assemble(tiles: Sequence[Tensor], shape: Shape, cut: Cut, *, chained: bool) -> Tensor:
    """Put tiles of the given ``shape`` together, overlaps cross-faded, parts in time end to end."""
    times, rows, columns = shape
    parts = []
    for start in range(0, times * rows * columns, rows * columns):
        part = [
            tiles[first : first + columns]
            for first in range(start, start + rows * columns, columns)
        ]
        parts.append(_assemble_space(part, cut, chained))
    return torch.cat(parts, dim=2)


def _assemble_space(tiles: Sequence[Sequence[Tensor]], cut: Cut, chained: bool) -> Tensor:
    """Rows of tiles → one tensor. ``chained``: neighbours are taken as cross-faded, not as they came."""
    done: list[list[Tensor]] = []
    for row, line in enumerate(tiles):
        done.append([])
        for column, tile in enumerate(line):
            source = done if chained else tiles
            if row:
                tile = _crossfade(source[row - 1][column], tile, HEIGHT, cut.overlap, chained)
            if column:
                tile = _crossfade(source[row][column - 1], tile, WIDTH, cut.overlap, chained)
            done[-1].append(tile)
    stride = cut.stride
    lines = [torch.cat([tile[..., :stride, :stride] for tile in line], WIDTH) for line in done]
    return torch.cat(lines, HEIGHT)


def _crossfade(before: Tensor, after: Tensor, dim: int, overlap: int, stepwise: bool) -> Tensor:
    """``after``, its beginning along ``dim`` faded in over the end of ``before``.

    MAGI-1 rounds both products and their sum when it encodes (``stepwise``), only the sum when it decodes.
    """
    overlap = min(overlap, before.shape[dim], after.shape[dim])
    wide = torch.promote_types(after.dtype, torch.float32)
    shape = [overlap if axis == dim else 1 for axis in (HEIGHT, WIDTH)]
    ramp = (torch.arange(overlap, dtype=wide, device=after.device) / overlap).view(shape)
    old = before.narrow(dim, before.shape[dim] - overlap, overlap) * (1 - ramp)
    new = after.narrow(dim, 0, overlap) * ramp
    if stepwise:
        old, new = old.to(after.dtype), new.to(after.dtype)
    rest = after.narrow(dim, overlap, after.shape[dim] - overlap)
    return torch.cat(((old + new).to(after.dtype), rest), dim)
