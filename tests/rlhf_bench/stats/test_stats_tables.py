"""Tables of counts, probabilities, ratios and corrections, by hand and against statsmodels and scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats as scipy_stats
from statsmodels.stats.contingency_tables import Table2x2, mcnemar
from statsmodels.stats.inter_rater import cohens_kappa
from statsmodels.stats.multitest import multipletests

from rlhf_bench import stats
from rlhf_bench.errors import BadValue


def test_benjamini_hochberg_by_hand() -> None:
    # sorted .01 .02 .03 .5 times 4/1 4/2 4/3 4/4 = .04 .04 .04 .5
    assert stats.benjamini_hochberg([0.03, 0.5, 0.01, 0.02]) == pytest.approx([0.04, 0.5, 0.04, 0.04])
    adjusted = stats.benjamini_hochberg([0.01, math.nan, 0.04])
    assert adjusted[::2] == pytest.approx([0.02, 0.04])
    assert math.isnan(adjusted[1])
    p = np.random.default_rng(0).beta(0.3, 1, 20)
    assert stats.benjamini_hochberg(list(p)) == pytest.approx(list(multipletests(p, method="fdr_bh")[1]))


def test_mcnemar() -> None:
    assert stats.mcnemar_p(5, 0) == pytest.approx(2 / 2**5)
    assert stats.mcnemar_p(0, 0) == stats.mcnemar_p(3, 3) == 1.0
    assert stats.mcnemar_p(12, 3) == pytest.approx(mcnemar([[0, 12], [3, 0]], exact=True).pvalue)
    with pytest.raises(BadValue, match="-1 and 2 changed prompts given"):
        stats.mcnemar_p(-1, 2)


def test_odds_ratio() -> None:
    # 10 * 30 / (20 * 5) = 3; se of the log sqrt(.1 + .05 + .2 + 1/30) = .619139; exp(1.098612 -+ 1.959964 * .619139)
    found = stats.odds_ratio([[10, 20], [5, 30]])
    assert found.value == pytest.approx(3.0)
    assert (found.low, found.high, found.n) == (pytest.approx(0.8915, abs=1e-3), pytest.approx(10.0957, abs=1e-2), 65)
    assert (found.low, found.high) == pytest.approx(Table2x2([[10, 20], [5, 30]]).oddsratio_confint())
    assert stats.odds_ratio([[3, 0], [1, 4]]).value == pytest.approx(3.5 * 4.5 / (0.5 * 1.5))
    assert math.isnan(stats.odds_ratio([[3, 0], [4, 0]]).value)
    with pytest.raises(BadValue, match=r"shape \(3,\) given"):
        stats.odds_ratio([1, 2, 3])


def test_kappa() -> None:
    table = np.random.default_rng(0).integers(1, 30, (3, 3))
    theirs = cohens_kappa(table)
    found = stats.kappa_estimate(table)
    assert found.value == pytest.approx(theirs.kappa)
    assert (found.low, found.high) == pytest.approx((theirs.kappa_low, theirs.kappa_upp))
    assert stats.kappa_estimate([[20, 5], [10, 15]]).value == pytest.approx(0.4)  # (.7 - .5) / (1 - .5)
    assert stats.kappa_estimate([[5, 0], [0, 5]]).high == 1.0
    assert math.isnan(stats.kappa_estimate([[7, 0], [0, 0]]).value)
    with pytest.raises(BadValue, match=r"shape \(1, 2\) given"):
        stats.kappa_estimate([[1, 2]])


def test_brier_by_hand() -> None:
    """.2 .2 .8 .8 of 0 1 1 1: squares .04 .64 .04 .04, mean .19. Bins: shares .5 and 1 around .75; reliability
    (.3^2 + .2^2) / 2 = .065, resolution .0625, uncertainty .1875: .065 - .0625 + .1875 = .19, nothing within."""
    found = stats.brier_score(np.array([0.2, 0.2, 0.8, 0.8]), np.array([0.0, 1.0, 1.0, 1.0]))
    assert found == pytest.approx((0.19, 0.065, 0.0625, 0.1875, 0.0))
    hidden = stats.brier_score(np.array([0.0, 1.0]), np.array([0.0, 1.0]), bins=1)
    assert hidden == pytest.approx((0.0, 0.0, 0.0, 0.25, -0.25))  # one bin sees nothing of what was told apart


def test_reliability_curve_by_hand() -> None:
    p = np.array([0.1, 0.14, 0.95, 1.0])
    low, high = stats.reliability_curve(p, np.array([0.0, 1.0, 1.0, 1.0]))
    assert low.probability == pytest.approx(0.12)
    assert (low.outcome.value, low.outcome.n) == (0.5, 2)
    assert high.probability == pytest.approx(0.975)  # 1 is in the last bin
    wilson = scipy_stats.binomtest(2, 2).proportion_ci(0.95, method="wilson")
    assert (high.outcome.low, high.outcome.high) == pytest.approx((wilson.low, wilson.high))
    with pytest.raises(BadValue, match="outside of 0 to 1"):
        stats.reliability_curve(np.array([1.2]), np.array([1.0]))
    with pytest.raises(BadValue, match="0 bins given"):
        stats.brier_score(p, np.ones(4), bins=0)


def test_fieller_limits_are_where_the_paired_t_test_has_p_5_percent() -> None:
    g = np.random.default_rng(0)
    b = g.normal(3.0, 1.0, 40)
    a = 2 * b + g.normal(0.0, 1.0, 40)
    found = stats.fieller_interval(a, b)
    assert found.value == pytest.approx(a.mean() / b.mean())
    assert found.low < found.value < found.high
    for limit in (found.low, found.high):
        assert scipy_stats.ttest_1samp(a - limit * b, 0).pvalue == pytest.approx(0.05)
    back = stats.fieller_interval(-a, -b)
    assert (back.low, back.high) == pytest.approx((found.low, found.high))
    assert stats.fieller_interval(a, b - b.mean() + 0.01).high == math.inf  # the denominator may be 0


def test_jackknife_by_hand() -> None:
    """Variance with ddof 0 of 1, 2, 6: 14/3; without one 4, 6.25, .25, mean 3.5: 3 * 14/3 - 2 * 3.5 = 7, which is ddof
    1. Of the mean it is the usual standard error: sd sqrt(7), over sqrt(3)."""
    x = np.array([1.0, 2.0, 6.0])
    assert stats.jackknife(x, lambda v: float(v.var()))[0] == pytest.approx(7.0)
    assert stats.jackknife(x, lambda v: float(v.mean())) == pytest.approx((3.0, math.sqrt(7 / 3)))
    with pytest.raises(BadValue, match="1 prompts given"):
        stats.jackknife(x[:1], lambda v: float(v.mean()))
