"""Best-of-n against the enumeration of every draw."""

from __future__ import annotations

import math
from itertools import combinations, product

import numpy as np
import pytest

from rlhf_bench.errors import BadValue
from rlhf_bench.stats.best_of_n import best_of_n, best_of_n_kl, best_of_n_kl_bound, rank_weights

SCORES = np.array([[0.3, 1.5, -2.0, 1.5, 0.0, 1.5], [5.0, 4.0, 3.0, 2.0, 1.0, 0.0]])
GOLD = np.array([[1.0, 2.0, 3.0, 5.0, 7.0, 11.0], [0.0, 1.0, 4.0, 9.0, 16.0, 25.0]])


def test_weights_by_hand() -> None:
    # N = 4, n = 2: C(i - 1, 1) / C(4, 2) = 0 1 2 3 over 6
    assert rank_weights(4, 2) == pytest.approx([0, 1 / 6, 2 / 6, 3 / 6])
    assert rank_weights(4, 1) == pytest.approx([1 / 4] * 4)
    assert rank_weights(4, 4) == pytest.approx([0, 0, 0, 1])
    assert rank_weights(5_000, 64).sum() == pytest.approx(1.0)  # no factorial overflows


@pytest.mark.parametrize("n", range(1, 7))
def test_equals_the_mean_over_every_subset(n: int) -> None:
    """Ties: any of the best is taken with equal chance."""
    for scores, gold, reward, true in zip(
        SCORES, GOLD, best_of_n(SCORES, SCORES, n), best_of_n(SCORES, GOLD, n), strict=True
    ):
        best, chosen = [], []
        for subset in combinations(range(6), n):
            top = max(scores[i] for i in subset)
            best.append(top)
            chosen.append(np.mean([gold[i] for i in subset if scores[i] == top]))
        assert reward == pytest.approx(np.mean(best))
        assert true == pytest.approx(np.mean(chosen))


def test_unbiased_for_independent_draws() -> None:
    """The mean over every pool of 4 of three responses of the estimate for n = 2 is the best of 2 draws."""
    p, value = np.array([0.5, 0.3, 0.2]), np.array([1.0, 2.0, 4.0])
    expected = sum(p[i] * p[j] * max(value[i], value[j]) for i, j in product(range(3), repeat=2))
    pools = np.array(list(product(range(3), repeat=4)))
    estimates = best_of_n(value[pools], value[pools], 2)
    assert (p[pools].prod(axis=1) * estimates).sum() == pytest.approx(expected)


@pytest.mark.parametrize("n", [1, 2, 5, 64])
@pytest.mark.parametrize("scores", [[1.0, 3.0, 2.0, 3.0], [1.0, 4.0, 2.0, 3.0], [5.0] * 4], ids=["ties", "none", "all"])
def test_kl_by_enumeration_and_under_the_bound(n: int, scores: list[float]) -> None:
    """Of every draw of n of four responses, the best; among equals any, with equal chance."""
    p, of = np.array([0.4, 0.1, 0.3, 0.2]), np.array(scores)
    if n <= 5:
        best = np.zeros(4)
        for draw in product(range(4), repeat=n):
            top = [i for i in draw if of[i] == of[list(draw)].max()]
            for i in top:
                best[i] += p[list(draw)].prod() / len(top)
        assert best_of_n_kl(p, of, n) == pytest.approx((best * np.log(best / p)).sum(), abs=1e-12)
    assert best_of_n_kl(p, of, n) <= best_of_n_kl_bound(n) + 1e-12
    # many responses, none tied: the bound is met
    even = np.full(200_000, 1 / 200_000)
    assert best_of_n_kl(even, np.arange(200_000.0), n) == pytest.approx(best_of_n_kl_bound(n), abs=1e-3)


def test_kl_by_hand() -> None:
    """Two responses of probability 1/2. Best of 2: the better has 3/4, the other 1/4; equal ones stay as they are."""
    half = np.array([0.5, 0.5])
    # 3/4 log(3/2) + 1/4 log(1/2) = .304099 - .173287 = .130812, below the bound log 2 - 1/2 = .193147
    assert best_of_n_kl(half, np.array([0.0, 1.0]), 2) == pytest.approx(0.130812, abs=1e-6)
    assert best_of_n_kl(half, np.array([1.0, 1.0]), 2) == 0.0


def test_bound_by_hand() -> None:
    assert best_of_n_kl_bound(1) == 0.0
    assert best_of_n_kl_bound(4) == pytest.approx(math.log(4) - 0.75)


def test_bad_input_is_one_line() -> None:
    with pytest.raises(BadValue, match="best of 5 given a pool of 4 samples a prompt"):
        rank_weights(4, 5)
    with pytest.raises(BadValue, match=r"scores \(2, 6\) and values \(1, 6\) given"):
        best_of_n(SCORES, GOLD[:1], 2)
    with pytest.raises(BadValue, match="best of 0 given"):
        best_of_n_kl_bound(0)
    holed = np.array([[1.0, math.nan], [1.0, 2.0]])
    assert best_of_n(holed, holed, 2).tolist() == [pytest.approx(math.nan, nan_ok=True), 2.0]


def test_a_value_that_is_not_finite_is_no_number_wherever_it_is() -> None:
    scores = np.array([[1.0, 2.0, 3.0]])
    for values in ([np.inf, 2.0, 3.0], [1.0, 2.0, np.inf], [1.0, np.nan, 3.0]):
        assert np.isnan(best_of_n(scores, np.array([values]), 2)).all()
