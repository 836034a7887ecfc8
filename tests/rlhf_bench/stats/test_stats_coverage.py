"""Simulations: an interval called 95 % holds the truth some 95 times in 100."""

from __future__ import annotations

import math

import numpy as np

from rlhf_bench import stats


def test_light_tails_150_prompts():
    generator = np.random.default_rng(1)
    with stats.resampling(500):
        estimates = [stats.mean_estimate(generator.standard_normal(150)) for _ in range(800)]
    # standard error of a coverage of 0.95 over 800 tables: 0.008
    assert 0.93 < np.mean([not e.excludes(0.0) for e in estimates]) < 0.97


def test_lognormal_30_prompts_bootstrap_t_beats_the_percentile_bootstrap():
    generator = np.random.default_rng(2)
    truth = math.exp(0.5)
    by_t, by_percentile = [], []
    for _ in range(1_000):
        x = generator.lognormal(size=30)
        by_t.append(not stats.mean_estimate(x).excludes(truth))
        means = x[generator.integers(0, 30, (500, 30))].mean(axis=1)
        low, high = np.quantile(means, [0.025, 0.975])
        by_percentile.append(low <= truth <= high)
    # at 93 % and 88 %
    assert np.mean(by_t) > 0.91
    assert np.mean(by_percentile) < 0.90
    assert np.mean(by_t) > np.mean(by_percentile) + 0.02


def test_share_of_several_samples_near_one():
    generator = np.random.default_rng(3)
    held = []
    with stats.resampling(500):
        for _ in range(500):
            p = generator.beta(0.95 * 3, 0.05 * 3, 150)
            estimate = stats.share_estimate((generator.random((150, 4)) < p[:, None]).astype(float))
            held.append(not estimate.excludes(0.95))
    assert np.mean(held) > 0.92


def test_std_and_ratio():
    generator = np.random.default_rng(4)
    spread, ratio = [], []
    with stats.resampling(500):
        for _ in range(300):
            x = generator.standard_normal((150, 1)) + generator.standard_normal((150, 4))
            spread.append(not stats.std_estimate(x).excludes(math.sqrt(2)))
            tokens = generator.integers(5, 80, 150).astype(float)
            nll = tokens * generator.gamma(4, 0.5, 150)
            ratio.append(not stats.ratio_estimate(nll, tokens, exponentiate=True).excludes(math.exp(2)))
    assert 0.91 < np.mean(spread) < 0.985
    assert 0.91 < np.mean(ratio) < 0.985


def test_three_seeds_of_60_prompts():
    generator = np.random.default_rng(5)
    with stats.resampling(200):
        for seed_sd in (0.0, 0.1, 0.3):
            held, nested = [], []
            for _ in range(250):
                cells = (
                    seed_sd * generator.standard_normal((3, 1))
                    + generator.standard_normal((1, 60))
                    + 0.5 * generator.standard_normal((3, 60))
                )
                held.append(not stats.crossed(cells).excludes(0.0))
                nested.append(abs(cells.mean()) < 1.96 * cells.std() / math.sqrt(180))  # as if all were independent
            assert np.mean(held) > 0.92
            assert np.mean(nested) < 0.85
