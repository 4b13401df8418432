"""Gradients at a video, pulled back to its latents tile by tile."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from magi1_goldens import close
from test_magi1_vae import EXACT, NANO_TILING, nano_vae
from torch import Tensor

from magi1 import pullback
from magi1.errors import MagiUsageError
from magi1.pullback import tiled_pullback
from magi1.tiling import map_tiles, tiled_decode
from magi1.vae import VAE
from wmreward.protocols import PullsBack
from wmreward.steering.pullback import decoded


def by_autograd(vae: VAE, latent: Tensor, towards: list[Tensor]) -> list[Tensor]:
    leaf = latent.clone().requires_grad_()
    video = tiled_decode(vae, leaf, NANO_TILING)
    return [torch.autograd.grad(video, leaf, g, retain_graph=True)[0] for g in towards]


@pytest.mark.parametrize(
    "frames", [1, 2, 3, 4]
)  # of these, the odd ones end with a tile of one frame
@pytest.mark.parametrize("batch", [1, 3])
def test_it_is_the_gradient(frames: int, batch: int) -> None:
    vae = nano_vae().requires_grad_(False)
    latent = torch.randn(batch, 2, frames, 9, 7, dtype=torch.float64)
    video = tiled_decode(vae, latent, NANO_TILING)
    towards = [torch.randn_like(video) for _ in range(3)]
    found = tiled_pullback(vae, latent, towards, NANO_TILING)
    for ours, theirs in zip(found, by_autograd(vae, latent, towards), strict=True):
        close(ours, theirs, EXACT)
    one_by_one = partial(map_tiles, batch=1)
    (alone,) = tiled_pullback(vae, latent, towards[1:2], NANO_TILING, one_by_one)
    close(alone, found[1], EXACT)


def test_few_tiles_are_there_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """And each is decoded once for all gradients, whatever the VAE does elsewhere."""
    vae = nano_vae().requires_grad_(False)
    vae.checkpoint = True
    latent = torch.randn(1, 2, 4, 9, 7, dtype=torch.float64)
    video = tiled_decode(vae, latent, NANO_TILING)
    sizes = []
    decode = vae.decode

    def counted(tile: Tensor, checkpoint: bool | None = None) -> Tensor:
        assert checkpoint is False
        sizes.append(len(tile))
        return decode(tile, checkpoint)

    monkeypatch.setattr(vae, "decode", counted)
    monkeypatch.setattr(pullback, "LATENTS_AT_ONCE", 70)  # whole tiles have 32 latents
    tiled_pullback(vae, latent, [video, video], NANO_TILING)
    assert sum(sizes) == 2 * 5 * 4  # tiles that are cut off at the border are small
    assert max(sizes) == 4 and sizes.count(2) > 4
    sizes.clear()
    monkeypatch.setattr(pullback, "LATENTS_AT_ONCE", 1)
    tiled_pullback(vae, latent, [video, video], NANO_TILING)
    assert sizes == [1] * 40


def test_it_works_in_the_precision_of_the_weights() -> None:
    vae = nano_vae().requires_grad_(False).bfloat16()
    latent = torch.randn(1, 2, 3, 9, 7)
    video = tiled_decode(vae, latent, NANO_TILING)
    towards = torch.randn_like(video)
    (found,) = tiled_pullback(vae, latent, [towards.float()], NANO_TILING)
    assert found.dtype == torch.float32
    (wanted,) = by_autograd(vae, latent, [towards])
    assert (found - wanted).norm() < 1e-2 * wanted.norm()  # where tiles overlap, sums are rounded


def test_wrong_latents() -> None:
    with pytest.raises(MagiUsageError, match="latents must be"):
        tiled_pullback(nano_vae(), torch.zeros(1, 3, 2, 4, 4), [torch.zeros(1)], NANO_TILING)


def test_a_guide_asks_whoever_can() -> None:
    vae = nano_vae().requires_grad_(False)

    class Decoder:
        asked = 0

        def __call__(self, latents: Tensor) -> Tensor:
            assert not torch.is_grad_enabled()
            return tiled_decode(vae, latents, NANO_TILING)

        def pulled_back(self, latents: Tensor, towards: list[Tensor]) -> list[Tensor]:
            Decoder.asked += 1
            return tiled_pullback(vae, latents, towards, NANO_TILING)

    assert isinstance(Decoder(), PullsBack)
    latent = torch.randn(1, 2, 2, 5, 4, dtype=torch.float64)
    found = []
    for decode in (Decoder(), lambda z: tiled_decode(vae, z, NANO_TILING)):
        video, pull_back = decoded(decode, latent)
        assert not video.requires_grad
        found.append(pull_back([video, video.sin()]))
    assert Decoder.asked == 1
    for ours, theirs in zip(*found, strict=True):
        close(ours, theirs, EXACT)
