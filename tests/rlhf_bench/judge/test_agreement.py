"""Kappas and alpha, by hand and by their authors' own examples."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rlhf_bench.errors import BadValue
from rlhf_bench.judge.analysis import agreement, judges_agreement
from rlhf_bench.judge.analysis.pairs import fold
from rlhf_bench.stats.agreement import cohen_kappa, fleiss_kappa, krippendorff_alpha

from .make_verdicts import pairs_frame, table


def test_cohen_worked_by_hand():
    # p_o = (20 + 15) / 50 = .7; margins .5, .5 and .6, .4: p_e = .3 + .2 = .5; kappa = .2 / .5 = .4
    assert cohen_kappa([[20, 5], [10, 15]]) == pytest.approx(0.4)
    assert cohen_kappa([[0, 5], [5, 0]]) == pytest.approx(-1.0)
    assert cohen_kappa([[3, 0], [0, 9]]) == pytest.approx(1.0)
    assert math.isnan(cohen_kappa([[7, 0], [0, 0]]))
    assert math.isnan(cohen_kappa([[0, 0], [0, 0]]))


def test_fleiss_worked_by_hand():
    # three raters: aaa, aab, bbb. P_i = 1, (4 + 1 - 3) / 6 = 1/3, 1: mean 7/9; shares 5/9, 4/9: p_e = 41/81
    # kappa = (63 - 41) / (81 - 41) = .55
    assert fleiss_kappa([[3, 0], [2, 1], [0, 3]]) == pytest.approx(0.55)
    assert math.isnan(fleiss_kappa([[2, 0], [2, 0]]))


def test_fleiss_of_two_raters_is_scotts_pi_not_cohens_kappa():
    # the table of the Cohen example: p_o .7, pooled shares .55, .45: p_e = .505; (.7 - .505) / .495
    items = [[2, 0]] * 20 + [[1, 1]] * 15 + [[0, 2]] * 15
    assert fleiss_kappa(items) == pytest.approx(0.195 / 0.495)


@pytest.mark.parametrize("counts", [[[2, 0], [1, 0]], [[1, 0]], []])
def test_fleiss_needs_the_same_number_of_raters(counts):
    with pytest.raises(BadValue, match="the same number of raters"):
        fleiss_kappa(counts)


# Krippendorff (2011), section C: four observers, twelve units, missing data; his nominal alpha is .743
N = math.nan
OBSERVERS = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, N, N, N],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, N, 3],
    [N, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, N],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, N],
]


def test_alpha_of_its_authors_example():
    assert krippendorff_alpha(OBSERVERS) == pytest.approx(0.743, abs=5e-4)


def test_alpha_worked_by_hand():
    # two raters: (0,0), (0,1), (1,1). Coincidences: 00 2, 01 1, 10 1, 11 2; margins 3, 3, n = 6
    # nominal D_o = 2/6, D_e = 2*9/(6*5): alpha = 1 - (1/3) / (3/5) = 4/9
    assert krippendorff_alpha([[0, 0, 1], [0, 1, 1]]) == pytest.approx(4 / 9)
    assert math.isnan(krippendorff_alpha([[1, 1], [1, 1]]))
    assert math.isnan(krippendorff_alpha([[1, N], [N, 2]]))  # no unit has two ratings
    with pytest.raises(BadValue, match="expected"):
        krippendorff_alpha([1.0, 2.0])


def test_agreement_with_labels_worked_by_hand():
    # outcomes against labels: win-win 20, win-loss 5, loss-win 10, loss-loss 15: the Cohen example
    outcome = np.repeat([1.0, 1.0, 0.0, 0.0], [20, 5, 10, 15]).reshape(1, 50, 1)
    gold = np.repeat([1.0, 0.0, 1.0, 0.0], [20, 5, 10, 15]).reshape(1, 50, 1)
    found = agreement(pairs_frame(outcome, gold=gold))
    assert found["accuracy"].value == pytest.approx(0.7)
    kappa = found["cohen_kappa"]
    assert (kappa.value, kappa.n, kappa.method) == (pytest.approx(0.4), 50, "bootstrap")
    # its large-sample standard error, sqrt(p_o (1 - p_o) / n) / (1 - p_e), is .1296
    assert (kappa.high - kappa.low) / 2 == pytest.approx(1.96 * 0.1296, rel=0.1)


def test_a_tie_is_a_category_and_what_is_missing_is_left_out():
    outcome = np.array([1.0, 0.5, 0.5, math.nan, 0.0]).reshape(1, 5, 1)
    gold = np.array([1.0, 0.5, 1.0, 1.0, math.nan]).reshape(1, 5, 1)
    found = agreement(pairs_frame(outcome, gold=gold))
    assert (found["accuracy"].value, found["accuracy"].n) == (pytest.approx(2 / 3), 3)


def test_full_agreement_has_an_interval():
    y = np.tile([0.0, 1.0], 20).reshape(1, 40, 1)
    found = agreement(pairs_frame(y, gold=y))
    # Clopper-Pearson's lower limit at 40 of 40 is .025^(1/40) = .911903; kappa (.911903 - .5) / .5
    assert found["cohen_kappa"].value == 1.0
    assert found["cohen_kappa"].low == pytest.approx(0.823807, abs=1e-5)


def test_two_judges_are_compared_on_the_pairs_that_both_decided():
    a = fold(table([("win", "win"), ("loss", "loss"), ("win", "win"), ("unreadable", "win")]))
    b = fold(table([("win", "win"), ("loss", "loss"), ("win", "loss"), ("win", "win")]))
    found = judges_agreement({"a": a, "people": b})
    assert list(found) == [("a", "people")]
    assert (found["a", "people"]["accuracy"].value, found["a", "people"]["accuracy"].n) == (pytest.approx(2 / 3), 3)
    none = judges_agreement({"a": a, "b": b.assign(model="other")})
    assert none["a", "b"]["cohen_kappa"].n == 0
