"""The optimiser of matrices: what its steps are like, which parameters it is for, and that it learns."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from training.muon import RMS, Muon, hidden_matrices, orthogonalised


@pytest.mark.parametrize("shape", [(8, 24), (24, 8), (16, 16)])
def test_steps_keep_directions_and_even_out_their_strength(shape: tuple[int, int]) -> None:
    matrices = (
        torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))
        * torch.tensor([1e-4, 1.0, 1e4])[:, None, None]
    )
    u, s, vt = torch.linalg.svd(matrices, full_matrices=False)
    strength = (u.mT @ orthogonalised(matrices) @ vt.mT).double()
    ours = strength.diagonal(dim1=-2, dim2=-1)
    kept = s > 0.05 * s[:, :1]  # far weaker directions need more rounds
    assert ((ours > 0.6) & (ours < 1.25))[kept].all()
    assert (strength - torch.diag_embed(ours)).abs().max() < 1e-3


def test_step_has_the_size_of_adamw() -> None:
    weight = nn.Parameter(torch.zeros(64, 256))
    weight.grad = torch.randn(64, 256, generator=torch.Generator().manual_seed(1))
    Muon([weight], lr=0.1).step()
    assert weight.detach().square().mean().sqrt().item() == pytest.approx(RMS * 0.1, rel=0.2)
    assert (weight.detach() * weight.grad).sum() < 0


def test_decay_and_momentum() -> None:
    def run(gradients: list[Tensor], decay: float) -> Tensor:
        weight = nn.Parameter(torch.eye(4))
        optimiser = Muon([weight], lr=0.1, momentum=0.5, weight_decay=decay)
        for gradient in gradients:
            weight.grad = gradient.clone()
            optimiser.step()
        return weight.detach()

    one, other = torch.randn(2, 4, 4, generator=torch.Generator().manual_seed(2))
    still = run([torch.zeros(4, 4)], 0.5)
    torch.testing.assert_close(still, 0.95 * torch.eye(4))
    # Nesterov: the second step goes along the gradient and the average that already holds it.
    average = 0.5 * (0.5 * one) + 0.5 * other
    ahead = 0.5 * other + 0.5 * average
    expected = run([one], 0.0) - 0.1 * RMS * 2 * orthogonalised(ahead[None])[0]
    torch.testing.assert_close(run([one, other], 0.0), expected)


def test_parameters_of_one_shape_do_not_mix() -> None:
    gradients = torch.randn(3, 6, 9, generator=torch.Generator().manual_seed(3))
    together = [nn.Parameter(torch.zeros(6, 9)) for _ in gradients]
    for p, gradient in zip(together, gradients, strict=True):
        p.grad = gradient.clone()
    Muon(together, lr=0.1).step()
    for p, gradient in zip(together, gradients, strict=True):
        alone = nn.Parameter(torch.zeros(6, 9))
        alone.grad = gradient.clone()
        Muon([alone], lr=0.1).step()
        torch.testing.assert_close(p, alone)


def test_only_linear_layers_of_blocks_are_hidden() -> None:
    inner = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Embedding(3, 4))
    frozen = nn.Linear(4, 4).requires_grad_(False)
    model = nn.Sequential(nn.Linear(4, 4), nn.ModuleList([inner, frozen]))
    assert [id(p) for p in hidden_matrices(model)] == [id(inner[0].weight)]


def test_anything_but_matrices_is_refused() -> None:
    with pytest.raises(ValueError, match=r"for matrices, got a parameter of shape \[4\]"):
        Muon([nn.Parameter(torch.zeros(4))])
