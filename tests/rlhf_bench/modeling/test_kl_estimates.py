"""k1, k2 and k3 against what they must be on the average, and how far they scatter: nothing is drawn."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from rlhf_bench.modeling.logprobs import kl_k1, kl_k2, kl_k3
from trainers.losses.policy_gradient import sequence_rewards


def moments(terms: Tensor, weight: Tensor) -> tuple[float, float]:
    """Mean and standard deviation."""
    mean = (weight * terms).sum()
    return mean.item(), (weight * (terms - mean) ** 2).sum().sqrt().item()


def normals(mu: float) -> tuple[Tensor, Tensor]:
    """Log-ratio and weight of each x of a fine grid: pi = N(0, 1), ref = N(mu, 1), and so KL = mu^2 / 2."""
    x = torch.linspace(-14, 14, 200_001, dtype=torch.float64)
    density = (-0.5 * x**2).exp()
    return -0.5 * x**2 + 0.5 * (x - mu) ** 2, density / density.sum()


@pytest.mark.parametrize("mu", [0.1, 0.5, 1.0, 2.0])
def test_closed_forms_of_two_normals(mu: float) -> None:
    """d = log pi - log ref = mu^2/2 - mu x is itself normal, of mean m = mu^2/2 and standard deviation mu.

    k1: E d = m, sd mu.
    k2: E d^2/2 = (m^2 + mu^2)/2, and var d^2 = 2 mu^4 + 4 m^2 mu^2, a quarter of it for the half.
    k3: E r = 1, so the mean is E d again. var r = e^(mu^2) - 1, var d = mu^2, and cov(r, d) = E_ref d - E d = -m - m:
        e^(mu^2) - 1 + mu^2 - 2 mu^2 in all.
    """
    d, weight = normals(mu)
    m = mu**2 / 2
    assert moments(kl_k1(d), weight) == pytest.approx((m, mu), rel=1e-6)
    assert moments(kl_k2(d), weight) == pytest.approx(
        ((m**2 + mu**2) / 2, math.sqrt((2 * mu**4 + 4 * m**2 * mu**2) / 4)), rel=1e-6
    )
    assert moments(kl_k3(d), weight) == pytest.approx((m, math.sqrt(math.exp(mu**2) - 1 - mu**2)), rel=1e-6)


@pytest.mark.parametrize(
    ("mu", "published"),
    [  # bias and standard deviation over the true KL, as Schulman's note has them: .005, and .5
        (0.1, {kl_k1: (0, 20), kl_k2: (0.002, 1.42), kl_k3: (0, 1.42)}),
        (1.0, {kl_k1: (0, 2), kl_k2: (0.25, 1.73), kl_k3: (0, 1.7)}),
    ],
)
def test_the_published_table(mu: float, published: dict[Callable[[Tensor], Tensor], tuple[float, float]]) -> None:
    """He drew ten million; the quadrature has all digits, .0025 and 1.4178 for .002 and 1.42."""
    d, weight = normals(mu)
    for estimate, (bias, spread) in published.items():
        mean, deviation = moments(estimate(d), weight)
        assert mean / (mu**2 / 2) - 1 == pytest.approx(bias, abs=6e-4)
        assert deviation / (mu**2 / 2) == pytest.approx(spread, rel=0.011)


PI = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
REF = torch.tensor([0.25, 0.25, 0.5], dtype=torch.float64)


def test_by_enumeration_of_three_responses() -> None:
    # d = log 2, log 1.2, log .4 = .693147, .182322, -.916291, weighted .5, .3, .2:
    # KL    .346574 + .054696 - .183258 = .218012
    # k2    (.5 * .480453 + .3 * .033241 + .2 * .839589) / 2 = (.240227 + .009972 + .167918) / 2 = .209058
    # k3    KL + sum pi (ref / pi - 1) = KL + 1 - 1
    d = (PI / REF).log()
    assert moments(kl_k1(d), PI)[0] == pytest.approx(0.218012, abs=1e-6)
    assert moments(kl_k2(d), PI)[0] == pytest.approx(0.209058, abs=1e-6)
    assert moments(kl_k3(d), PI)[0] == pytest.approx(0.218012, abs=1e-6)
    # each: k1 is d; k2 half the squares above; k3 ref / pi - 1 + d: .5 - 1 + d, .833333 - 1 + d, 2.5 - 1 + d
    assert kl_k1(d).tolist() == pytest.approx([0.693147, 0.182322, -0.916291], abs=1e-6)
    assert kl_k2(d).tolist() == pytest.approx([0.240227, 0.016620, 0.419794], abs=1e-6)
    assert kl_k3(d).tolist() == pytest.approx([0.193147, 0.015655, 0.583709], abs=1e-6)


def test_k3_lacks_what_pi_cannot_draw() -> None:
    """Of what REF can draw only the first two, half of its mass: k1 stays the KL, k3 is below by the other half."""
    pi = torch.tensor([0.625, 0.375], dtype=torch.float64)
    d = (pi / REF[:2]).log()
    assert moments(kl_k1(d), pi)[0] == pytest.approx((pi * d).sum().item(), abs=1e-12)
    assert moments(kl_k3(d), pi)[0] == pytest.approx((pi * d).sum().item() - 0.5, abs=1e-12)


def test_the_penalty_inside_the_reward_is_unbiased() -> None:
    """PPO's and RLOO's reward of 0 less k1 of each of three one-token responses, on the average -.218012."""
    mask = torch.ones(3, 1, dtype=torch.bool)
    rewards = sequence_rewards(torch.zeros(3), PI.log()[:, None], REF.log()[:, None], mask, kl_coef=1.0)
    assert (PI * rewards).sum().item() == pytest.approx(-0.218012, abs=1e-6)
