"""MAGI-1's VAE against the golden vectors, and the rules of tiling."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from itertools import product
from types import ModuleType
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from magi1_goldens import close, golden, goldens
from torch import Tensor

import magi1
from magi1 import standardise as standardising
from magi1.errors import MagiUsageError
from magi1.pixels import from_uint8, to_uint8
from magi1.tiling import Tiling, map_tiles, tiled_decode, tiled_encode
from magi1.vae import VAE, ColourConv, VAEConfig, standardise

FP32, GRADIENT, BF16, EXACT = 2e-5, 5e-5, 5e-2, 1e-12
ALIKE = 0.45  # part of the bfloat16 values with the same bits after six blocks
SCALE = 0.18215
SMALL = Tiling(frames=12, size=16, overlap=0.25)  # of the golden files

NANO = VAEConfig(
    video_size=4,
    video_length=4,
    patch_size=2,
    patch_length=2,
    z_chans=2,
    embed_dim=8,
    depth=1,
    num_heads=2,
)
NANO_TILING = Tiling(frames=4, size=8, overlap=0.5)

RELEASED = {
    "_class_name": "ViTVAE",
    "model_type": "vit",
    "ddconfig": {
        "video_size": 256,
        "video_length": 16,
        "patch_size": 8,
        "patch_length": 4,
        "in_chans": 3,
        "z_chans": 16,
        "double_z": True,
        "embed_dim": 1024,
        "depth": 24,
        "num_heads": 16,
        "mlp_ratio": 4,
        "qkv_bias": True,
        "with_cls_token": True,
        "ln_in_attn": True,
        "norm_code": False,
        "conv_last_layer": True,
        "use_final_proj": False,
        "use_rope": False,
    },
}


@lru_cache
def golden_vae(dtype: torch.dtype = torch.float32) -> VAE:
    """The model of the golden files, built without weights and then given them."""
    weights = golden("vae_P_weights")
    with torch.device("meta"):
        vae = VAE(VAEConfig.from_json({"ddconfig": weights.metadata["ddconfig"]}))
    vae.load_state_dict({k: v.to(dtype) for k, v in weights.tensors.items()}, assign=True)
    return vae.requires_grad_(False)


def nano_vae(**changes: Any) -> VAE:
    """A random float64 model whose weights are large enough for every part to matter."""
    torch.manual_seed(0)
    vae = VAE(replace(NANO, **changes)).double()
    for parameter in vae.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return vae.requires_grad_(False)


# The model


@pytest.mark.parametrize("name", goldens("vae_P_cases_fp32"))
@pytest.mark.parametrize("case", [f"case{i}" for i in range(4)])
def test_clips(name: str, case: str) -> None:
    """The stored grid, another one, an image and a short clip."""
    vae, given_ = golden_vae(), golden(name)
    video, latent = given_[f"{case}.in.video"], given_[f"{case}.in.latent"]
    close(vae.moments(video), given_[f"{case}.out.moments_raw"], FP32)
    close(vae.encode(video), given_[f"{case}.out.latent_mean"], FP32)
    close(vae.decode(latent), given_[f"{case}.out.decoded"], FP32)


@pytest.mark.parametrize("name", goldens("grad_A"))
@pytest.mark.parametrize("checkpoint", [False, True])
def test_gradient_of_decoding(name: str, checkpoint: bool, monkeypatch: Any) -> None:
    vae, given_ = golden_vae(), golden(name)
    monkeypatch.setattr(vae, "checkpoint", checkpoint)
    latent = given_["vae.in.latent"].clone().requires_grad_()
    video = vae.decode(latent)
    close(video.detach(), given_["vae.out.decoded"], FP32)
    (gradient,) = torch.autograd.grad(video, latent, given_["vae.in.cotangent"])
    close(gradient, given_["vae.out.grad_latent"], GRADIENT)


@pytest.mark.parametrize("name", goldens(further=["vae_P_cases_bf16_pipeline"]))
def test_bytes_to_latents_to_bytes(name: str) -> None:
    vae, given_ = golden_vae(torch.bfloat16), golden(name)
    video = from_uint8(given_["in.video_uint8_THWC"], torch.bfloat16)[None]
    latent = tiled_encode(vae, video, SMALL)
    assert latent.dtype == torch.bfloat16
    close(latent, given_["out.latent_bf16_unscaled"], BF16)
    close(latent * SCALE, given_["out.latent_bf16_scaled"], BF16)
    image = tiled_encode(vae, video[:, :, :1], SMALL)
    close(image, given_["out.image_latent_bf16_unscaled"], BF16)

    decoded = tiled_decode(vae, given_["in.latent_scaled_fp32"] / SCALE, SMALL)
    reference = given_["out.decoded_bf16_TCHW"].transpose(0, 1)[None]
    reference_bytes = given_["out.decoded_uint8_TCHW"].permute(0, 2, 3, 1)
    assert decoded.dtype == torch.bfloat16
    close(decoded, reference, BF16)
    assert (to_uint8(decoded)[0].int() - reference_bytes.int()).abs().max() <= 3
    assert to_uint8(reference)[0].equal(reference_bytes)
    if torch.backends.cpu.get_cpu_capability() == "DEFAULT":
        return  # without fused multiply-add, ties in the positions of 12-frame tiles are rounded otherwise
    # Processors sum in different orders: 0.57 to 0.9 of the values have the same bits. With one rounding
    # more or less it is 0.28 to 0.34.
    pairs = (latent, "out.latent_bf16_unscaled"), (image, "out.image_latent_bf16_unscaled")
    for ours, theirs in (*((x, given_[key]) for x, key in pairs), (decoded, reference)):
        assert (ours == theirs).double().mean() > ALIKE


def test_released_model_has_its_parameters() -> None:
    with torch.device("meta"):
        vae = VAE(VAEConfig.from_json(RELEASED))
    shapes = {name: tuple(p.shape) for name, p in vae.named_parameters()}
    counts = [sum(p.numel() for p in part.parameters()) for part in (vae.encoder, vae.decoder)]
    assert [round(n / 1e6, 2) for n in counts] == [307.28, 306.48]
    assert shapes["encoder.patch_embed.proj.weight"] == (1024, 3, 4, 8, 8)
    assert shapes["encoder.last_layer.weight"] == (32, 1024)
    assert shapes["decoder.proj_in.weight"] == (1024, 16)
    assert shapes["decoder.last_layer.weight"] == (3, 4, 3, 3, 3)
    for part in ("encoder", "decoder"):
        assert shapes[f"{part}.cls_token"] == (1, 1, 1024)
        assert shapes[f"{part}.pos_embed"] == (1, 4 * 32 * 32 + 1, 1024)
        block = {
            k.split(".", 3)[3]: v for k, v in shapes.items() if k.startswith(f"{part}.blocks.23.")
        }
        assert block == {
            "attn.qkv.weight": (3072, 1024),
            "attn.qkv.bias": (3072,),
            "attn.proj.weight": (1024, 1024),
            "attn.proj.bias": (1024,),
            "norm2.weight": (1024,),
            "norm2.bias": (1024,),
            "mlp.fc1.weight": (4096, 1024),
            "mlp.fc1.bias": (4096,),
            "mlp.fc2.weight": (1024, 4096),
            "mlp.fc2.bias": (1024,),
        }


def test_final_projection_and_unequal_depths() -> None:
    """A token width that is not a patch's needs the projection; the two halves may differ in depth."""
    vae = nano_vae(embed_dim=6, use_final_proj=True, encoder_depth=2, decoder_depth=3)
    assert (len(vae.encoder.blocks), len(vae.decoder.blocks)) == (2, 3)
    assert vae.decoder.final_proj.weight.shape == (4 * 2 * 2 * 2, 6)
    assert vae.decoder.final_norm.weight.shape == (4 * 2 * 2 * 2,)
    latent = torch.randn(2, 2, 2, 3, 2, dtype=torch.float64)
    with torch.no_grad():
        tokens = vae.decoder.proj_in(latent.movedim(1, -1).flatten(1, 3))
        tokens = vae.decoder.transform(tokens, (2, 3, 2), checkpoint=False)
        patches = vae.decoder.final_norm(vae.decoder.final_proj(tokens)).view(
            2, 2, 3, 2, 2, 2, 2, 4
        )
        pixels = torch.zeros(2, 4, 4, 6, 4, dtype=torch.float64)
        for t, y, x, dt, dy, dx in product(range(2), range(3), range(2), *[range(2)] * 3):
            pixels[:, :, 2 * t + dt, 2 * y + dy, 2 * x + dx] = patches[:, t, y, x, dt, dy, dx]
        close(vae.decode(latent), vae.decoder.last_layer(pixels), EXACT)


def test_one_frame_stands_for_a_patch_and_comes_back_as_one() -> None:
    vae = nano_vae()
    image = torch.rand(2, 3, 1, 4, 6, dtype=torch.float64) * 2 - 1
    close(vae.encode(image), vae.encode(image.repeat(1, 1, 2, 1, 1)), EXACT)
    latent = torch.randn(2, 2, 1, 2, 3, dtype=torch.float64)
    assert vae.decode(latent).shape == (2, 3, 1, 4, 6)
    close(vae.decode(latent), vae.decoder(latent)[:, :, :1], EXACT)


def test_frames_beyond_a_patch_are_left_out() -> None:
    vae, video = nano_vae(), torch.rand(1, 3, 5, 4, 4, dtype=torch.float64)
    close(vae.encode(video), vae.encode(video[:, :, :4]), EXACT)


def test_decoding_is_differentiable() -> None:
    """Values and derivatives agree, through tiles and recomputation, for the latent and the weights."""
    vae = nano_vae()
    vae.checkpoint = True
    latent = torch.randn(1, 2, 3, 5, 4, dtype=torch.float64, requires_grad=True)
    positions = vae.decoder.pos_embed.requires_grad_()

    def decode(latent: Tensor, _positions: Tensor) -> Tensor:
        return tiled_decode(vae, latent, NANO_TILING)

    assert torch.autograd.gradcheck(decode, (latent, positions), fast_mode=True)


def test_encoding_is_differentiable() -> None:
    vae = nano_vae()
    video = torch.rand(1, 3, 4, 10, 8, dtype=torch.float64, requires_grad=True)
    encode = partial(tiled_encode, vae, tiling=NANO_TILING)
    assert torch.autograd.gradcheck(encode, (video,), fast_mode=True)


def test_recomputation_keeps_less_and_gives_the_same_gradient() -> None:
    vae = nano_vae(depth=4)
    latent = torch.randn(2, 2, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    gradients, kept = [], []
    for vae.checkpoint in (False, True):
        saved: list[int] = []

        def pack(x: Tensor, saved: list[int] = saved) -> Tensor:
            saved.append(x.numel())
            return x

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            loss = vae.decode(latent).square().sum()
        kept.append(sum(saved))
        gradients.append(torch.autograd.grad(loss, latent)[0])
    close(gradients[1], gradients[0], EXACT)
    assert kept[1] < kept[0] / 3


def test_standardise() -> None:
    x = 3 + 2 * torch.randn(5, 16, dtype=torch.float64)
    std, mean = torch.std_mean(x, -1, correction=0, keepdim=True)
    close(standardise(x), (x - mean) / (std + 1e-5), EXACT)
    half = x.bfloat16()
    std, mean = torch.std_mean(half, -1, correction=0, keepdim=True)
    assert standardise(half).equal((half - mean) / (std + 1e-5))
    flat = torch.ones(2, 16, requires_grad=True)
    standardise(flat).sum().backward()
    assert flat.grad is not None and flat.grad.isfinite().all()


def test_positions_of_another_grid_are_kept_until_the_weights_change() -> None:
    vae = nano_vae().requires_grad_(True)
    latent = torch.randn(1, 2, 3, 5, 4, dtype=torch.float64)
    vae.decode(latent).sum().backward()
    assert vae.decoder.pos_embed.grad is not None  # while they are trained
    vae.requires_grad_(False)
    with torch.inference_mode():
        before = vae.decode(latent)
    kept = vae.decoder.positions((3, 5, 4))
    assert vae.decoder.positions((3, 5, 4)) is kept
    leaf = latent.clone().requires_grad_()
    vae.decode(leaf).sum().backward()  # what inference mode kept can be used here, too
    vae.load_state_dict({name: 2 * value for name, value in vae.state_dict().items()})
    after = vae.decode(latent)
    vae.decoder._kept.clear()
    assert torch.equal(after, vae.decode(latent)) and not torch.equal(after, before)


def test_weights_may_be_made_in_inference_mode() -> None:
    latent = torch.randn(1, 2, 3, 5, 4, dtype=torch.float64)
    wanted = nano_vae().decode(latent)
    with torch.inference_mode():
        assert torch.equal(nano_vae().decode(latent), wanted)


@pytest.mark.parametrize("works", [True, False])
def test_a_kernel_that_cannot_be_built_is_done_without(
    works: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def forward(x: Tensor, eps: float) -> Tensor:
        if not works:
            raise RuntimeError("Failed to find C compiler.")
        return x

    kernel = ModuleType("standardise_kernel")
    monkeypatch.setattr(kernel, "forward", forward, raising=False)
    monkeypatch.setattr(magi1, "standardise_kernel", kernel, raising=False)
    found = standardising._kernel.__wrapped__(torch.device("cpu"), torch.float32, 2)
    assert found is (kernel if works else None)
    assert ("Failed to find C compiler" in caplog.text) is not works


def test_last_convolution_is_the_same_for_one_clip_and_several() -> None:
    torch.manual_seed(0)
    convolution = ColourConv(4, 3, kernel_size=3, padding=1).double().requires_grad_(False)
    x = torch.randn(2, 4, 5, 6, 7, dtype=torch.float64)
    close(torch.cat([convolution(x[:1]), convolution(x[1:])]), convolution(x), EXACT)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda vae: vae.encode(torch.zeros(1, 1, 4, 4, 4)),
            "[B, 3, T, H, W], got (1, 1, 4, 4, 4)",
        ),
        (lambda vae: vae.encode(torch.zeros(3, 4, 4, 4)), "[B, 3, T, H, W]"),
        (lambda vae: vae.encode(torch.zeros(1, 3, 0, 4, 4)), "0 frames to encode"),
        (lambda vae: vae.encode(torch.zeros(1, 3, 4, 5, 4)), "frames of 5 × 4; use multiples of 2"),
        (
            lambda vae: vae.decode(torch.zeros(1, 3, 4, 4, 4)),
            "[B, 2, T, H, W], got (1, 3, 4, 4, 4)",
        ),
        (lambda vae: vae.decode(torch.zeros(1, 2, 0, 4, 4)), "latents must be"),
    ],
)
def test_wrong_tensors_are_told(call: Callable[[VAE], Tensor], message: str) -> None:
    with pytest.raises(MagiUsageError, match=re.escape(message)):
        call(nano_vae())


# Its configuration


def test_configuration_of_the_released_model() -> None:
    config = VAEConfig.from_json(RELEASED)
    assert (config.grid, config.patch_volume, config.prepixel_channels) == ((4, 32, 32), 256, 4)
    assert config == VAEConfig.from_json(RELEASED["ddconfig"])


def test_unknown_options_pass_if_they_are_off() -> None:
    section = {**RELEASED["ddconfig"], "drop_rate": 0.0, "qk_scale": None, "use_checkpoint": False}
    assert VAEConfig.from_json({"ddconfig": section}) == VAEConfig.from_json(RELEASED)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"depth": "24"}, "depth must be of type int, got '24'"),
        ({"depth": True}, "depth must be of type int, got True"),
        ({"depth": 24.0}, "depth must be of type int, got 24.0"),
        ({"encoder_depth": 1.5}, "encoder_depth must be of type int | None, got 1.5"),
        ({"mlp_ratio": "4"}, "mlp_ratio must be of type float"),
        ({"use_final_proj": 1}, "use_final_proj must be of type bool"),
        ({"depth": 0}, "depth must be positive, got 0"),
        ({"decoder_depth": 0}, "decoder_depth must be positive"),
        ({"num_heads": 15}, "embed_dim=1024 must be a multiple of num_heads, 15"),
        ({"video_size": 250}, "video_size=250 must be a multiple of patch_size, 8"),
        ({"video_length": 15}, "video_length=15 must be a multiple of patch_length, 4"),
        ({"patch_size": 32}, "use_final_proj"),
        ({"ln_in_attn": False}, "ln_in_attn must be True, got False"),
        ({"use_rope": True}, "use_rope must be False"),
        ({"in_chans": 4}, "in_chans must be 3"),
        ({"drop_rate": 0.1}, "unknown option drop_rate=0.1"),
    ],
)
def test_wrong_configurations_are_told(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(MagiUsageError, match=re.escape(message)):
        VAEConfig.from_json({"ddconfig": {**RELEASED["ddconfig"], **changes}})


def test_configurations_of_something_else_are_told() -> None:
    with pytest.raises(MagiUsageError, match=r"ddconfig lacks .*num_heads"):
        VAEConfig.from_json({"ddconfig": {"depth": 24}})
    with pytest.raises(MagiUsageError, match="model_type must be 'vit', got 'vit_ncthw'"):
        VAEConfig.from_json({**RELEASED, "model_type": "vit_ncthw"})
    with pytest.raises(MagiUsageError, match="ddconfig must be an object"):
        VAEConfig.from_json({"ddconfig": [1]})


# Tiles


@pytest.mark.parametrize("name", goldens(further=["vae_P_cases_tiled_fp32"]))
@pytest.mark.parametrize("case", ["case0", "case1", "case2"])
def test_tiles(name: str, case: str) -> None:
    vae, given_ = golden_vae(), golden(name)
    latent = tiled_encode(vae, given_[f"{case}.in.video"], SMALL)
    close(latent, given_[f"{case}.out.tiled_latent"], FP32)
    video = tiled_decode(vae, given_[f"{case}.in.latent"], SMALL)
    close(video, given_[f"{case}.out.tiled_decoded"], FP32)


def test_a_video_of_one_tile_is_a_clip() -> None:
    vae, tiling = nano_vae(), Tiling(frames=4, size=8, overlap=0.0)
    video = torch.rand(1, 3, 4, 8, 6, dtype=torch.float64)
    close(tiled_encode(vae, video, tiling), vae.encode(video), EXACT)
    latent = torch.randn(1, 2, 2, 3, 4, dtype=torch.float64)
    close(tiled_decode(vae, latent, tiling), vae.decode(latent), EXACT)


@pytest.mark.parametrize(("latents", "frames"), [(1, 1), (3, 12), (4, 13), (6, 24), (8, 32)])
def test_a_last_latent_alone_gives_one_frame(latents: int, frames: int) -> None:
    latent = torch.zeros(1, 16, latents, 4, 4)
    assert tiled_decode(golden_vae(), latent, SMALL).shape == (1, 3, frames, 8, 8)


@pytest.mark.parametrize(
    ("frames", "latents"), [(1, 1), (13, 4), (16, 4), (24, 6), (30, 7), (32, 8)]
)
def test_frames_of_a_prefix(frames: int, latents: int) -> None:
    video = torch.zeros(1, 3, frames, 4, 4)
    assert tiled_encode(golden_vae(), video, SMALL).shape == (1, 16, latents, 2, 2)


@pytest.mark.parametrize("batch", [1, 3, 100])
def test_tiles_in_batches_are_tiles_one_by_one(batch: int) -> None:
    vae = nano_vae()
    sizes: list[int] = []

    def counted(function: Callable[[Tensor], Tensor], tiles: Sequence[Tensor]) -> list[Tensor]:
        def record(x: Tensor) -> Tensor:
            sizes.append(len(x))
            return function(x)

        return map_tiles(record, tiles, batch)

    def one_by_one(function: Callable[[Tensor], Tensor], tiles: Sequence[Tensor]) -> list[Tensor]:
        return [function(tile) for tile in tiles]

    video = torch.rand(2, 3, 9, 18, 14, dtype=torch.float64)
    latent = torch.randn(2, 2, 5, 9, 7, dtype=torch.float64)
    for tiled, x in ((tiled_encode, video), (tiled_decode, latent)):
        sizes.clear()
        close(tiled(vae, x, NANO_TILING, counted), tiled(vae, x, NANO_TILING, one_by_one), EXACT)
        assert max(sizes) <= max(batch, len(x))
        assert sum(sizes) == 2 * 3 * 5 * 4


def faded(before: Tensor, after: Tensor, extent: int) -> None:
    """Cross-fade along the last axis, in place, one position at a time in the tensors' own precision."""
    extent = min(extent, before.shape[-1], after.shape[-1])
    for i in range(extent):
        old = before[..., before.shape[-1] - extent + i] * (1 - i / extent)
        after[..., i] = old + after[..., i] * (i / extent)


def put_together(
    tiles: dict[tuple[int, int], Tensor], cut: tuple[int, int], encode: bool
) -> Tensor:
    """The rule for one part in time, word by word: encoding works in place, decoding does not."""
    size, overlap = cut
    if encode:
        tiles = {at: tile.clone() for at, tile in tiles.items()}
        source = result = tiles
    else:
        source = {at: tile.float() for at, tile in tiles.items()}
        result = {}
    for (row, column), tile in sorted(source.items()):
        mine = tile if encode else tile.clone()
        if row:
            faded(source[row - 1, column].mT, mine.mT, overlap)
            mine = mine if encode else mine.to(tiles[0, 0].dtype).to(mine.dtype)
        if column:
            faded(source[row, column - 1], mine, overlap)
        result[row, column] = mine
    rows, columns = (1 + max(index) for index in zip(*result, strict=True))
    keep = size - overlap
    lines = [
        torch.cat([result[row, column][..., :keep, :keep] for column in range(columns)], -1)
        for row in range(rows)
    ]
    return torch.cat(lines, -2).to(tiles[0, 0].dtype)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 15), st.integers(1, 15), st.booleans(), st.sampled_from([0, 1, 2, 3]), st.data()
)
def test_overlaps_are_crossfaded(
    height: int, width: int, encode: bool, overlap: int, data: st.DataObject
) -> None:
    """Bit by bit in bfloat16, for any outcome of the tiles and any size."""
    torch.manual_seed(data.draw(st.integers(0, 1000)))
    vae, tiling = nano_vae().float(), Tiling(frames=4, size=8, overlap=overlap / 4)
    seen: dict[tuple[int, int], Tensor] = {}

    def random_tiles(_: Callable[[Tensor], Tensor], tiles: Sequence[Tensor]) -> list[Tensor]:
        scale = 0.5 if encode else 2
        sides = [[round(side * scale) for side in tile.shape[-2:]] for tile in tiles]
        columns = len(range(0, width, 4 - overlap))
        for index, (rows, cols) in enumerate(sides):
            seen[divmod(index, columns)] = torch.randn(1, 2, 1, rows, cols).bfloat16()
        return list(seen.values())

    if encode:
        done = tiled_encode(vae, torch.zeros(1, 3, 4, 2 * height, 2 * width), tiling, random_tiles)
        expected = put_together(seen, (4, overlap), encode)
        assert done.shape[-2:] == (height, width)
    else:
        done = tiled_decode(vae, torch.zeros(1, 2, 2, height, width), tiling, random_tiles)
        expected = put_together(seen, (8, 2 * overlap), encode)
        assert done.shape[-2:] == (2 * height, 2 * width)
    assert done.equal(expected)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Tiling(frames=0), "tiles must not be empty"),
        (lambda: Tiling(overlap=1.0), "at least 0 and below 1, got 1.0"),
        (lambda: encode_zeros(3, 2), "3 frames to encode"),
        (lambda: encode_zeros(14, 2), "14 frames leave 2 for the last tile of 12"),
        (lambda: encode_zeros(27, 2), "27 frames leave 3 for the last tile of 12"),
        (lambda: encode_zeros(12, 3), "frames of 4 × 3; use multiples of 2"),
        (lambda: encode_zeros(12, 2, Tiling(10, 16)), "frames = 10 must be a multiple of 4"),
        (lambda: encode_zeros(12, 2, Tiling(12, 15)), "size = 15 must be a multiple of 2"),
        (
            lambda: encode_zeros(12, 2, Tiling(12, 16, 0.2)),
            "overlap · size = 3.2 must be a multiple of 2",
        ),
        (lambda: tiled_decode(golden_vae(), torch.zeros(1, 4, 3, 8, 8), SMALL), "[B, 16, T, H, W]"),
    ],
)
def test_tiles_that_cannot_be_are_told(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(MagiUsageError, match=re.escape(message)):
        call()


def encode_zeros(frames: int, width: int, tiling: Tiling = SMALL) -> Tensor:
    """Refused before anything is computed: the tiles must not run."""

    def never(_: Callable[[Tensor], Tensor], __: Sequence[Tensor]) -> list[Tensor]:
        raise AssertionError("tiles ran")

    return tiled_encode(golden_vae(), torch.zeros(1, 3, frames, 4, width), tiling, never)


# Bytes


def test_bytes_are_rounded_once() -> None:
    frames = torch.arange(256, dtype=torch.uint8).view(1, 1, 256, 1).expand(2, 3, 256, 3)
    video = from_uint8(frames, torch.bfloat16)
    assert video.shape == (3, 2, 3, 256)
    assert video[0, 0, 0].equal((torch.arange(256) / 127.5 - 1).bfloat16())
    assert (to_uint8(from_uint8(frames, torch.float64)).int() - frames.int()).abs().max() <= 1


def test_bytes_are_cut_off_and_clamped() -> None:
    values = torch.tensor([-2.0, -1, -0.99, 0, 0.9999, 1, 3]).view(1, 1, 1, -1).expand(3, 1, 1, 7)
    assert to_uint8(values)[0, 0, :, 0].tolist() == [0, 0, 1, 127, 254, 255, 255]
    # bfloat16 has no fractions from 128 on: 239.56 is cut off to 239, but 240 if rounded before.
    value = torch.full((3, 1, 1, 1), 0.87890625)  # a number that bfloat16 has
    assert to_uint8(value).unique().item() == 239
    assert to_uint8(value.bfloat16()).unique().item() == 240


@pytest.mark.parametrize(
    "frames", [torch.zeros(2, 4, 4, 3), torch.zeros(2, 3, 4, 4, dtype=torch.uint8)]
)
def test_other_frames_are_told(frames: Tensor) -> None:
    with pytest.raises(MagiUsageError, match=r"uint8 \[\.\.\., T, H, W, 3\]"):
        from_uint8(frames, torch.bfloat16)
