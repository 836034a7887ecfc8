"""Muon against torch's, which iterates in bfloat16, and against the definition in float64."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from trainers.engine.muon import ITERATIONS, A, B, C, Muon, orthogonalise

SHAPES = [(8, 24), (24, 8), (8, 8), (5, 7)]


@pytest.mark.parametrize("shape", SHAPES)
def test_orthogonalise_is_the_published_iteration(shape: tuple[int, int]) -> None:
    """Each singular value s of the normalised matrix becomes p(p(p(p(p(s))))) with p(s) = a s + b s^3 + c s^5."""
    matrices = torch.randn(3, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for matrix, found in zip(matrices, orthogonalise(matrices, dtype=torch.float64), strict=True):
        u, s, v = torch.linalg.svd(matrix / matrix.norm(), full_matrices=False)
        for _ in range(ITERATIONS):
            s = A * s + B * s**3 + C * s**5
        assert torch.allclose(found, u @ torch.diag(s) @ v, atol=1e-9)


@pytest.mark.parametrize("shape", SHAPES)
def test_steps_are_those_of_torch_up_to_its_bfloat16(shape: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    ours = [nn.Parameter(torch.randn(shape, generator=generator)) for _ in range(3)]
    theirs = [nn.Parameter(p.detach().clone()) for p in ours]
    options = {"lr": 0.02, "weight_decay": 0.05}
    optimizers = Muon(ours, **options), torch.optim.Muon(theirs, **options)
    for _ in range(4):
        for a, b in zip(ours, theirs, strict=True):
            a.grad = torch.randn(shape, generator=generator)
            b.grad = a.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    for a, b in zip(ours, theirs, strict=True):
        # an update's entries are about 0.02 * 0.3; bfloat16 keeps two to three digits of each of four
        assert (a - b).abs().max() < 2e-3


def test_a_parameter_without_a_gradient_stays() -> None:
    still, moved = nn.Parameter(torch.ones(4, 4)), nn.Parameter(torch.ones(4, 4))
    moved.grad = torch.eye(4)
    Muon([still, moved], lr=0.1).step()
    assert still.equal(torch.ones(4, 4))
    assert not moved.equal(torch.ones(4, 4))
