"""Pearson's correlation against scipy, and its interval against the jackknife."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

from rlhf_bench import stats
from rlhf_bench.errors import BadValue


def test_value_and_interval_of_one_sample_a_prompt_are_scipys() -> None:
    generator = np.random.default_rng(0)
    x = generator.standard_normal(400)
    y = 1e3 - 5 * (0.6 * x + 0.8 * generator.standard_normal(400))  # offset, scale and sign
    found = stats.correlation_estimate(x, y)
    oracle = scipy_stats.pearsonr(x, y)
    assert found.value == pytest.approx(oracle.statistic)
    low, high = oracle.confidence_interval(0.95)  # for normal data; ours assumes none
    assert (found.low, found.high, found.n) == (pytest.approx(low, abs=0.015), pytest.approx(high, abs=0.015), 400)


def test_the_standard_error_is_the_jackknifes() -> None:
    generator = np.random.default_rng(1)
    prompt = generator.standard_normal((60, 1))
    x, y = prompt + generator.standard_normal((2, 60, 4))
    z = [math.atanh(np.corrcoef(np.delete(x, i, 0).ravel(), np.delete(y, i, 0).ravel())[0, 1]) for i in range(60)]
    se = math.sqrt(59 / 60 * ((np.array(z) - np.mean(z)) ** 2).sum())
    found = stats.correlation_estimate(x, y)
    assert found.value == pytest.approx(np.corrcoef(x.ravel(), y.ravel())[0, 1])
    assert math.atanh(found.high) - math.atanh(found.low) == pytest.approx(2 * 1.96 * se, rel=0.1)


def test_missing_constant_and_perfect() -> None:
    nan = math.nan
    found = stats.correlation_estimate([1.0, 2.0, nan, 3.0, 5.0], [1.0, 3.0, 2.0, 2.0, 7.0])
    assert found.value == pytest.approx(np.corrcoef([1, 2, 3, 5], [1, 3, 2, 7])[0, 1])
    assert (found.n, found.n_missing, found.method) == (4, 1, "t")
    assert math.isnan(stats.correlation_estimate(np.ones(20), np.arange(20.0)).value)
    perfect = stats.correlation_estimate(np.arange(20.0), -np.arange(20.0))
    assert (perfect.value, perfect.method) == (pytest.approx(-1.0), "none")
    with pytest.raises(BadValue, match=r"shapes \(3, 1\) and \(2, 1\) given"):
        stats.correlation_estimate(np.zeros(3), np.zeros(2))


@pytest.mark.parametrize("n", [4, 12])
def test_prompts_that_all_say_the_same_have_a_value_and_no_interval(n: int) -> None:
    """Each prompt has x = (1, 3, 5) and y = (1, 3, 2): r = 2 / sqrt(8 * 2) = 0.5."""
    found = stats.correlation_estimate(np.tile([1.0, 3.0, 5.0], (n, 1)), np.tile([1.0, 3.0, 2.0], (n, 1)))
    assert found.value == pytest.approx(0.5)
    assert (math.isnan(found.low), found.method, found.n) == (True, "none", n)
