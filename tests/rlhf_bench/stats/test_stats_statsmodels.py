"""Numbers that statsmodels has as well are the same."""

from __future__ import annotations

import numpy as np
import pytest
from statsmodels.stats.inter_rater import cohens_kappa
from statsmodels.stats.inter_rater import fleiss_kappa as their_fleiss_kappa
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower
from statsmodels.stats.proportion import proportion_confint

from rlhf_bench.stats import detectable_difference, holm
from rlhf_bench.stats.agreement import cohen_kappa, fleiss_kappa
from rlhf_bench.stats.estimates import clopper_pearson


@pytest.mark.parametrize("seed", range(5))
def test_holm(seed: int) -> None:
    p = np.random.default_rng(seed).beta(0.3, 1, 20)
    assert holm(list(p)) == pytest.approx(list(multipletests(p, method="holm")[1]), rel=1e-12)


@pytest.mark.parametrize(("count", "n"), [(0, 30), (30, 30), (1, 150), (75, 150), (980, 1_000)])
@pytest.mark.parametrize("level", [0.9, 0.95, 0.999])
def test_clopper_pearson(count: int, n: int, level: float) -> None:
    expected = proportion_confint(count, n, alpha=1 - level, method="beta")
    found = clopper_pearson(count / n, n, level=level)
    assert (found.low, found.high) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("n", [5, 34, 150])
def test_detectable_difference(n: int) -> None:
    expected = TTestPower().solve_power(nobs=n, alpha=0.05, power=0.8)
    assert detectable_difference(2.0, n) == pytest.approx(2.0 * expected, rel=1e-3)


def test_kappas() -> None:
    rng = np.random.default_rng(0)
    table = rng.integers(1, 30, (3, 3))
    assert cohen_kappa(table) == pytest.approx(cohens_kappa(table).kappa, abs=1e-12)
    counts = rng.multinomial(4, [0.5, 0.3, 0.2], 25)
    assert fleiss_kappa(counts) == pytest.approx(their_fleiss_kappa(counts), abs=1e-12)
