"""Muon (K. Jordan et al. 2024; arXiv:2502.16982): momentum whose every update is orthogonalised, for the matrices
inside a model's layers.

The orthogonalisation is two Newton-Schulz iterations, and for a small model they are a good part of a step.
Three things make them cheap: matrices of one shape are iterated together; a wide matrix is iterated by its Gram matrix,
which is smaller; and they run in the precision that the processor multiplies fast (`torch.optim.Muon` always takes
bfloat16, which a processor without it emulates: 25 times slower than float32 on AVX2).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from rlhf_bench.runtime.sharding import gather, sharded_as

# a x + b x^3 + c x^5 of each iteration: nearest to 1 over the interval that the ones before it have left, from
# [0.05, 1] (N. Amsel et al. 2025, arXiv:2505.16932, algorithm 1): the two take it to [0.78, 1.22], and what is smaller
# to at most 17 times as much.
OPTIMAL = ((6.7524, -18.351, 13.2633), (2.5379, -1.8747, 0.4413))
# All but the last are of x / 1.01, as there: rounding in bfloat16 may take no value out of the interval, where the next
# polynomial is steep.
SAFETY = 1.01
POLYNOMIALS = (*((a / SAFETY, b / SAFETY**3, c / SAFETY**5) for a, b, c in OPTIMAL[:-1]), OPTIMAL[-1])
MARGIN = 1.02  # of the bound on the largest singular value


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised, with decoupled weight decay.

    An update has the learning rate `lr` times sqrt(max(1, rows / columns)), as `torch.optim.Muon` has by default.
    `dtype` is that of the iterations: bfloat16 is enough where it is fast, else float32.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        *,
        lr: float,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.dtype = dtype
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[nn.Parameter]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_shape[parameter.shape].append(parameter)
            for parameters in by_shape.values():
                self._update(parameters, group["lr"], group["weight_decay"], group["momentum"])

    def _update(self, parameters: list[nn.Parameter], lr: float, weight_decay: float, momentum: float) -> None:
        directions = []
        for parameter in parameters:
            state, gradient = self.state[parameter], parameter.grad
            assert gradient is not None
            if not state:
                state["momentum_buffer"] = torch.zeros_like(gradient)
            buffer = state["momentum_buffer"].lerp_(gradient, 1 - momentum)
            directions.append(gather(gradient.lerp(buffer, momentum)))  # a sharded matrix is iterated whole
        rows, columns = parameters[0].shape
        size = lr * max(1.0, rows / columns) ** 0.5
        for parameter, update in zip(parameters, orthogonalise(torch.stack(directions), dtype=self.dtype), strict=True):
            parameter.mul_(1 - lr * weight_decay).add_(sharded_as(parameter, update), alpha=-size)


def orthogonalise(matrices: Tensor, *, dtype: torch.dtype) -> Tensor:
    """The nearest orthogonal matrix of each, roughly: singular values go to some 0.8 to 1.2, but for small ones.
    (K, R, C) -> (K, R, C).

    A matrix with a norm below 1e-7, as `torch.optim.Muon` has it, becomes a smaller one; entries are to be below 1e8.
    """
    x = matrices.to(dtype)
    rows, columns = x.shape[-2:]
    gram = x.mT @ x if rows > columns else x @ x.mT  # of the shorter side
    # The square of a bound on the singular values.
    largest = gram.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-14) * MARGIN
    gram = gram / largest
    # In bfloat16 the Gram matrix of an update would be too coarse to be iterated alone.
    if 2 * min(rows, columns) <= max(rows, columns) and dtype != torch.bfloat16:
        factor = _factor(gram) / largest.sqrt()
        x = x @ factor if rows > columns else factor @ x
    else:
        x = _iterated(x / largest.sqrt(), gram)
    return x.to(matrices.dtype)


def _iterated(x: Tensor, gram: Tensor) -> Tensor:
    """X <- (a + b G + c G^2) X for each polynomial, with G = X X'; from the other side where X is tall."""
    tall = x.shape[-2] > x.shape[-1]
    for i, (a, b, c) in enumerate(POLYNOMIALS):
        if i:
            gram = x.mT @ x if tall else x @ x.mT
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.baddbmm(x, *((x, polynomial) if tall else (polynomial, x)), beta=a)
    return x


def _factor(gram: Tensor) -> Tensor:
    """What the iterations multiply a matrix with, by its Gram matrix alone: all are polynomials of it, so that they
    commute."""
    product = None
    unit = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    for i, (a, b, c) in enumerate(POLYNOMIALS):
        factor = torch.baddbmm(gram, gram, gram, beta=b, alpha=c).add_(unit, alpha=a)
        product = factor if product is None else factor @ product
        if i + 1 < len(POLYNOMIALS):
            gram = factor @ (gram @ factor)
    assert product is not None
    return product
