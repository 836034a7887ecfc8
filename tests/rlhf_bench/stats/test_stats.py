"""Golden values, by hand or by scipy, of every Estimate; the simulations are in test_stats_coverage.py."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

from rlhf_bench import stats
from rlhf_bench.errors import BadValue
from rlhf_bench.stats.resample import RESAMPLES, resampled_sums
from rlhf_bench.types import Estimate


def numbers(n: int, seed: int = 0) -> stats.FloatArray:
    return np.random.default_rng(seed).standard_normal(n)


# mean


def test_mean_of_few_prompts_is_student_t():
    # mean 2, sd 1, se 1/sqrt(3) = 0.577350, t(0.975, 2) = 4.302653, half width 2.484138
    estimate = stats.mean_estimate([1.0, 2.0, 3.0])
    assert estimate == Estimate(2.0, pytest.approx(-0.484138, abs=1e-6), pytest.approx(4.484138, abs=1e-6), 3)
    low, high = scipy_stats.t.interval(0.9, 2, 2.0, 1 / math.sqrt(3))
    at_90 = stats.mean_estimate([1.0, 2.0, 3.0], level=0.9)
    assert (at_90.low, at_90.high, at_90.level) == (pytest.approx(low), pytest.approx(high), 0.9)


def test_bootstrap_t_of_light_tails_is_close_to_t_and_shifts_and_scales_with_the_data():
    x = numbers(150)
    estimate = stats.mean_estimate(x)
    assert estimate.method == "bootstrap-t"
    low, high = scipy_stats.t.interval(0.95, 149, x.mean(), scipy_stats.sem(x))
    assert estimate.low == pytest.approx(low, abs=0.02)  # 0.02 is a tenth of the half width
    assert estimate.high == pytest.approx(high, abs=0.02)
    moved = stats.mean_estimate(1e6 - 3 * x)  # turned round: what was low is high
    assert moved.low == pytest.approx(1e6 - 3 * estimate.high, abs=0.05)
    assert moved.high == pytest.approx(1e6 - 3 * estimate.low, abs=0.05)


def test_bootstrap_t_reaches_further_into_the_long_tail():
    x = np.exp(numbers(30))
    estimate = stats.mean_estimate(x)
    assert estimate.high - estimate.value > 1.5 * (estimate.value - estimate.low)


def test_samples_are_averaged_within_the_prompt_first():
    assert stats.mean_estimate([[1.0, 1.0, 1.0], [2.0], [2.0, 4.0]]) == stats.mean_estimate([1.0, 2.0, 3.0])
    assert stats.mean_estimate(np.array([[0.0, 2.0], [1.0, 3.0], [3.0, 3.0]])).n == 3


def test_a_prompt_without_a_finite_value_is_left_out_and_counted():
    estimate = stats.mean_estimate([[1.0], [math.nan, 2.0], [math.nan], [math.inf], [3.0]])
    assert (estimate.value, estimate.n, estimate.n_missing) == (2.0, 3, 2)
    assert stats.mean_estimate([math.nan, math.nan]).n_missing == 2
    assert stats.mean_estimate([math.nan]).n == 0


def test_all_prompts_alike_is_a_point_and_one_prompt_is_no_interval():
    assert stats.mean_estimate(np.zeros(150)) == Estimate(0.0, 0.0, 0.0, 150, method="constant")
    one = stats.mean_estimate([7.0])
    assert (one.value, one.n, one.method) == (7.0, 1, "none")
    assert math.isnan(one.low)
    assert math.isnan(one.high)


def test_one_odd_prompt_in_many_falls_back_to_t():
    x = np.zeros(150)
    x[7] = 1.0  # e^-1 = 37 % of the resamples miss it and have no spread
    estimate = stats.mean_estimate(x)
    assert estimate.method == "t"
    assert estimate.high == pytest.approx(1 / 150 + scipy_stats.t.ppf(0.975, 149) / 150)  # se = 1/150


def test_same_seed_same_numbers_and_the_global_generator_does_not_matter():
    x = np.exp(numbers(40))
    np.random.seed(1)
    first = stats.mean_estimate(x, seed=3)
    np.random.seed(2)
    np.random.rand(17)
    state = np.random.get_state()[1].copy()
    assert stats.mean_estimate(x, seed=3) == first
    assert stats.mean_estimate(x, seed=4) != first
    assert (np.random.get_state()[1] == state).all()


def test_resamples_have_n_draws_each_and_do_not_depend_on_the_chunks(monkeypatch: pytest.MonkeyPatch):
    features = np.column_stack([np.ones(20), numbers(20)])
    whole = resampled_sums(features, seed=5)
    assert whole.shape == (RESAMPLES, 2)
    assert (whole[:, 0] == 20).all()
    assert whole[:, 1].std() == pytest.approx(math.sqrt(20) * features[:, 1].std(), rel=0.05)
    monkeypatch.setattr("rlhf_bench.stats.resample.CHUNK", 20 * 300)  # 6 chunks of 300 resamples, one of 200
    monkeypatch.setattr("rlhf_bench.stats.resample.PIECE", 20 * 70)  # multiplied 70 at once
    np.testing.assert_allclose(resampled_sums(features, seed=5), whole, atol=1e-12)
    monkeypatch.setattr("rlhf_bench.stats.resample.STORED", 0)  # drawn again, not kept
    np.testing.assert_allclose(resampled_sums(features, seed=5), whole, atol=1e-12)


def test_resampling_sets_the_number_of_bootstraps_inside_alone():
    x = np.exp(numbers(40))
    usual = stats.mean_estimate(x)
    with stats.resampling(500):
        assert resampled_sums(np.ones((40, 1)), seed=0).shape == (500, 1)
        fewer = stats.mean_estimate(x)
        with stats.resampling(RESAMPLES):
            assert stats.mean_estimate(x) == usual
        assert stats.mean_estimate(x) == fewer
    assert fewer != usual
    assert fewer.low == pytest.approx(usual.low, rel=0.1)
    assert stats.mean_estimate(x) == usual
    with pytest.raises(BadValue, match=r"^99 resamples given; expected at least 100"), stats.resampling(99):
        pass


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: stats.mean_estimate([1.0], level=95), "confidence level 95 given"),
        (lambda: stats.mean_estimate(numbers(20), seed=-1), "seed -1 given"),
        (lambda: stats.share_estimate([0.0, 0.5]), "a share was given the value 0.5"),
        (lambda: stats.difference([1.0], [1.0, 2.0]), "1 and 2 prompts given"),
        (lambda: stats.ratio_estimate([1.0], [1.0, 2.0]), "1 numerators and 2 denominators"),
        (lambda: stats.crossed(numbers(4)), r"shape \(4,\) given; expected \(seeds, prompts\)"),
        (lambda: stats.detectable_difference(1.0, 1), "1 prompts given"),
        (lambda: stats.detectable_difference(1.0, 9, power=1.0), "power 1.0 given"),
    ],
)
def test_errors_name_the_value_in_one_line(call, message):
    with pytest.raises(BadValue, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


# share


@pytest.mark.parametrize("ones", [0, 1, 7, 19, 20])
def test_one_sample_a_prompt_is_wilson(ones):
    estimate = stats.share_estimate([1.0] * ones + [0.0] * (20 - ones))
    p, n, z = ones / 20, 20, 1.959963984540054
    centre, half = (p + z**2 / 40) / (1 + z**2 / n), z * math.sqrt(p * (1 - p) / n + z**2 / 1600) / (1 + z**2 / n)
    assert estimate == Estimate(p, pytest.approx(centre - half), pytest.approx(centre + half), 20, method="wilson")


def test_several_samples_all_alike_is_clopper_pearson_with_n_prompts():
    estimate = stats.share_estimate(np.ones((30, 4)))  # n is 30, not 120: 0.025^(1/30) = 0.884297
    assert estimate == Estimate(1.0, pytest.approx(0.884297, abs=1e-6), 1.0, 30, method="clopper-pearson")
    exact = scipy_stats.binomtest(0, 30).proportion_ci(0.95, method="exact")
    none = stats.share_estimate(np.zeros((30, 2)))
    assert (none.low, none.high) == (0.0, pytest.approx(exact.high))


def test_several_samples_are_a_bootstrap_t_over_prompts_within_0_and_1():
    shares = np.repeat([0, 1, 2, 3, 4], 12)  # of 4 samples, 60 prompts
    samples = (np.arange(4)[None, :] < shares[:, None]).astype(float)
    estimate = stats.share_estimate(samples)
    assert estimate.method == "bootstrap-t"
    mean = stats.mean_estimate(shares / 4)
    assert (estimate.value, estimate.low, estimate.high, estimate.n) == (0.5, mean.low, mean.high, 60)
    few = samples.copy()
    few[9:] = 1.0  # only 9 prompts differ from the others
    assert stats.share_estimate(few).method == "clopper-pearson"


def test_share_counts_missing_prompts():
    estimate = stats.share_estimate([[1.0, math.nan], [math.nan, 0.0], [math.nan]])
    assert (estimate.value, estimate.n, estimate.n_missing, estimate.method) == (0.5, 2, 1, "wilson")


# standard deviation and ratios


def test_std_is_of_responses_with_ddof_1():
    # mean 2; squared deviations 4 0 1 1 0 4; 10 / 5 = 2
    estimate = stats.std_estimate([[0.0, 2.0], [1.0, 3.0], [2.0, 4.0]])
    assert (estimate.value, estimate.n) == (pytest.approx(math.sqrt(2)), 3)
    # A = 4, 2, 4, var = 10/6, A_i - 2 var = 2/3, -4/3, 2/3; spread 24/9; se(log sd) = sqrt(1.5 * 24/9) / 20 * 6 / 2...
    # = sqrt(4) / (2 * 10/6 * 6) = 0.1; half width on the log 0.4302653
    assert estimate.low == pytest.approx(math.sqrt(2) * math.exp(-0.4302653))
    assert estimate.high == pytest.approx(math.sqrt(2) * math.exp(0.4302653))


def test_std_interval_resamples_prompts_not_rows():
    prompts = numbers(60)
    alone = stats.std_estimate(prompts)
    copied = stats.std_estimate(np.repeat(prompts[:, None], 4, axis=1))  # four copies tell nothing new
    assert (copied.high / copied.value, copied.n) == (pytest.approx(alone.high / alone.value), 60)
    moved = stats.std_estimate(1e4 + 5 * prompts)
    assert (moved.low, moved.high) == (pytest.approx(5 * alone.low), pytest.approx(5 * alone.high))
    assert stats.std_estimate(np.full((20, 2), 3.0)).method == "constant"
    assert math.isnan(stats.std_estimate([[3.0], [math.nan]]).value)


def test_ratio_is_of_sums_and_its_interval_by_the_delta_method():
    # r = 20/10; a - r b = 0, -2, 2; se = sqrt(3/2 * 8) / 10 = 0.346410; half width 4.302653 * 0.346410 = 1.490483
    estimate = stats.ratio_estimate([4.0, 6.0, 10.0], [2.0, 4.0, 4.0])
    assert (estimate.value, estimate.n) == (2.0, 3)
    assert (estimate.low, estimate.high) == (pytest.approx(0.509517, abs=1e-6), pytest.approx(3.490483, abs=1e-6))
    perplexity = stats.ratio_estimate([4.0, 6.0, 10.0, math.nan], [2.0, 4.0, 4.0, 3.0], exponentiate=True)
    assert perplexity.value == pytest.approx(math.exp(2))
    assert (perplexity.low, perplexity.high) == (pytest.approx(math.exp(0.509517)), pytest.approx(math.exp(3.490483)))
    assert perplexity.n_missing == 1


def test_ratio_over_equal_denominators_is_the_mean():
    a = np.exp(numbers(50))
    mean, ratio = stats.mean_estimate(a / 4), stats.ratio_estimate(a, np.full(50, 4.0))
    assert (ratio.value, ratio.low, ratio.high) == pytest.approx((mean.value, mean.low, mean.high))
    three = pytest.approx(3.0)
    assert stats.ratio_estimate(3 * a, a) == Estimate(three, three, three, 50, method="constant")


# differences


def test_difference_by_hand():
    # 2, 1, 3: mean 2, sd 1, t = 2 sqrt(3) = 3.464102, df 2: p = 1 - t / sqrt(t^2 + 2) = 0.074180
    found = stats.difference([3.0, 3.0, 6.0], [1.0, 2.0, 3.0])
    assert (found.estimate.value, found.estimate.n) == (2.0, 3)
    assert found.estimate.low == pytest.approx(-0.484138, abs=1e-6)
    assert found.p_paired == pytest.approx(0.074180, abs=1e-6)
    assert found.p_wilcoxon == 0.25  # all three of one sign: 2 * (1/2)^3


def test_difference_is_paired_and_agrees_with_its_interval():
    common, noise = 10 * numbers(100), 0.5 * numbers(100, 1)
    found = stats.difference(common + noise + 0.1, common)  # +-0.1 around 0.1 beside an sd of 10 between prompts
    assert found.estimate.high - found.estimate.low < 0.25
    assert found.p_paired == pytest.approx(scipy_stats.ttest_1samp(noise + 0.1, 0).pvalue, abs=0.03)  # 2,000 resamples
    assert found.p_wilcoxon == pytest.approx(scipy_stats.wilcoxon(noise + 0.1).pvalue, rel=1e-6)
    for shift in np.linspace(-0.2, 0.2, 41):
        at = stats.difference(noise + shift, np.zeros(100))
        assert (at.p_paired < 0.05) == at.estimate.excludes(0.0)
    back = stats.difference(common, common + noise + 0.1)
    assert back.estimate.value == pytest.approx(-found.estimate.value)


def test_difference_beyond_the_resolution_of_the_resamples_uses_the_tail_of_t():
    x = numbers(100) + 2
    assert stats.difference(x, np.zeros(100)).p_paired == pytest.approx(scipy_stats.ttest_1samp(x, 0).pvalue)


def test_a_level_that_the_resamples_cannot_reach_has_a_t_interval():
    """Of 2,000 resamples the outermost is the quantile 1/2,001 of each side, a level of 99.9 %: not of 99.99 %."""
    x = numbers(100)
    assert stats.mean_estimate(x, level=0.999).method == "bootstrap-t"
    found = stats.mean_estimate(x, level=0.9999)
    assert found.method == "t"
    low, high = scipy_stats.t.interval(0.9999, 99, loc=x.mean(), scale=scipy_stats.sem(x))
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))


def test_difference_of_equal_models_and_of_a_constant_gain():
    x = numbers(20)
    same = stats.difference(x, x)
    assert same.estimate == Estimate(0.0, 0.0, 0.0, 20, method="constant")
    assert (same.p_paired, same.p_wilcoxon) == (1.0, None)
    assert math.isnan(same.detectable)  # without spread nothing is known of it: 0 would claim everything
    gain = stats.difference(np.ones(5), np.zeros(5))
    assert gain.p_paired == 2 / 2**5  # sign flips: 2 of the 32
    assert math.isnan(gain.detectable)
    one = stats.difference([1.0, math.nan], [0.0, 0.0])
    assert (one.estimate.n, one.estimate.n_missing) == (1, 1)
    assert math.isnan(one.p_paired)
    assert math.isnan(one.detectable)


def test_holm_by_hand():
    # sorted 0.01 0.02 0.03 0.04 times 4 3 2 1 = 0.04 0.06 0.06 0.04, the last raised to 0.06
    assert stats.holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert stats.holm([0.6, 0.7]) == [1.0, 1.0]
    adjusted = stats.holm([0.01, math.nan, 0.04])  # two tests, not three
    assert adjusted[::2] == pytest.approx([0.02, 0.04])
    assert math.isnan(adjusted[1])
    assert stats.holm([]) == []


def test_detectable_difference_has_the_power_it_claims():
    # Cohen: an effect of half an sd needs 34 pairs for 80 % power (33.4 before rounding up)
    assert stats.detectable_difference(1.0, 33) > 0.5 > stats.detectable_difference(1.0, 34)
    assert stats.detectable_difference(3.0, 34) == pytest.approx(3 * stats.detectable_difference(1.0, 34))
    delta = stats.detectable_difference(1.0, 150, level=0.99, power=0.9)
    critical = scipy_stats.t.ppf(0.995, 149)
    assert scipy_stats.nct.sf(critical, 149, delta * math.sqrt(150)) == pytest.approx(0.9, abs=1e-4)
    # z quantiles 1.959964 + 0.841621 in the limit
    assert stats.detectable_difference(1.0, 1_000_000) == pytest.approx(2.801585e-3, rel=1e-4)


@pytest.mark.parametrize("resamples", [100, 300, 500, 900])
def test_p_and_interval_agree_at_any_number_of_resamples(resamples: int) -> None:
    """(B + 1) 2.5 % is 2.525 at 100 resamples: rounded up to a rank of 3 the interval is too narrow for p."""
    rng = np.random.default_rng(resamples)
    with stats.resampling(resamples):
        for _ in range(150):
            found = stats.difference(rng.standard_normal(15) + 0.55, np.zeros(15))
            low, high = found.estimate.low, found.estimate.high
            assert (found.p_paired < 0.05) == (low > 0 or high < 0)
