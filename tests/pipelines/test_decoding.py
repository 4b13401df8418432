"""From latents to video and back, for the decoder of every family."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("diffusers")

from tiny_pipelines import Tiny, tiny

from wmreward.errors import UsageError
from wmreward.pipelines.checkpoints import frugal
from wmreward.pipelines.decoding import Decoder, Economy
from wmreward.pipelines.families.base import Family
from wmreward.pipelines.families.known import family_of
from wmreward.pipelines.slices import slices_of, turns_of

LATENT_FRAMES = 5
CHANNELS = {
    "wan": 16,
    "wan_5b": 48,
    "cogvideox": 4,
    "ltx": 8,
    "hunyuan_15": 4,
    "hunyuan": 4,
    "mochi": 12,
}
KINDS = (*CHANNELS, "ltx_timestep")


def family(made: Tiny) -> Family:
    bound = inspect.signature(type(made.pipe).__call__).bind(made.pipe, **made.call)
    bound.apply_defaults()
    return family_of(made.pipe)(made.pipe, bound.arguments)


def double(name: str) -> Family:
    made = tiny(name)
    made.pipe.vae.double()
    return family(made)


def latents(name: str, frames: int = LATENT_FRAMES, seed: int = 0, side: int = 2) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    channels = CHANNELS[name.removesuffix("_timestep")]
    return torch.randn(1, channels, frames, side, side, generator=random, dtype=torch.float64)


def weights(video: Tensor) -> Tensor:
    """Of a function of the video."""
    return torch.randn(video.shape, generator=torch.Generator().manual_seed(9), dtype=video.dtype)


def gradient(decoder: Any, z: Tensor, wanted: Tensor) -> Tensor:
    leaf = z.clone().requires_grad_()
    return torch.autograd.grad((decoder(leaf) * wanted).sum(), leaf)[0]


@pytest.mark.parametrize("name", KINDS)
def test_gradient_is_that_of_one_graph_and_of_finite_differences(name: str) -> None:
    """Recomputed piece by piece, kept or apart: exactly the same; Wan and LTX cast to float32 inside."""
    own = double(name)
    z = latents(name, frames=3)
    wanted = weights(own.decode(z))
    found = gradient(Decoder(own, Economy()), z, wanted)
    plain = gradient(own.decode, z, wanted)
    torch.testing.assert_close(found, plain, rtol=1e-9, atol=1e-9 * plain.abs().max().item())
    for economy in (Economy(apart=True), Economy(on_host=True), Economy(apart=True, on_host=True)):
        assert torch.equal(gradient(Decoder(own, economy), z, wanted), found), economy

    direction = found / found.norm()
    size = 1e-3
    ends = [(own.decode(z + sign * size * direction) * wanted).sum() for sign in (1, -1)]
    slope = (ends[0] - ends[1]) / (2 * size)
    torch.testing.assert_close(slope, found.norm(), rtol=3e-3, atol=0)


@pytest.mark.parametrize("name", ["wan", "wan_5b"])
def test_wans_decoder_keeps_little_for_its_gradient(name: str) -> None:
    """One latent frame's worth and the features between them, instead of everything."""
    own = double(name)
    kept = {False: 0, True: 0}
    for frugally in kept:
        seen: dict[int, int] = {}

        def note(x: Tensor, seen: dict[int, int] = seen) -> Tensor:
            seen[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
            return x

        leaf = latents(name).requires_grad_()
        with torch.autograd.graph.saved_tensors_hooks(note, lambda x: x):
            if frugally:
                with frugal(own.pipe.vae):
                    video = own.decode(leaf)
            else:
                video = own.decode(leaf)
        kept[frugally] = sum(seen.values())
        del video
    assert kept[True] < 0.35 * kept[False]


@pytest.mark.parametrize("name", ["wan", "cogvideox", "mochi"])
def test_decoders_are_left_as_they_were(name: str) -> None:
    vae = tiny(name).pipe.vae
    forward = vae.decoder.forward
    with pytest.raises(ZeroDivisionError), frugal(vae):
        raise ZeroDivisionError
    assert vae.decoder.forward == forward and "forward" not in vars(vae.decoder)
    assert not vae.is_gradient_checkpointing


@pytest.mark.parametrize("name", [name for name in CHANNELS if name != "hunyuan"])
def test_slices_are_the_frames_of_the_whole(name: str) -> None:
    """With all latent frames as warm-up: the same. With fewer: nearer, the more of them (random networks
    forget slowly; what it is with real ones is measured as they run). HunyuanVideo's decoder normalises over
    the whole video: its slices are never the same.
    """
    own = double(name)
    z = latents(name)
    with torch.no_grad():
        whole = own.decode(z)
        assert whole.shape[2] == own.frames(LATENT_FRAMES)
        exact = []
        for part in slices_of(own, LATENT_FRAMES, 2, warm_up=LATENT_FRAMES):
            exact.append(part.own(own.decode(part.latents(z)), own.temporal_factor))
            assert exact[-1].shape[2] == part.count(own.temporal_factor)
        together = torch.cat(exact, dim=2)
        torch.testing.assert_close(together, whole, rtol=0, atol=2e-6 * whole.abs().max().item())
        errors = [sliced_error(own, z, whole, warm_up) for warm_up in (1, 2, 4)]
    assert errors[0] > 1e-5 > errors[2] and errors[0] >= errors[1] >= errors[2]


def sliced_error(own: Family, z: Tensor, whole: Tensor, warm_up: int) -> float:
    part = slices_of(own, LATENT_FRAMES, 1, warm_up)[-1]
    found = part.own(own.decode(part.latents(z)), own.temporal_factor)
    true = part.of(whole, own.temporal_factor)
    return ((found - true).square().mean().sqrt() / true.std()).item()


@pytest.mark.parametrize("name", ["wan", "cogvideox", "ltx", "hunyuan_15"])
def test_gradient_in_pieces(name: str) -> None:
    """Exact where the warm-up reaches the beginning (in LTX the end, too); else near, and it is told."""
    own = double(name)
    z = latents(name)
    wanted = weights(own.decode(z))
    whole = gradient(Decoder(own, Economy()), z, wanted)
    exact = gradient(Decoder(own, Economy(pieces=2, warm_up=LATENT_FRAMES)), z, wanted)
    torch.testing.assert_close(exact, whole, rtol=1e-5, atol=3e-6 * whole.abs().max().item())
    economy = Economy(pieces=2, warm_up=2)
    near = gradient(Decoder(own, economy), z, wanted)
    assert torch.cosine_similarity(near.flatten(), whole.flatten(), dim=0) > 0.7
    told = [error > 1e-5 for error in economy.errors]
    assert (
        told == [name == "ltx", False, True] or name == "cogvideox"
    )  # the first reach the beginning


def test_frames_that_do_not_count_are_not_decoded_again(monkeypatch: pytest.MonkeyPatch) -> None:
    own = double("wan")
    z = latents("wan")
    wanted = torch.zeros_like(weights(own.decode(z)))
    wanted[:, :, :5] = 1
    decoded = counted(own, monkeypatch)
    gradient(Decoder(own, Economy(pieces=2)), z, wanted)
    assert decoded == [LATENT_FRAMES, 2]  # the whole video, then the first piece


@pytest.mark.parametrize("part", [None, 2])
def test_one_video_is_decoded_once(monkeypatch: pytest.MonkeyPatch, part: int | None) -> None:
    """Or twice, where the graphs are kept apart: of several videos, one graph would hold them all."""
    own = double("wan")
    z = latents("wan")
    economy = Economy(scored=part, measured=(part, None))
    wanted = weights(Decoder(own, economy)(z))
    decoded = counted(own, monkeypatch)
    gradient(Decoder(own, economy), z, wanted)
    assert len(decoded) == 1
    economy.apart = True
    gradient(Decoder(own, economy), z, wanted)
    assert len(decoded) == 3
    economy.apart = False
    gradient(Decoder(own, economy), z.repeat(2, 1, 1, 1, 1), wanted)
    assert len(decoded) == 7


def counted(own: Family, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Latent frames of every decoding from now on."""
    decoded: list[int] = []
    plain = own.decode

    def noted(z: Tensor) -> Tensor:
        decoded.append(z.shape[2])
        return plain(z)

    monkeypatch.setattr(own, "decode", noted)
    return decoded


def test_scored_slices_take_turns() -> None:
    own = double("wan")
    decoder = Decoder(own, Economy(scored=2))
    z = latents("wan")
    shown = [decoder(z, turn).shape[2] for turn in range(4)]
    assert shown == [5, 8, 8, 5], "the last is no shorter, or the reward could not judge it"
    assert len(decoder.economy.errors) == 1


@pytest.mark.parametrize(("kind", "latent_frames"), [("wan", 21), ("ltx", 16), ("cogvideox", 13)])
def test_no_turn_is_short(kind: str, latent_frames: int) -> None:
    turns = turns_of(double(kind), latent_frames, 5, warm_up=2)
    assert turns[0].start == 0 and turns[-1].stop == latent_frames
    assert all(part.stop - part.start >= 5 for part in turns)
    assert all(part.begin % double(kind).slice_unit == 0 for part in turns)


def test_even_latent_frames_of_cogvideox() -> None:
    own = double("cogvideox")
    assert own.decode(latents("cogvideox", frames=4)).shape[2] == own.frames(4) == 16
    with pytest.raises(UsageError, match="4 latent frames cannot be decoded in slices"):
        slices_of(own, 4, 2, 2)


def test_decoding_leaves_the_callers_random_numbers_alone() -> None:
    """LTX's decoder draws noise."""
    own = double("ltx_timestep")
    before = torch.get_rng_state()
    decoder = Decoder(own, Economy())
    z = latents("ltx_timestep", frames=3)
    assert torch.equal(decoder(z), decoder(z))
    assert torch.equal(torch.get_rng_state(), before)
