"""Tables of counts, probabilities, ratios and corrections, by hand and against statsmodels and scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
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
