"""Muon's iterations: their definition in float64 and a linear programme; its steps: by hand and beside torch's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from torch import nn

from trainers.engine.muon import MARGIN, OPTIMAL, POLYNOMIALS, Muon, orthogonalise

SHAPES = [(8, 24), (24, 8), (8, 8), (5, 7)]


def through_polynomials(s: torch.Tensor) -> torch.Tensor:
    for a, b, c in POLYNOMIALS:
        s = a * s + b * s**3 + c * s**5
    return s


@pytest.mark.parametrize("shape", SHAPES)
def test_orthogonalise_is_its_definition(shape: tuple[int, int]) -> None:
    """Singular values, divided by a bound on the largest, the fourth root of the sum of their fourth powers, go through
    the polynomials."""
    matrices = 7.0 * torch.randn(3, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for matrix, found in zip(matrices, orthogonalise(matrices, dtype=torch.float64), strict=True):
        u, s, v = torch.linalg.svd(matrix, full_matrices=False)
        s = s / (MARGIN * (s**4).sum().sqrt()).sqrt()
        assert torch.allclose(found, u @ torch.diag(through_polynomials(s)) @ v, atol=1e-9)


def test_polynomials_are_the_nearest_to_one() -> None:
    """Of all a x + b x^3 + c x^5, by a linear programme, over the interval that the ones before have left."""
    low, high = 0.05, 1.0
    for coefficients in OPTIMAL:
        x = np.geomspace(low, high, 4000)
        powers, ones = np.stack([x, x**3, x**5], axis=1), np.ones((len(x), 1))
        best = linprog(  # over a, b, c and the largest distance
            [0, 0, 0, 1], A_ub=np.block([[powers, -ones], [-powers, -ones]]), b_ub=np.repeat([1.0, -1.0], len(x)),
            bounds=[(None, None)] * 3 + [(0, None)],
        ).x  # fmt: skip
        assert coefficients == pytest.approx(best[:3], rel=2e-3)
        low, high = 1 - best[3], 1 + best[3]
    assert (low, high) == pytest.approx((0.78, 1.22), abs=5e-3)
    ends = through_polynomials(torch.linspace(0.05, 1, 2000, dtype=torch.float64))
    assert low - 0.015 < ends.min() < ends.max() < high + 2e-3


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rank", [1, 32])
def test_rounding_takes_no_singular_value_out_of_the_interval(dtype: torch.dtype, rank: int) -> None:
    """Of one direction the singular value is the bound itself, where the first polynomial is steepest."""
    generator = torch.Generator().manual_seed(0)
    for decades in (0.0, 1.0, 2.0):
        sizes = torch.logspace(0, -decades, rank)
        for _ in range(10):
            matrix = torch.randn(32, rank, generator=generator) * sizes @ torch.randn(rank, 128, generator=generator)
            assert torch.linalg.matrix_norm(orthogonalise(matrix[None], dtype=dtype)[0].float(), 2) < 1.32


def test_steps_by_hand() -> None:
    """Of a gradient with equal singular values: momentum leaves its direction, so that each step is the same."""
    gradient = torch.linalg.qr(torch.randn(12, 4, dtype=torch.float64)).Q
    size = through_polynomials(torch.tensor((MARGIN * 4**0.5) ** -0.5, dtype=torch.float64))  # sum of s^4 is 4
    parameter = nn.Parameter(torch.ones(12, 4, dtype=torch.float64))
    optimizer = Muon([parameter], lr=0.02, weight_decay=0.05, dtype=torch.float64)
    expected = torch.ones(12, 4, dtype=torch.float64)
    for _ in range(3):
        parameter.grad = gradient.clone()
        optimizer.step()
        expected = expected * (1 - 0.02 * 0.05) - 0.02 * 3**0.5 * size * gradient  # sqrt(rows / columns)
    assert torch.allclose(parameter, expected, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_steps_point_where_those_of_torch_do(shape: tuple[int, int]) -> None:
    """torch's five iterations of one polynomial leave singular values at other places between 0.7 and 1.2."""
    generator = torch.Generator().manual_seed(0)
    ours = nn.Parameter(torch.zeros(shape))
    theirs = nn.Parameter(torch.zeros(shape))
    optimizers = Muon([ours], lr=0.02, weight_decay=0.05), torch.optim.Muon([theirs], lr=0.02, weight_decay=0.05)
    for _ in range(4):
        ours.grad = torch.randn(shape, generator=generator)
        theirs.grad = ours.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    a, b = ours.detach().flatten(), theirs.detach().flatten()
    assert torch.cosine_similarity(a, b, dim=0) > 0.97
    assert float(a.norm() / b.norm()) == pytest.approx(1.0, abs=0.2)


def test_a_parameter_without_a_gradient_stays() -> None:
    still, moved = nn.Parameter(torch.ones(4, 4)), nn.Parameter(torch.ones(4, 4))
    moved.grad = torch.eye(4)
    Muon([still, moved], lr=0.1).step()
    assert still.equal(torch.ones(4, 4))
    assert not moved.equal(torch.ones(4, 4))
