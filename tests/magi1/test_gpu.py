"""What only a GPU runs: its kernels against the golden vectors, float8 products, streams, compiled layers.

All of it is skipped where there is none.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from goldens import SCORES as SURPRISE
from goldens import Golden as SurpriseGolden
from goldens import close as near
from goldens import goldens as surprise_goldens
from magi1_goldens import Golden, close, close_in_rms, golden, goldens
from test_magi1_dit import (
    BFLOAT16_MAX,
    BFLOAT16_RMS,
    FLOAT32,
    FP8_LAYERS,
    GRADIENTS,
    golden_dit,
    nano,
    nano_inputs,
    quantised_nano,
    run,
    texts_of,
)
from test_magi1_vae import FP32, GRADIENT, golden_vae
from torch import Tensor, nn

from magi1.standardise import standardise, standardise_plainly
from magi1.transformer.dit import DiT
from magi1.transformer.fp8 import FP8Linear
from magi1.transformer.kernels import wide_linear
from magi1.transformer.offload import offload_layers, resident
from wmreward.surprise.scorer import SurpriseScorer

GPU = "cuda"

# Float8 keeps three bits: other bits in 1 % of a quantised layer's bfloat16 inputs, which is what another
# order of summation makes, move the velocity by 8e-2 and 1.3e-2 in root mean square (measured on a CPU).
FLOAT8_MAX, FLOAT8_RMS = 1.5e-1, 3e-2

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.fixture(autouse=True)
def exact_products() -> Iterator[None]:
    """Golden vectors in float32 want products of float32, not of TF32."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    yield
    torch.set_float32_matmul_precision(before)


def there(name: str) -> Golden:
    """A case, on the GPU."""
    case = golden(name)
    return replace(case, tensors={key: value.to(GPU) for key, value in case.tensors.items()})


def dit_of(case: Golden) -> DiT:
    return golden_dit(case).to(GPU)


# --- golden vectors -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", goldens(further=["dit_A_single", "dit_B_single"]))
def test_one_forward(name: str) -> None:
    case = there(name)
    close(run(dit_of(case), case), case["out.velocity"], FLOAT32)


@pytest.mark.parametrize("name", ["dit_A_single_bf16", "dit_B_single_bf16"])
@pytest.mark.parametrize("compiled", [False, True])
def test_bfloat16(name: str, compiled: bool) -> None:
    case = there(name)
    dit = dit_of(case)
    if compiled:
        dit.compile_layers()
    velocity = run(dit, case)
    close(velocity, case["out.velocity"], BFLOAT16_MAX)
    close_in_rms(velocity, case["out.velocity"], BFLOAT16_RMS)


def test_float8() -> None:
    case = there("dit_A_fp8_distill")
    velocity = run(dit_of(case), case)
    close(velocity, case["out.velocity"], FLOAT8_MAX)
    close_in_rms(velocity, case["out.velocity"], FLOAT8_RMS)


@pytest.mark.parametrize(("kind", "layer"), FP8_LAYERS)
def test_float8_linear(kind: str, layer: type[FP8Linear]) -> None:
    case = there("fp8_linears")
    built = layer(64, 48)
    built.load_state_dict(
        {k.split(".")[-1]: v for k, v in case.tensors.items() if f"{kind}.weights" in k}
    )
    found = built.to(GPU)(case[f"{kind}.in.x"])
    torch.testing.assert_close(found, case[f"{kind}.out"], atol=0, rtol=2**-7)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_of_velocity(checkpointing: bool) -> None:
    case = there("grad_A")
    dit, x = dit_of(case), case["in.x"].clone().requires_grad_()
    dit.checkpointing = checkpointing
    ranges = (case["in.kv_range"] // (x.shape[3] * x.shape[4] // 4 * 6)).tolist()
    v = dit(x, case["in.t"], texts_of(dit, case, 1), ranges=ranges)
    close(v.detach(), case["out.velocity"], FLOAT32)
    (grad,) = torch.autograd.grad(v, x, case["in.cotangent"])
    close(grad, case["out.grad_velocity"], GRADIENTS)


def test_decoding_and_its_gradient() -> None:
    case = there("grad_A")
    with torch.device("meta"):
        vae = type(golden_vae())(golden_vae().config)
    vae.load_state_dict(golden_vae().state_dict(), assign=True)
    vae.requires_grad_(False).to(GPU)
    latent = case["vae.in.latent"].requires_grad_()
    video = vae.decode(latent)
    close(video.detach(), case["vae.out.decoded"], FP32)
    (grad,) = torch.autograd.grad(video, latent, case["vae.in.cotangent"])
    close(grad, case["vae.out.grad_latent"], GRADIENT)


@pytest.mark.parametrize("case", surprise_goldens("window16_b", "video49_stride2_a"))
def test_surprise_of_each_window(case: SurpriseGolden) -> None:
    if "video" not in case:
        pytest.skip("the committed part of this case has no video")
    scorer = SurpriseScorer(case.model().to(GPU), case.config(), batch_size=7)
    near(
        scorer.score_windows(case["video"].to(GPU)).values.cpu(),
        case["surprise_per_window"],
        SURPRISE,
    )


# --- the VAE's attention ------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [48, 64])
def test_the_standardising_kernel_rounds_as_pytorch_does(width: int) -> None:
    x = (torch.randn(2, 100, 3, 4, width, device=GPU) * 3 + 1).bfloat16()
    wanted = standardise_plainly(x)
    assert (
        standardise(x) != wanted
    ).float().mean() < 1e-4  # where float32 sums in another order tip a tie
    wide = x.float()
    torch.testing.assert_close(standardise(wide), standardise_plainly(wide), atol=2e-6, rtol=2e-6)


def test_the_gradient_of_the_standardising_kernel() -> None:
    x = (torch.randn(100, 64, device=GPU) * 3 + 1).requires_grad_()
    towards, exact = torch.randn_like(x), x.detach().double().requires_grad_()
    (found,) = torch.autograd.grad(standardise(x), x, towards)
    (wanted,) = torch.autograd.grad(standardise_plainly(exact), exact, towards.double())
    torch.testing.assert_close(found.double(), wanted, atol=1e-5, rtol=1e-5)
    flat = torch.ones(3, 64, device=GPU, requires_grad=True)
    (found,) = torch.autograd.grad(standardise(flat).sum(), flat)
    assert found.isfinite().all()


# --- products -----------------------------------------------------------------------------------------


def test_products_of_bfloat16_are_not_rounded_before_their_sum() -> None:
    x, weight = torch.randn(64, 512).bfloat16(), torch.randn(32, 512).bfloat16()
    exact = x.double() @ weight.double().t()
    found = wide_linear(x.to(GPU), weight.to(GPU)).cpu()
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), exact, atol=1e-4, rtol=1e-5)


# --- weights that come and go -------------------------------------------------------------------------


@pytest.mark.parametrize("make", [nano, quantised_nano])
@pytest.mark.parametrize("ahead", [0, 1, 5])
def test_streamed_layers_are_the_layers(make: type[DiT], ahead: int) -> None:
    """From pinned memory, by a stream of its own, forwards and backwards, many times over."""
    plain = make()
    streamed = make()
    streamed.load_state_dict(plain.state_dict())
    plain.to(GPU)
    stream = offload_layers(streamed, GPU, ahead=ahead)
    assert all(layer.host.is_pinned() for layer in stream.layers)
    plain.checkpointing = streamed.checkpointing = True
    x, t, features, mask = (part.to(GPU) for part in nano_inputs(2))
    x.requires_grad_()

    def velocity_and_gradient(dit: DiT) -> tuple[Tensor, Tensor]:
        v = dit(x, t, dit.prepare_text(features, mask))
        return v.detach(), torch.autograd.grad(v.square().sum(), x)[0]

    wanted = velocity_and_gradient(plain)
    found = [velocity_and_gradient(streamed) for _ in range(20)]
    for velocity, gradient in found:
        assert torch.equal(velocity, wanted[0])
        assert torch.equal(gradient, wanted[1])


def test_resident_comes_and_goes() -> None:
    module, x = nn.Linear(8, 8).requires_grad_(False), torch.randn(2, 8)
    wanted = module(x)
    with resident(module, GPU):
        torch.testing.assert_close(module(x.to(GPU)).cpu(), wanted)
    assert module.weight.device.type == "cpu" and module.weight.is_pinned()
    assert torch.equal(module(x), wanted)
