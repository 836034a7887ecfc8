"""The price of a feature that hardly any rejected side has: by hand, and how often its test and intervals are wrong."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import special, stats

from rlhf_bench.audit.rare_features import OPEN, score_test
from rlhf_bench.audit.regression import payments
from rlhf_bench.stats import FloatArray


def test_sixteen_pairs_that_agree_by_hand() -> None:
    """At the price c the score is 16 (1 - p), p = sigmoid(c), and its variance 16 p (1 - p): t = 4 exp(-c / 2).

    At 0 it is 4. The prices that are not rejected end at c = ln(16 / t²), with t = 2.131 at 15 degrees of freedom; they
    are open above. Four copies of each pair, of one prompt each, are no more evidence than one.
    """
    none = np.zeros(16)
    tested = score_test(np.ones((16, 1)), 0, np.arange(16), 0.0, 1.0, none, none)
    assert tested.p == pytest.approx(2 * stats.t.sf(4, 15))
    end = math.log(16 / stats.t.ppf(0.975, 15) ** 2)
    assert tested.labels == pytest.approx((end, OPEN), abs=2e-3)
    assert tested.difference == pytest.approx((-OPEN, -end), abs=2e-3)
    none = np.zeros(64)
    copies = score_test(np.ones((64, 1)), 0, np.repeat(np.arange(16), 4), 0.0, 1.0, none, none)
    assert copies.p == pytest.approx(tested.p)
    assert copies.labels == pytest.approx(tested.labels, abs=2e-3)


def test_a_price_beyond_all_that_labels_can_tell() -> None:
    """A model at .3 over an attenuation of .005 is a price of 60, at which labels that agree are as good as certain."""
    none = np.zeros(16)
    tested = score_test(np.ones((16, 1)), 0, np.arange(16), 0.3, 0.005, none, none)
    assert tested.p == 1.0
    assert math.isnan(tested.se)
    turned = score_test(-np.ones((16, 1)), 0, np.arange(16), 0.3, 0.005, none, none)
    assert turned.p < 1e-10


def world(seed: int, *, paid: float, worth: float = 3.0) -> tuple[FloatArray, FloatArray]:
    """400 pairs; one side in ten has the rare feature: at a worth of 3 labels go against it in some 4 of 70 pairs.

    The reward model pays `paid` for it, and what it should for two other features.
    """
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(400, 3))
    x[:, 2] = (rng.random(400) < 0.1) * 1.0 - (rng.random(400) < 0.1)
    sign = np.where(rng.random(400) < special.expit(x @ np.array([0.8, -0.5, worth])), 1.0, -1.0)
    reward = x @ np.array([0.8, -0.5, paid]) + 0.3 * rng.normal(size=400)
    return x * sign[:, None], sign * reward


def test_its_intervals_cover_and_its_test_is_seldom_wrong() -> None:
    """300 worlds in which the model pays what the labels pay; twice the simulation's own error is 2.5 %."""
    prompts = [str(i) for i in range(400)]
    p, covered, few = [], [], []
    for seed in range(300):
        x, margins = world(seed, paid=3.0)
        few.append(min((x[:, 2] > 0).sum(), (x[:, 2] < 0).sum()) < 10)
        row = payments(x, margins, ["a", "b", "rare"], prompts).coefficients[2]
        p.append(row.p)
        covered.append(row.labels_low <= 3.0 * row.sd <= row.labels_high)
        assert (row.p < 0.05) == (not row.difference_low <= 0 <= row.difference_high)
    assert np.mean(few) > 0.95
    assert np.mean(np.array(p) < 0.05) <= 0.075
    assert 0.925 <= np.mean(covered) <= 0.99


def test_a_model_that_pays_nothing_for_it_is_found() -> None:
    """Where the labels separate, too."""
    prompts = [str(i) for i in range(400)]
    worlds = [world(seed, paid=0.0, worth=5.0) for seed in range(20)]
    assert sum(not (x[:, 2] < 0).any() for x, _ in worlds) >= 5
    rows = [payments(x, margins, ["a", "b", "rare"], prompts).coefficients[2] for x, margins in worlds]
    assert max(row.p for row in rows) < 1e-5
    assert all(row.difference_high < 0 for row in rows)
