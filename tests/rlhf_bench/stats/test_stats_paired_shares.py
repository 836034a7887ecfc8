"""Tango's interval against its closed forms, against a maximised likelihood, and as it is used on few prompts."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import optimize
from scipy import stats as scipy_stats

from rlhf_bench import stats
from rlhf_bench.errors import BadValue
from rlhf_bench.stats.paired_shares import tango_interval

Z2 = scipy_stats.norm.ppf(0.975) ** 2  # 3.841459


def test_all_prompts_alike_by_hand() -> None:
    """b = n: (n - nD)^2 = z^2 n (1 - D)(1 + D), so D = (n - z^2)/(n + z^2): 0.0202 for 4 prompts, and 1 above.
    b = c = 0: (nD)^2 = z^2 n D (1 - D) for D > 0, so D = z^2/(n + z^2): 0.4899."""
    assert tango_interval(4, 0, 4) == pytest.approx(((4 - Z2) / (4 + Z2), 1.0))
    assert tango_interval(4, 0, 4)[0] == pytest.approx(0.0202, abs=1e-4)
    assert tango_interval(0, 4, 4) == pytest.approx((-1.0, -0.020217), abs=1e-5)
    assert tango_interval(0, 0, 4) == pytest.approx((-Z2 / (4 + Z2), Z2 / (4 + Z2)))
    assert tango_interval(2, 0, 2)[0] < 0  # two of two prompts show nothing


@pytest.mark.parametrize(("b", "c", "n"), [(3, 1, 10), (12, 4, 64), (0, 1, 44), (1, 0, 3), (7, 7, 20)])
def test_limits_are_where_the_score_test_has_z(b: int, c: int, n: int) -> None:
    """The likelihood of (1, 0), (0, 1) and the rest, maximised numerically under p10 - p01 = D, without a formula."""
    for limit in tango_interval(b, c, n):
        lowest, highest = max(0.0, -limit), (1 - limit) / 2

        def cost(q: float, delta: float = limit) -> float:
            shares = (q + delta, q, 1 - 2 * q - delta)
            counts = (b, c, n - b - c)
            return -sum(k * math.log(max(p, 1e-300)) for k, p in zip(counts, shares, strict=True) if k)

        q = optimize.minimize_scalar(cost, bounds=(lowest, highest), method="bounded", options={"xatol": 1e-12}).x
        z = (b - c - n * limit) / math.sqrt(n * (2 * q + limit - limit**2))
        assert abs(z) == pytest.approx(math.sqrt(Z2), rel=1e-4)


def test_counts_that_n_does_not_hold() -> None:
    with pytest.raises(BadValue, match=r"3 and 2 of 4 prompts given; expected counts of 0 or more that n holds"):
        tango_interval(3, 2, 4)
    with pytest.raises(BadValue, match=r"given the value 0\.5; expected -1, 0 or 1"):
        stats.crossed_share_difference(np.array([[[0.5], [1.0]]]))


def test_few_prompts_stay_within_their_range() -> None:
    """-1, -1, 0 has a t interval of -2/3 -+ 1.43, beyond -1."""
    samples = np.array([-1.0, -1.0, 0.0])[None, :, None]
    assert stats.crossed(samples[:, :, 0]).low < -2
    found = stats.crossed_share_difference(samples)
    assert (found.value, found.n, found.method) == (pytest.approx(-2 / 3), 3, "tango")
    assert (found.low, found.high) == tango_interval(0, 2, 3)
    assert -1 <= found.low < found.value < found.high < 1


def test_several_samples_of_few_prompts() -> None:
    """Means of 1/2, -1/4, 0 over 4 samples: b = 1/2, c = 1/4 of 3 prompts."""
    samples = np.array([[[1, 1, 0, 0], [-1, 0, 0, 0], [0, 0, 0, 0]]], dtype=float)
    found = stats.crossed_share_difference(samples)
    assert found.value == pytest.approx(1 / 12)
    assert (found.low, found.high) == tango_interval(0.5, 0.25, 3)


def test_many_prompts_of_several_samples_have_the_interval_of_a_mean() -> None:
    g = np.random.default_rng(0)
    samples = g.choice([-1.0, 0.0, 1.0], (1, 80, 4))
    found, mean = stats.crossed_share_difference(samples), stats.crossed(samples.mean(axis=2))
    assert found == mean


def test_a_missing_prompt_is_counted_and_none_is_no_number() -> None:
    samples = np.array([[[1.0], [np.nan], [0.0]]])
    assert (stats.crossed_share_difference(samples).n, stats.crossed_share_difference(samples).n_missing) == (2, 1)
    assert stats.crossed_share_difference(np.full((2, 3, 1), np.nan)).n == 0


@pytest.mark.parametrize("n", [3, 10, 40])
def test_exact_coverage_of_one_sample_a_prompt(n: int) -> None:
    """Summed over the trinomial, for shares 0.3 and 0.1 of (1, 0) and (0, 1): 0.2 is held by at least 93 %."""
    held = 0.0
    for b in range(n + 1):
        for c in range(n + 1 - b):
            low, high = tango_interval(b, c, n)
            if low <= 0.2 <= high:
                held += scipy_stats.multinomial.pmf([b, c, n - b - c], n, [0.3, 0.1, 0.6])
    assert 0.93 <= held < 1.0


def test_the_difference_of_two_shares_tests_what_its_interval_says() -> None:
    """Every table of 12 prompts, one sample each: McNemar's p is below 5 % where Tango's interval leaves out 0."""
    for gained in range(13):
        for lost in range(13 - gained):
            a = np.array([1.0] * gained + [0.0] * lost + [1.0] * (12 - gained - lost))
            b = np.array([0.0] * gained + [1.0] * lost + [1.0] * (12 - gained - lost))
            found = stats.share_difference(a[None, :, None], b[None, :, None])
            low, high = tango_interval(gained, lost, 12)
            assert (found.estimate.value, found.estimate.low, found.estimate.high) == pytest.approx(
                ((gained - lost) / 12, low, high)
            )
            assert (found.p_paired < 0.05) == (low > 0 or high < 0), (gained, lost)
            if gained + lost:
                assert found.p_paired == pytest.approx(scipy_stats.chi2.sf((gained - lost) ** 2 / (gained + lost), 1))


def test_two_shares_that_never_vary() -> None:
    """Both models end every response to 20 prompts: no zero-width interval, and no claim of what would have shown."""
    ones = np.ones((1, 20, 1))
    found = stats.share_difference(ones, ones)
    assert found.estimate.value == 0
    assert found.estimate.low == pytest.approx(-found.estimate.high)
    assert found.estimate.high == pytest.approx(0.161, abs=0.001)  # z^2 / (n + z^2) = 3.8415 / 23.8415
    assert found.p_paired == 1
    assert np.isnan(found.detectable)
    one = ones.copy()
    one[0, 0, 0] = 0
    assert np.isnan(stats.share_difference(ones, one).detectable)  # the t of one prompt among 20 would say 0.15
    assert stats.share_difference(ones, np.zeros_like(ones)).p_paired < 1e-4


def test_shares_of_several_samples_are_means_of_prompts() -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.random((1, 150, k)) < 0.5 for k in (4, 3))  # numbers of samples may differ
    found = stats.share_difference(a.astype(float), b.astype(float))
    assert found == stats.crossed_difference(a.mean(axis=2), b.mean(axis=2))
