"""Effect sizes, the prompts that a difference needs, and tests that hold their level."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

from rlhf_bench import stats
from rlhf_bench.errors import BadValue
from rlhf_bench.stats.compare import effect_size


def test_effect_size_by_hand() -> None:
    # mean 2, sd 1; the sign is that of a - b
    assert stats.difference([2.0, 4.0, 6.0], [1.0, 2.0, 3.0]).effect == 2.0
    assert stats.difference([1.0, 2.0, 3.0], [2.0, 4.0, 6.0]).effect == -2.0
    assert math.isnan(effect_size(np.ones(4)))
    assert math.isnan(effect_size(np.ones(1)))


def test_prompts_needed_by_the_tables() -> None:
    # Cohen 1988 / G*Power, paired t test, two-sided 5 %, power 80 %: d_z 0.2, 0.5, 0.8 need 199, 34, 15 pairs
    pilot = np.array([[-1.0, 1.0] * 50])
    pilot /= pilot.std(ddof=1)
    assert [stats.prompts_needed(pilot, d) for d in (0.2, 0.5, 0.8)] == [199, 34, 15]
    assert stats.prompts_needed(pilot, 0.5, power=0.9) == 44
    assert stats.prompts_needed(3 * pilot, 1.5) == 34
    assert stats.prompts_needed(np.zeros((1, 9)), 0.1) is None  # nothing varies, so nothing is known
    assert stats.prompts_needed(pilot[:, :1], 0.1) is None


def test_prompts_needed_agrees_with_detectable() -> None:
    pilot = np.random.default_rng(0).standard_normal((3, 150)) + np.array([[-0.1], [0.0], [0.1]])
    found = stats.crossed_difference(pilot, np.zeros_like(pilot))
    assert stats.prompts_needed(pilot, found.detectable * 1.0001) == 150


def test_seeds_set_a_floor_that_no_prompts_get_under() -> None:
    pilot = np.random.default_rng(0).standard_normal((3, 150)) + np.array([[-1.0], [0.0], [1.0]])
    assert stats.prompts_needed(pilot, 0.5) is None  # se of the seeds alone: 1 / sqrt(3), with 2 degrees of freedom
    assert stats.prompts_needed(pilot, 5.0) is not None


@pytest.mark.parametrize("size", [0.0, -1.0, math.nan, math.inf])
def test_a_difference_that_is_none(size: float) -> None:
    with pytest.raises(BadValue, match="expected a number above 0"):
        stats.prompts_needed(np.zeros((1, 3)), size)


def test_the_same_model_twice_is_called_different_in_at_most_6_5_percent_of_tables() -> None:
    """500 tables of 100 prompts x 4 samples, with an effect of the prompt; 5 % with a standard error of 1 %."""
    generator = np.random.default_rng(6)
    claimed = 0
    with stats.resampling(400):
        for _ in range(500):
            prompt = generator.standard_normal((100, 1))
            a, b = prompt + generator.standard_normal((2, 100, 4))
            found = stats.difference(a, b)
            assert (found.p_paired < 0.05) == found.estimate.excludes(0)
            claimed += found.p_paired < 0.05
    assert 0.03 < claimed / 500 <= 0.065


def test_holm_holds_its_level_over_all_pairs_of_five_models() -> None:
    """1,000 tables of five models alike, 10 pairs: some pair is called different in at most 6.5 %; uncorrected in
    more than 20 %. With one model better by far, its pairs are found and the level holds over the others."""
    generator = np.random.default_rng(8)
    pairs = [(i, j) for i in range(5) for j in range(i)]
    x = generator.standard_normal((5, 1_000, 60)) + generator.standard_normal((1_000, 60))
    alike = _p_values(x, pairs)
    adjusted = np.array([stats.holm(list(row)) for row in alike])
    assert (adjusted.min(axis=1) < 0.05).mean() <= 0.065
    assert (alike.min(axis=1) < 0.05).mean() > 0.2
    x[4] += 3.0
    adjusted = np.array([stats.holm(list(row)) for row in _p_values(x, pairs)])
    of_the_better = np.array([i == 4 for i, _ in pairs])
    assert (adjusted[:, of_the_better] < 0.05).all()
    assert (adjusted[:, ~of_the_better].min(axis=1) < 0.05).mean() <= 0.065


def _p_values(x: stats.FloatArray, pairs: list[tuple[int, int]]) -> stats.FloatArray:
    """(models, tables, prompts) -> (tables, pairs), by scipy's paired t test."""
    return np.stack([scipy_stats.ttest_rel(x[i], x[j], axis=1).pvalue for i, j in pairs], axis=1)
