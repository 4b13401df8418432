"""The diffusion transformer against its golden vectors, and what must hold for any weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from magi1_fakes import NANO_MODEL
from magi1_goldens import Golden, close, close_in_rms, golden, goldens
from torch import Tensor

from magi1.config import ModelConfig
from magi1.transformer.attention import CacheUse
from magi1.transformer.dit import SINUSOID, DiT, frequencies
from magi1.transformer.fp8 import FP8Linear, PerTensorFP8Linear, SmoothFP8Linear
from magi1.transformer.kernels import sdpa, silu_and_mul, wide_linear
from magi1.transformer.kv_cache import KVCache
from magi1.transformer.layers import ChunkTexts, LayerInputs
from magi1.transformer.rope import RotaryEmbedding, default_bands, rotate

FLOAT32, BFLOAT16_MAX, BFLOAT16_RMS, GRADIENTS, EXACT = 2e-5, 3e-2, 6e-3, 5e-5, 1e-6

NANO = replace(
    NANO_MODEL,
    num_layers=3,
    x_rescale_factor=0.5,
    half_channel_vae=True,
    patch_size=2,
    in_channels=8,
    out_channels=8,
    caption_channels=12,
    caption_max_length=10,
    gated_linear_unit=True,
)
"""Of the 24B's kind: gated, its latents doubled, two by two of them to a token."""


def golden_dit(case: Golden) -> DiT:
    """The network of a case, in its own precision."""
    section = case.metadata["config"]
    if any(name.startswith("weights.") for name in case.tensors):
        state = {k[8:]: v for k, v in case.tensors.items() if k.startswith("weights.")}
    else:
        state = golden(case.metadata["weights_file"].partition(".")[0]).tensors
    dit = DiT(ModelConfig(**section["model_config"]), fp8=section["engine_config"]["fp8_quant"])
    dit.load_state_dict(state)
    return dit.requires_grad_(False)


def texts_of(dit: DiT, case: Golden, batch: int, prefix: str = "in") -> ChunkTexts:
    features, mask = case[f"{prefix}.y"], case[f"{prefix}.xattn_mask"]
    return dit.prepare_text(
        *(part.reshape(batch, -1, *part.shape[2:]).squeeze(2) for part in (features, mask))
    )


def step_size(case: Golden) -> float | None:
    call = case.metadata["call_kwargs"]
    if not case.metadata["config"]["engine_config"]["distill"]:
        return None
    return 8 / call["distill_interval"] if call["num_steps"] == 12 else call["num_steps"] / 2


def run(dit: DiT, case: Golden, **options: Any) -> Tensor:
    x, t = case["in.x"], case["in.t"]
    dropped = "in.caption_dropout_mask" in case and bool(case["in.caption_dropout_mask"].all())
    return dit(
        x,
        t,
        texts_of(dit, case, len(x)),
        text_dropped=dropped,
        step_size=step_size(case),
        **options,
    )


SINGLE = ["dit_A_single", "dit_B_single", "dit_A_uncond_batch3", "dit_A_distill16"]
SINGLE += [f"dit_A_distill12_interval{i}" for i in (1, 2)]


@pytest.mark.parametrize("name", SINGLE)
def test_one_forward(name: str) -> None:
    case = golden(name)
    close(run(golden_dit(case), case), case["out.velocity"], FLOAT32)


@pytest.mark.parametrize("name", ["dit_A_single", "dit_B_single"])
def test_what_happens_inside(name: str) -> None:
    case = golden(name)
    dit = golden_dit(case)
    seen: dict[str, Tensor] = {}
    for i, layer in enumerate(dit.videodit_blocks.layers):
        layer.register_forward_hook(
            lambda _, __, out, name=f"layer{i}.out": seen.__setitem__(name, out)
        )
    dit.videodit_blocks.final_layernorm.register_forward_hook(
        lambda _, __, out: seen.__setitem__("final_layernorm.out", out)
    )
    run(dit, case)
    assert len(seen) == len(dit.videodit_blocks.layers) + 1
    for inner, value in seen.items():
        close(value.transpose(0, 1), case[inner], FLOAT32)


@pytest.mark.parametrize(
    "name", goldens("dit_A_single_bf16", further=["dit_B_single_bf16", "dit_A_fp8_distill"])
)
def test_low_precision(name: str) -> None:
    case = golden(name)
    velocity = run(golden_dit(case), case)
    assert velocity.dtype == torch.float32
    close(velocity, case["out.velocity"], BFLOAT16_MAX)
    close_in_rms(velocity, case["out.velocity"], BFLOAT16_RMS)


@pytest.mark.parametrize("name", goldens("dit_A_single_bf16", further=["dit_B_single_bf16"]))
def test_bfloat16_rounds_at_the_same_places(name: str) -> None:
    """Each layer, given what the reference gave it: processors sum in different orders, which flips up to
    two of a hundred bits; a rounding more or less flips forty."""
    case = golden(name)
    dit = golden_dit(case)
    given = [case["pre.tokens"], *(case[f"layer{i}.out"] for i in range(dit.config.num_layers))]
    seen: dict[str, Tensor] = {}

    def replaced(before: Tensor, _: Any, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        seen.setdefault("pre.tokens", arguments[0])
        if isinstance(arguments[-1], LayerInputs):
            seen["pre.condition"] = arguments[-1].condition
        return before.transpose(0, 1), *arguments[1:]

    def noted(name: str, _: Any, __: Any, out: Tensor) -> None:
        seen[name] = out

    blocks = dit.videodit_blocks
    for i, layer in enumerate(blocks.layers):
        layer.register_forward_pre_hook(partial(replaced, given[i]))
        layer.register_forward_hook(partial(noted, f"layer{i}.out"))
    blocks.final_layernorm.register_forward_pre_hook(partial(replaced, given[-1]))
    close(run(dit, case), case["out.velocity"], FLOAT32)
    assert len(seen) == 2 + len(blocks.layers)
    for inner, value in seen.items():
        wanted = case[inner]
        alike = value.reshape(wanted.shape) == wanted
        assert value.dtype == torch.bfloat16 and alike.double().mean() > 0.95, inner


@pytest.mark.parametrize("name", ["dit_A_cache", "dit_B_cache"])
def test_chunks_after_cached_ones(name: str) -> None:
    case = golden(name)
    dit, cache = golden_dit(case), KVCache()
    for call in ("1", "2"):
        x, t = case[f"in{call}.x"], case[f"in{call}.t"]
        size = x.shape[3] * x.shape[4] // 4 * x.shape[2] // t.shape[1]
        velocity = dit(
            x,
            t,
            texts_of(dit, case, 1, f"in{call}"),
            first=case.metadata[f"call{call}_kwargs"]["slice_point"],
            ranges=(case[f"in{call}.kv_range"] // size).tolist(),
            cached=CacheUse(cache, store=t.shape[1] if call == "1" else 0),
            text_dropped=bool(case[f"in{call}.caption_dropout_mask"].all()),
        )
        close(velocity, case[f"out{call}.velocity"], FLOAT32)
    for layer in range(len(dit.videodit_blocks.layers)):
        kept = cache.read(layer, 0, len(cache.chunks), x.device)
        ours = torch.cat([torch.cat(pair, dim=-1) for pair in kept], dim=1)[0]
        close(ours, case[f"cache_after1.layer{layer}"], FLOAT32)


def test_gradients_of_velocity_and_clean_estimate() -> None:
    case = golden("grad_A")
    dit, t = golden_dit(case), case["in.t"]
    for checkpointing in (False, True):
        dit.checkpointing = checkpointing
        x = case["in.x"].clone().requires_grad_()
        size = x.shape[3] * x.shape[4] // 4 * 6
        ranges = (case["in.kv_range"] // size).tolist()
        v = dit(x, t, texts_of(dit, case, 1), ranges=ranges)
        clean = x + (1 - t.repeat_interleave(6, dim=1)[:, None, :, None, None]) * v
        close(v, case["out.velocity"], FLOAT32)
        close(clean, case["out.x0_hat"], FLOAT32)
        for output, wanted in ((v, "grad_velocity"), (clean, "grad_x0_hat")):
            (grad,) = torch.autograd.grad(output, x, case["in.cotangent"], retain_graph=True)
            close(grad, case[f"out.{wanted}"], GRADIENTS)


def test_frequencies_are_those_of_the_reference() -> None:
    """A float32 off is 6e-5 of a distilled model's velocity."""
    half = SINUSOID // 2
    steps = torch.arange(half, dtype=torch.float32)
    exact = (-math.log(10_000) * steps / half).double().exp()
    ours = frequencies(steps.device)
    ulp = exact.float().nextafter(torch.tensor(2.0)).double() - exact.float().double()
    off = (ours.double() - exact) / ulp
    assert ours.dtype == torch.float32 and off.abs().max() < 0.53
    assert (off.abs() > 0.5).nonzero().flatten().tolist() == [12, 106]


# --- for any weights ----------------------------------------------------------------------------------


def nano(config: ModelConfig = NANO, *, fp8: bool = False) -> DiT:
    """A network with random weights everywhere, norms and the null caption included."""
    dit = DiT(config, fp8=fp8).requires_grad_(False)
    for parameter in dit.parameters():
        if parameter.dtype != torch.float8_e4m3fn:
            parameter.copy_(0.3 * torch.randn(parameter.shape))
    dit.rope.bands.copy_(default_bands(1))
    return dit


def nano_inputs(chunks: int, batch: int = 1) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    x = torch.randn(batch, NANO.latent_channels, 2 * chunks, 4, 6)
    mask = torch.zeros(batch, chunks, NANO.caption_max_length)
    for row in mask.flatten(0, 1):
        row[: torch.randint(1, NANO.caption_max_length, ())] = 1
    features = torch.randn(batch, chunks, NANO.caption_max_length, NANO.caption_channels)
    return x, torch.rand(batch, chunks), features, mask


def test_a_batch_is_its_samples_one_by_one() -> None:
    """Texts of different lengths are padded and masked in a batch, and cut to length alone."""
    dit = nano().double()
    x, t, features, mask = (part.double() for part in nano_inputs(2, batch=3))
    together = dit(x, t, dit.prepare_text(features, mask))
    for i in range(3):
        one = slice(i, i + 1)
        alone = dit(x[one], t[one], dit.prepare_text(features[one], mask[one]))
        torch.testing.assert_close(together[one], alone, atol=1e-10, rtol=0)


def test_cached_equals_uncached() -> None:
    dit = nano().double()
    x, t, features, mask = (part.double() for part in nano_inputs(3))
    texts = dit.prepare_text(features, mask)
    whole = dit(x, t, texts, ranges=[(0, 1), (0, 2), (0, 3)])
    cache = KVCache()
    for j in range(3):
        part, chunk = x[:, :, 2 * j : 2 * j + 2], slice(j, j + 1)
        alone = dit(
            part,
            t[:, chunk],
            texts[chunk],
            first=j,
            ranges=[(0, j + 1)],
            cached=CacheUse(cache, 1),
        )
        torch.testing.assert_close(alone, whole[:, :, 2 * j : 2 * j + 2], atol=1e-9, rtol=0)
    assert cache.chunks == [0, 1, 2] and cache.nbytes() > 0
    cache.forget_before(2)
    assert cache.chunks == [2]
    with pytest.raises(KeyError):
        cache.read(0, 1, 2, x.device)


def test_no_chunk_sees_a_later_one_or_beyond_its_range() -> None:
    dit = nano()
    x, t, features, mask = nano_inputs(3)
    texts = dit.prepare_text(features, mask)
    ranges = [(0, 1), (1, 2), (1, 3)]
    before = dit(x, t, texts, ranges=ranges)
    for changed, touched in ((0, [0]), (1, [1, 2]), (2, [2])):
        other = x.clone()
        other[:, :, 2 * changed : 2 * changed + 2] += 1
        moved = (dit(other, t, texts, ranges=ranges) - before).abs().amax(dim=(0, 1, 3, 4))
        assert [j for j in range(3) if moved[2 * j : 2 * j + 2].max() > 0] == touched


def test_tokens_without_a_mask_are_never_read() -> None:
    dit = nano()
    x, t, features, mask = nano_inputs(2)
    other = torch.where(mask[..., None] != 0, features, torch.nan)
    ours, theirs = (dit(x, t, dit.prepare_text(part, mask)) for part in (features, other))
    assert torch.equal(ours, theirs)


def test_gradcheck_in_float64() -> None:
    dit = nano(replace(NANO, num_layers=2)).double()
    dit.checkpointing = True
    x, t, features, mask = (part.double() for part in nano_inputs(2))
    texts = dit.prepare_text(features, mask)
    x = x[..., :2, :4].contiguous().requires_grad_()
    assert torch.autograd.gradcheck(lambda z: dit(z, t, texts), x, fast_mode=True)


def test_every_parameter_matters() -> None:
    """None is forgotten in the forward pass, the distilled model's step size included."""
    dit = nano(replace(NANO, num_layers=2)).requires_grad_()
    x, t, features, mask = nano_inputs(2)
    out = dit(x, t, dit.prepare_text(features, mask), step_size=8.0)
    out.square().mean().backward()
    for name, parameter in dit.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


def test_time_zero_of_a_size_one_axis_and_odd_grids() -> None:
    rope = RotaryEmbedding(16)
    table = rope(1, 3, 5)
    assert table.sin.shape == (15, 6) and table.sin.isfinite().all()
    assert torch.equal(table.sin[:, :2], torch.zeros(15, 2))
    q = torch.randn(2, 15, 4, 16)
    turned = rotate(q, table)
    assert torch.equal(turned[..., 12:], q[..., 12:])
    torch.testing.assert_close(turned.norm(dim=-1), q.norm(dim=-1))


ROPE_CASES = [
    "hd128_default_bands",
    "hd128_offset",
    "hd16_learned_bands",
    "hd128_720x720_firstframe",
]


@pytest.mark.parametrize("name", ROPE_CASES)
def test_rotary_tables(name: str) -> None:
    case = golden("rope")
    if f"{name}.bands" not in case:
        pytest.skip("only in the complete set")
    spec = case.metadata["specs"][name]
    rope = RotaryEmbedding(spec["head_dim"]).requires_grad_(False)
    if "default" in name:
        torch.testing.assert_close(rope.bands, case[f"{name}.bands"], atol=EXACT, rtol=0)
    rope.bands.copy_(case[f"{name}.bands"])
    kept = spec["T_kept"]
    table = rope(kept, spec["H"], spec["W"], first=spec["T_total"] - kept)
    torch.testing.assert_close(torch.cat(table, dim=1), case[f"{name}.sin_cos"], atol=EXACT, rtol=0)


# --- kernels --------------------------------------------------------------------------------------------


def test_grouped_attention_is_attention_with_repeated_heads() -> None:
    q, k, v = torch.randn(2, 5, 6, 8), torch.randn(2, 7, 2, 8), torch.randn(2, 7, 2, 8)
    mask = torch.rand(2, 7) < 0.7
    mask[:, 0] = True
    for keep in (None, mask):
        heads = [part.repeat_interleave(3, dim=2) for part in (k, v)]
        scores = torch.einsum("bshd,bkhd->bhsk", q, heads[0]) / 8**0.5
        if keep is not None:
            scores = scores.masked_fill(~keep[:, None, None], -torch.inf)
        wanted = torch.einsum("bhsk,bkhd->bshd", scores.softmax(-1), heads[1])
        torch.testing.assert_close(sdpa(q, k, v, keep), wanted)


def test_products_of_bfloat16_are_not_rounded_before_their_sum() -> None:
    x, weight = torch.randn(3, 5, 64).bfloat16(), torch.randn(7, 64).bfloat16()
    exact = x.double() @ weight.double().t()
    out = wide_linear(x, weight)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out.double(), exact, atol=1e-5, rtol=1e-5)
    halves = torch.randn(4, 10).bfloat16()
    gate, value = halves.double().chunk(2, dim=-1)
    wanted = (torch.nn.functional.silu(gate) * value).bfloat16()
    assert torch.equal(silu_and_mul(halves), wanted)


FP8_LAYERS = [("per_tensor", PerTensorFP8Linear), ("per_channel", SmoothFP8Linear)]


@pytest.mark.parametrize(("kind", "layer"), FP8_LAYERS)
def test_float8_linear(kind: str, layer: type[FP8Linear]) -> None:
    case = golden("fp8_linears")
    state = {k.split(".")[-1]: v for k, v in case.tensors.items() if f"{kind}.weights" in k}
    built = layer(64, 48)
    built.load_state_dict(state)
    out, wanted = built(case[f"{kind}.in.x"]), case[f"{kind}.out"]
    assert out.dtype == wanted.dtype == torch.bfloat16
    neighbours = [wanted.nextafter(torch.full_like(wanted, end)) for end in (-torch.inf, torch.inf)]
    assert ((out >= neighbours[0]) & (out <= neighbours[1])).all()  # at most one ulp


def quantised_nano() -> DiT:
    """The middle one of three layers is in float8."""
    dit = nano(replace(NANO, params_dtype="torch.bfloat16"), fp8=True)
    for module in dit.modules():
        if isinstance(module, FP8Linear):
            module.weight.copy_(torch.randn(module.weight.shape).to(module.weight.dtype))
            for name, scale in module.named_parameters():
                if "scale" in name:
                    scale.fill_(0.1)
    return dit


def test_quantised_layers_are_the_inner_ones_and_pass_gradients() -> None:
    dit = quantised_nano()
    kinds = [
        [type(module).__name__ for module in layer.modules() if isinstance(module, FP8Linear)]
        for layer in dit.videodit_blocks.layers
    ]
    assert kinds[0] == kinds[2] == [] and len(kinds[1]) == 7
    x, t, features, mask = nano_inputs(1)
    x.requires_grad_()
    dit(x, t, dit.prepare_text(features, mask)).sum().backward()
    assert x.grad is not None and x.grad.isfinite().all() and x.grad.abs().max() > 0


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # torch looks at it while it traces
@pytest.mark.parametrize("make", [nano, quantised_nano])
def test_layers_compile_in_one_piece(
    make: Callable[[], DiT], monkeypatch: pytest.MonkeyPatch
) -> None:
    """``fullgraph`` raises where Python would have to step in; sizes, gradients and kinds of layers vary."""
    dit = make()
    inputs = [nano_inputs(chunks) for chunks in (1, 2)]

    def results() -> list[Tensor]:
        out = []
        for x, t, features, mask in inputs:
            z = x.clone().requires_grad_()
            v = dit(z, t, dit.prepare_text(features, mask))
            out += [v.detach(), *torch.autograd.grad(v.square().sum(), z)]
        return out

    wanted = results()
    traced = partial(torch.compile, backend="eager", fullgraph=True)
    monkeypatch.setattr(torch, "compile", lambda function, **_: traced(function))
    dit.compile_layers()
    for ours, theirs in zip(results(), wanted, strict=True):
        assert torch.equal(ours, theirs)


def test_whether_there_is_a_text_may_differ_from_chunk_to_chunk() -> None:
    dit = nano().double()
    x, t, features, mask = (part.double() for part in nano_inputs(2, batch=2))
    texts = dit.prepare_text(features, mask)
    alone = [dit(x, t, texts, ranges=[(0, 1), (1, 2)], text_dropped=drop) for drop in (False, True)]
    dropped = torch.tensor([[False, True], [True, False]])
    mixed = dit(x, t, texts, ranges=[(0, 1), (1, 2)], text_dropped=dropped)
    for b in range(2):
        for j, drop in enumerate(dropped[b].tolist()):
            frames = slice(2 * j, 2 * j + 2)
            torch.testing.assert_close(mixed[b, :, frames], alone[drop][b, :, frames])
