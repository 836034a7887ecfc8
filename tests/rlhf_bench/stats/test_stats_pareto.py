"""Pareto front and hypervolume: worked by hand, and by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

from rlhf_bench import stats
from rlhf_bench.errors import BadValue
from rlhf_bench.stats.pareto import front_probability, hypervolume, hypervolume_estimate, pareto_front
from rlhf_bench.stats.pigeonhole import resampled_means


def test_front_worked_by_hand() -> None:
    points = {
        "sft": (0.0, 0.0),
        "a": (2.0, 1.0),
        "b": (3.0, 0.9),  # a has less KL and more reward
        "c": (5.0, 1.5),
        "d": (5.0, 1.4),  # c has the same KL and more reward
        "e": (4.0, 1.0),  # a has the same reward at less KL
        "base": (9.0, -2.0),
    }
    assert pareto_front(points) == ["sft", "a", "c"]
    assert pareto_front({"x": (1.0, 1.0), "twin": (1.0, 1.0)}) == ["x", "twin"]  # neither is better
    assert pareto_front({}) == []


def test_hypervolume_worked_by_hand() -> None:
    # corners (1, 2) and (3, 5) below KL 6: 2 wide * 2 high + 3 wide * 5 high = 19; the others add nothing
    kl = np.array([0.0, 1.0, 2.0, 3.0, 5.0, 7.0, 1.0])
    gain = np.array([0.0, 2.0, 1.5, 5.0, -1.0, 9.0, 2.0])
    value, d_kl, d_gain = hypervolume(kl, gain, limit=6.0)
    assert value == 19.0
    assert d_kl.tolist() == [0, -2, 0, -3, 0, 0, 0]  # moving (3, 5) to the right loses 5 - 2 = 3 a nat
    assert d_gain.tolist() == [0, 2, 0, 3, 0, 0, 0]
    assert hypervolume(kl, -np.ones(7), limit=6.0)[0] == 0.0


def test_hypervolume_of_one_model_is_a_rectangle_with_the_interval_of_its_linear_parts() -> None:
    # (10 - kl) * gain with the means kl 2, gain 3 is 24; cells 24 - 3 (kl - 2) + 8 (gain - 3)
    kl, gain = np.array([[[1.0, 2.0, 3.0]]]), np.array([[[3.0, 2.0, 4.0]]])
    estimate = hypervolume_estimate(kl, gain, limit=10.0)
    plain = stats.mean_estimate([27.0, 16.0, 29.0])
    assert (estimate.value, estimate.n) == (24.0, 3)
    assert (estimate.low, estimate.high) == (pytest.approx(max(0, plain.low)), pytest.approx(plain.high))


def test_hypervolume_without_a_gain_has_no_interval() -> None:
    cells = np.random.default_rng(0).standard_normal((2, 1, 30)) - 5.0
    estimate = hypervolume_estimate(np.abs(cells), cells, limit=10.0)
    assert (estimate.value, estimate.method) == (0.0, "none")
    assert math.isnan(estimate.high)


@pytest.mark.parametrize("n_seeds", [1, 3])
def test_hypervolume_interval_covers(n_seeds: int) -> None:
    """Three models, two of them on the front; each has its own effect of the seed and of the prompt."""
    generator = np.random.default_rng(n_seeds)
    truth = np.array([[0.0, 2.0, 4.0], [0.0, 1.0, 1.6]])  # (1.0) * 2 + (1.6) * 6 = 11.6 below KL 10
    held = 0
    for _ in range(300):
        noise = 0.2 * generator.standard_normal((2, 3, n_seeds, 1)) * (n_seeds > 1)
        noise = (
            noise + generator.standard_normal((2, 3, 1, 100)) + 0.5 * generator.standard_normal((2, 3, n_seeds, 100))
        )
        kl, gain = truth[:, :, None, None] + noise
        kl[0], gain[0] = 0.0, 0.0
        held += not hypervolume_estimate(kl, gain, limit=10.0).excludes(11.6)
    assert 0.9 < held / 300 < 0.99  # standard error of a share of 0.95: 0.013


def test_front_probability_is_that_of_the_difference() -> None:
    """Two models of the same KL: the better one is on the front, so the shares are the bootstrap's chances that the
    mean difference is above or below 0: a normal tail at the paired t statistic."""
    generator = np.random.default_rng(3)
    x = generator.standard_normal(400)
    d = generator.standard_normal(400)
    d += 0.05 - d.mean()  # a mean difference of 0.05, sd 1: one standard error
    reward = np.stack([x, x + d])[:, None]
    kl = np.ones_like(reward)
    share = front_probability(kl, reward)
    expected = scipy_stats.norm.cdf(0.05 / (d.std() / 20))
    assert share.tolist() == [pytest.approx(1 - expected, abs=0.03), pytest.approx(expected, abs=0.03)]
    assert share.sum() == pytest.approx(1.0)
    kl[0] = 0.5  # the first needs less KL: it stays on the front whatever its reward
    assert front_probability(kl, reward)[0] == 1.0


def test_resampled_means_have_the_crossed_variance() -> None:
    """Seeds 4 apart, prompts with sd 1: the variance is that of the mean square of the seeds and of the prompts."""
    prompts = np.random.default_rng(1).standard_normal(200)
    cells = (np.array([-4.0, 0.0, 4.0])[:, None] + prompts)[:, :, None]
    spread = resampled_means(cells, seed=0).var()
    # seeds: 16 (ddof 1) / 3; prompts: var / 200
    assert spread == pytest.approx(16 / 3 + prompts.var() / 200, rel=0.1)
    alone = resampled_means(cells[:1], seed=0)[:, 0]
    assert alone.var() == pytest.approx(prompts.var() / 200, rel=0.1)


def test_bad_input_is_one_line() -> None:
    cells = np.zeros((2, 1, 5))
    with pytest.raises(BadValue, match=r"shapes \(2, 1, 5\) and \(1, 1, 5\) given"):
        front_probability(cells, cells[:1])
    with pytest.raises(BadValue, match=r"up to a KL of -1 was given; expected a number of nats above 0"):
        hypervolume_estimate(cells, cells, limit=-1)
