"""Gradients at a decoded video, pulled back to its latents tile by tile.

PyTorch would keep the graph of the whole decoding, or decode once more for every gradient. Here each tile is
decoded once more for all of them, and its graph is gone before the next one comes: memory does not grow with
the video.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from einops import rearrange
from torch import Tensor

from magi1.tiling import MAGI_TILING, TileMap, Tiling, assemble, map_tiles
from magi1.vae import COLOURS, VAE, VAEConfig

LATENTS_AT_ONCE = 7000
"""Latents whose graphs are there at the same time: those of two whole tiles, or of four at the border: 4 GiB
of the released VAE.
"""


def tiled_pullback(
    vae: VAE,
    latent: Tensor,
    towards: Sequence[Tensor],
    tiling: Tiling = MAGI_TILING,
    tile_map: TileMap = map_tiles,
) -> list[Tensor]:
    """The gradients of Σ g · tiled_decode(latent) with respect to ``latent``, for several g.

    Args:
        vae, latent, tiling, tile_map: Those of :func:`magi1.tiling.tiled_decode`.
        towards: The g, each like the video.

    Returns:
        For each g one like ``latent``.

    Raises:
        MagiUsageError: as :func:`magi1.tiling.tiled_decode` does.
    """
    cut, config = tiling.on(vae.config), vae.config
    vae.check_latent(latent)
    tiles, shape = cut.tiles(latent)
    with torch.enable_grad():
        # A video is a linear function of its tiles: what they hold makes no difference to gradients.
        blanks = [_blank(config, tile.to(vae.dtype)).requires_grad_() for tile in tiles]
        video = assemble(blanks, shape, cut.in_pixels(config), chained=False)
    of_tiles = [
        torch.autograd.grad(video, blanks, g.to(video.dtype), retain_graph=True) for g in towards
    ]
    packed = [_packed(config, tile, gs) for tile, *gs in zip(tiles, *of_tiles, strict=True)]
    del blanks, video, of_tiles
    found = [torch.zeros_like(latent) for _ in towards]
    pulled = tile_map(partial(_pull, vae), packed)
    for place, parts in zip(cut.places(latent), pulled, strict=True):
        for whole, part in zip(found, parts.chunk(len(towards), dim=1), strict=True):
            whole[place] += part
    return found


def _blank(config: VAEConfig, tile: Tensor) -> Tensor:
    """Zeros of the shape that a tile is decoded to."""
    length, size = config.patch_length, config.patch_size
    batch, _, frames, height, width = tile.shape
    frames = frames * length if frames > 1 else 1
    return tile.new_zeros(batch, COLOURS, frames, height * size, width * size)


def _packed(config: VAEConfig, tile: Tensor, towards: Sequence[Tensor]) -> Tensor:
    """A tile and gradients at its pixels as one tensor ``[B, channels, T, H, W]`` on the grid of the latents.

    So it can be batched with others and dealt to processes as tiles are.
    """
    parts = [tile.to(towards[0].dtype)]
    for g in towards:
        hidden = tile.shape[2] * config.patch_length - g.shape[2]  # a single latent shows one frame
        whole = torch.nn.functional.pad(g, (0, 0, 0, 0, 0, hidden))
        parts.append(
            rearrange(whole, "b c (t dt) (h dh) (w dw) -> b (c dt dh dw) t h w", **_patch(config))
        )
    return torch.cat(parts, dim=1)


def _patch(config: VAEConfig) -> dict[str, int]:
    return dict(zip(("dt", "dh", "dw"), config.patch, strict=True))


def _pull(vae: VAE, packed: Tensor) -> Tensor:
    """What :func:`_packed` makes → the gradients at the tile, one after the other on the channel axis."""
    size = packed.shape[2:].numel()
    return torch.cat(
        [_pull_some(vae, some) for some in packed.split(max(1, LATENTS_AT_ONCE // size))]
    )


def _pull_some(vae: VAE, packed: Tensor) -> Tensor:
    config = vae.config
    volume = COLOURS * config.patch_volume
    latent, *towards = packed.split(
        [config.z_chans, *[volume] * (packed.shape[1] // volume)], dim=1
    )
    leaf = latent.detach().requires_grad_()
    with torch.enable_grad():
        video = vae.decode(leaf, checkpoint=False)
    found: list[Tensor] = []
    for g in towards:
        pixels = rearrange(
            g, "b (c dt dh dw) t h w -> b c (t dt) (h dh) (w dw)", c=COLOURS, **_patch(config)
        )
        left = len(found) + 1 < len(towards)
        (part,) = torch.autograd.grad(
            video, leaf, pixels[:, :, : video.shape[2]], retain_graph=left
        )
        found.append(part)
    return torch.cat(found, dim=1)
