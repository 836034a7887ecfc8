"""The signed-rank test against the enumeration of all signs, and against scipy."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats as scipy_stats

from rlhf_bench.stats.compare import wilcoxon_p


def by_enumeration(d: np.ndarray) -> float:
    """Twice the share of all 2^n signs whose sum of positive ranks is as far out as the one at hand, on its side."""
    ranks = scipy_stats.rankdata(np.abs(d))
    signs = np.array(list(itertools.product([0, 1], repeat=len(d))))
    sums, at = signs @ ranks, ranks[d > 0].sum()
    return min(1.0, 2 * min((sums <= at).mean(), (sums >= at).mean()))


def test_by_hand() -> None:
    # |d| = 1 1 2, ranks 1.5 1.5 3, positive: 1.5 + 3 = 4.5. The 8 sums: 0 1.5 1.5 3 3 4.5 4.5 6; 3 of them are >= 4.5
    assert wilcoxon_p(np.array([1.0, -1.0, 2.0])) == 2 * 3 / 8
    assert wilcoxon_p(np.array([1.0, 1.0, 2.0])) == 2 / 8  # all of one sign
    assert wilcoxon_p(np.array([0.0, 0.0])) is None
    assert wilcoxon_p(np.array([0.0, 3.0])) == 1.0  # a zero is dropped; one difference says nothing


@pytest.mark.parametrize("n", [2, 5, 9, 12])
@pytest.mark.parametrize("tied", [False, True])
def test_equals_the_enumeration(n: int, tied: bool) -> None:
    generator = np.random.default_rng(n)
    for shift in (-0.8, 0.0, 0.5):
        d = generator.standard_normal(n) + shift
        d = np.where(np.round(d) == 0, 1.0, np.round(d)) if tied else d
        assert wilcoxon_p(d) == pytest.approx(by_enumeration(d), abs=1e-12)


def test_equals_scipys_exact_p_up_to_50_and_its_approximation_beyond() -> None:
    for n in (20, 50, 51):
        d = np.random.default_rng(n).standard_normal(n) + 0.3
        assert wilcoxon_p(d) == pytest.approx(float(scipy_stats.wilcoxon(d).pvalue), rel=1e-9)
