"""Prompts crossed with seeds, worked by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats as scipy_stats

from rlhf_bench import stats
from rlhf_bench.types import Estimate


def around(value: float, se: float, df: float, n: int, n_seeds: int) -> Estimate:
    half = scipy_stats.t.ppf(0.975, df) * se
    low, high = pytest.approx(value - half), pytest.approx(value + half)
    return Estimate(value, low, high, n, method="crossed-t", n_seeds=n_seeds)


def test_crossed_by_hand():
    # seed means 2 6, prompt means 2 6, mean 4: MS_seed = 2 * 8 = 16, MS_prompt = 16; residuals 1 -1 -1 1: MS_res = 4
    # seeds 16 / 4 = 4, prompts (16 - 4) / 4 = 3, of 1 degree of freedom each: t(0.975, 1) sqrt(4 + 3)
    estimate = stats.crossed(np.array([[1.0, 3.0], [3.0, 9.0]]))
    assert estimate == around(4.0, math.sqrt(7), 1, n=2, n_seeds=2)


def test_limits_of_seeds_and_prompts_are_combined_by_hand():
    # seed means -6 0 6 of 4 prompts, prompt means -3 -1 1 3, no residual: MS_seed = 4 * 72 / 2 = 144,
    # MS_prompt = 3 * 20 / 3 = 20: variances 144/12 = 12 and 20/12; t(0.975, 2) = 4.302653, t(0.975, 3) = 3.182446
    # sqrt(4.302653^2 * 12 + 3.182446^2 * 20/12) = 15.46072
    cells = np.array([-6.0, 0.0, 6.0])[:, None] + np.array([-3.0, -1.0, 1.0, 3.0])
    found = stats.crossed(cells)
    assert (found.low, found.high) == (pytest.approx(-15.46072, abs=1e-4), pytest.approx(15.46072, abs=1e-4))


@pytest.mark.parametrize("level", [0.5, 0.95, 0.999])
@pytest.mark.parametrize("shape", [(2, 12), (3, 40), (5, 6)])
def test_p_is_the_level_at_which_the_interval_ends_at_the_null_value(shape: tuple[int, int], level: float) -> None:
    generator = np.random.default_rng(0)
    cells = generator.lognormal(size=shape[1]) + generator.standard_normal(shape)
    found = stats.crossed(cells, level=level)
    for limit in (found.low, found.high):
        for shift, beyond in ((1e-6, True), (-1e-6, False)):
            outwards = math.copysign(1.0, limit - found.value) * shift
            at = stats.crossed_difference(cells - limit - outwards, np.zeros(shape), level=level)
            assert (at.p_paired < 1 - level) is beyond
            assert at.estimate.excludes(0.0) is beyond


def test_chance_alike_seeds_are_never_surer_than_the_prompts_alone() -> None:
    """Three seeds with the same mean: no spread of seeds, so their t would be sure of anything."""
    residual = np.random.default_rng(0).standard_normal((3, 60))
    cells = 0.1 + residual - residual.mean(axis=1, keepdims=True)
    found = stats.crossed_difference(cells, np.zeros_like(cells))
    prompts = stats.difference(cells.mean(axis=0), np.zeros(60))
    assert found.p_paired >= prompts.p_paired > 0.05


def test_a_negative_component_widens_the_interval():
    # seed means 4 4: MS_seed = 0 < MS_res = 2, so MS_res is not subtracted; MS_prompt = 2 * (9 + 1 + 16) / 2 = 26
    # Var = 26 / 6, df = 26^2 / (26^2 / 2) = 2
    estimate = stats.crossed(np.array([[0.0, 4.0, 8.0], [2.0, 2.0, 8.0]]))
    assert estimate == around(4.0, math.sqrt(26 / 6), 2, n=3, n_seeds=2)
    # nothing but residuals of +-1: Var = MS_res / 4 = 1, df 1
    assert stats.crossed(np.array([[1.0, 3.0], [3.0, 1.0]])) == around(2.0, 1.0, 1, n=2, n_seeds=2)


def test_one_seed_and_seeds_that_do_not_differ_are_the_prompts_alone():
    x = np.random.default_rng(0).lognormal(size=40)
    alone = stats.mean_estimate(x, seed=2)
    assert stats.crossed(x[None], seed=2) == alone
    assert stats.crossed(np.stack([x, x, x]), seed=2) == replace(alone, n_seeds=3)


def test_a_prompt_missing_under_one_seed_is_left_out_and_a_seed_without_values_is_no_seed():
    nan = math.nan
    cells = np.array([[1.0, 3.0, nan, 5.0], [3.0, 9.0, 7.0, nan], [nan, nan, nan, nan]])
    estimate = stats.crossed(cells)
    assert estimate == replace(around(4.0, math.sqrt(7), 1, n=2, n_seeds=2), n_missing=2)
    none = stats.crossed(np.array([[1.0, nan], [nan, 1.0]]))
    assert (none.n, none.n_missing) == (0, 2)
    assert math.isnan(none.value)
    assert stats.crossed(np.full((2, 3), nan)).n_missing == 3


def test_seeds_that_differ_much_leave_the_degrees_of_freedom_of_the_seeds():
    prompts = np.random.default_rng(1).standard_normal(150)
    cells = np.array([-10.0, 0.0, 10.0])[:, None] + prompts
    estimate = stats.crossed(cells)
    # the seeds' mean alone: sd 10, se 10 / sqrt(3), t(0.975, 2) = 4.303
    assert estimate.high - estimate.value == pytest.approx(4.302653 * 10 / math.sqrt(3), rel=0.01)


def test_crossed_share():
    samples = np.zeros((2, 40, 4))
    samples[0, :30] = 1.0
    samples[1, 5:35, :2] = 1.0
    # seeds .75 and .375 of 40 prompts, mean m = .5625; on the logit, slope 1 / (m (1 - m)) = 4.063492
    found, plain = stats.crossed_share(samples), stats.crossed(4.063492 * (samples.mean(axis=2) - 0.5625))
    assert (found.value, found.method) == (0.5625, "crossed-t, logit")
    logit = math.log(0.5625 / 0.4375)
    expected = [1 / (1 + math.exp(-logit - shift)) for shift in (plain.low, plain.high)]
    assert [found.low, found.high] == pytest.approx(expected, abs=1e-6)
    # all ended, under every seed: 0.025^(1/40) = 0.911903 with n = prompts
    ones = stats.crossed_share(np.ones((3, 40, 4)))
    assert ones == Estimate(1.0, pytest.approx(0.911903, abs=1e-6), 1.0, 40, method="clopper-pearson", n_seeds=3)
    nearly = np.ones((3, 40, 4))
    nearly[1, 3, 2] = 0.0
    found = stats.crossed_share(nearly)  # one seed differs a little, and the others may
    assert found.low < 0.911 < found.value < found.high <= 1.0
    assert stats.crossed_share(samples[:1]) == stats.share_estimate(samples[0])
    assert stats.crossed_share(np.ones((2, 40, 1))).method == "wilson"


def test_crossed_ratio_is_the_geometric_mean_of_the_seeds():
    # logs 20/10 = 2 and 40/10 = 4: exp(3)
    a, b = np.array([[4.0, 6.0, 10.0], [8.0, 12.0, 20.0]]), np.array([[2.0, 4.0, 4.0]] * 2)
    estimate = stats.crossed_ratio(a, b, exponentiate=True)
    assert (estimate.value, estimate.n, estimate.n_seeds) == (pytest.approx(math.exp(3)), 3, 2)
    # residuals a - r b over mean b 10/3: 0 -0.6 0.6 and 0 -1.2 1.2 around 2 and 4
    log = stats.crossed(np.array([[2.0, 1.4, 2.6], [4.0, 2.8, 5.2]]))
    assert (estimate.low, estimate.high) == (pytest.approx(math.exp(log.low)), pytest.approx(math.exp(log.high)))
    assert stats.crossed_ratio(a[:1], b[:1]) == stats.ratio_estimate(a[0], b[0])


def test_crossed_difference_is_taken_within_the_seed():
    seeds = np.array([-10.0, 10.0])[:, None]
    b = seeds + np.array([1.0, 5.0, 9.0, 2.0])
    d = np.array([[1.0, 3.0, 2.0, 2.0], [3.0, 9.0, 5.0, 7.0]])
    found = stats.crossed_difference(b + d, b)
    plain = stats.crossed(d)
    assert (found.estimate.low, found.estimate.high) == (pytest.approx(plain.low), pytest.approx(plain.high))
    assert found.p_wilcoxon is None  # it knows no seeds
    assert math.isnan(found.effect)
    assert (found.p_paired < 0.05) == found.estimate.excludes(0)
    assert found.detectable > 0
    # p is 0.05 at the edge of the interval
    edge = stats.crossed_difference(d - plain.low, np.zeros_like(d))
    assert edge.p_paired == pytest.approx(0.05, abs=1e-9)


def test_crossed_difference_of_one_seed_and_of_nothing():
    x = np.random.default_rng(0).standard_normal((1, 30))
    assert stats.crossed_difference(x, 0 * x) == stats.difference(x[0], 0 * x[0])
    empty = stats.crossed_difference(x, np.full_like(x, math.nan))
    assert (empty.estimate.n, empty.estimate.n_missing, empty.p_wilcoxon) == (0, 30, None)


def test_crossed_std_by_hand():
    """Two seeds of two prompts: 0, 2 has sd sqrt(2), and 0, 4 has 2 sqrt(2): their geometric mean is 2. The prompts are
    as far from the middle as each other, so only the seeds differ: log sds ln 2 -+ ln(2)/2, se ln(2)/2, df 1."""
    found = stats.crossed_std(np.array([[[0.0], [2.0]], [[0.0], [4.0]]]))
    half = scipy_stats.t.ppf(0.975, 1) * math.log(2) / 2
    assert found.value == pytest.approx(2.0)
    assert (math.log(found.low), math.log(found.high)) == pytest.approx((math.log(2) - half, math.log(2) + half))
    assert (found.n, found.n_seeds, found.n_missing, found.method) == (2, 2, 0, "crossed-t")


def test_crossed_std_of_ragged_samples_and_of_one_seed():
    y = np.random.default_rng(0).normal(0, [[[1.0]], [[3.0]]], (2, 12, 3))
    y[0, 4, 1:] = np.nan  # one sample only
    y[1, 7] = np.nan  # missing under one seed: left out of both
    kept = np.delete(y, 7, axis=1)
    sds = [np.nanstd(of_seed, ddof=1) for of_seed in kept]
    found = stats.crossed_std(y)
    assert found.value == pytest.approx(math.sqrt(sds[0] * sds[1]))
    assert (found.n, found.n_missing) == (11, 1)
    one = stats.crossed_std(y[:1])
    assert one == stats.std_estimate(y[0])
    assert stats.crossed_std(np.full((2, 3, 2), np.nan)).n == 0
    assert stats.crossed_std(np.ones((2, 3, 2))).value == 0.0


def test_crossed_std_covers():
    """300 tables of 2 seeds x 40 prompts x 2 samples of sd 1, prompts in common; seeds do not differ in their sd."""
    g = np.random.default_rng(1)
    held = 0
    for _ in range(300):
        y = math.sqrt(0.5) * (g.standard_normal((1, 40, 1)) + g.standard_normal((2, 40, 2)))
        found = stats.crossed_std(y)
        held += found.low <= 1.0 <= found.high
    assert 276 <= held <= 299  # 285 expected, sd 3.8; few seeds err on the wide side


def test_std_of_seeds_that_are_alike_is_of_their_common_prompts() -> None:
    """Both seeds hold 1, 2, 3; seed 0 alone has three prompts more: the std is that of 1, 2, 3, which is 1."""
    samples = np.full((2, 6, 1), np.nan)
    samples[:, :3, 0] = [1.0, 2.0, 3.0]
    samples[0, 3:, 0] = [100.0, 120.0, 160.0]
    estimate = stats.crossed_std(samples)
    assert (estimate.value, estimate.n, estimate.n_seeds, estimate.n_missing) == (pytest.approx(1.0), 3, 2, 3)
