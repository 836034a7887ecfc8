"""What a reward model pays for, slices, and findings: by hand, against an oracle, and by small simulations."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest
from scipy import special
from statsmodels.genmod.families import Binomial
from statsmodels.genmod.generalized_linear_model import GLM

from rlhf_bench.audit.discovered_words import discovered_words
from rlhf_bench.audit.findings import examine, sentence
from rlhf_bench.audit.promise import Promise, promised
from rlhf_bench.audit.regression import fit_temperature, payments
from rlhf_bench.audit.regression_fit import groups_of
from rlhf_bench.audit.slices import discovered_slices, measure_slice
from rlhf_bench.errors import BadValue
from rlhf_bench.scorers.features import FEATURES
from rlhf_bench.stats import FloatArray

PLANTED = runpy.run_path(str(Path(__file__).parents[3] / "benchmarks" / "planted_faults.py"))


def world(seed: int, *, n: int = 600, fault: float = 0.0, noise: float = 0.5) -> tuple[FloatArray, FloatArray]:
    """Differences (n, 4) and margins (n,), chosen minus rejected: worth is x0 - 0.5 x1, the reward adds `fault` x2."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 4))
    worth = x[:, 0] - 0.5 * x[:, 1]
    sign = np.where(rng.random(n) < special.expit(worth), 1.0, -1.0)
    return x * sign[:, None], sign * (worth + fault * x[:, 2] + noise * rng.normal(size=n))


NAMES = list("abcd")


def test_temperature_by_hand() -> None:
    """Margins of 2 that are right in 3 of 4: sigmoid(2 / T) = 3/4, T = 2 / ln 3."""
    assert fit_temperature(np.array([2.0, 2.0, 2.0, -2.0])) == pytest.approx(2 / np.log(3), rel=1e-4)


def test_coefficients_are_those_of_statsmodels() -> None:
    x, margins = world(0)
    found = payments(x, margins, NAMES, [str(i) for i in range(len(x))])
    scaled = x / np.sqrt((x**2).mean(axis=0))
    share = special.expit(margins / found.temperature)
    for outcome, name in ((np.ones(len(x)), "labels"), (share, "model")):
        oracle = GLM(outcome, scaled, family=Binomial()).fit()
        assert [getattr(row, name) for row in found.coefficients] == pytest.approx(oracle.params.tolist(), abs=2e-3)


def test_swapping_the_sides_changes_nothing() -> None:
    """A pair whose sides are swapped has both signs changed, and a label of 0: the same likelihood, so only the order
    of pairs may matter, and does not."""
    x, margins = world(1)
    first = payments(x, margins, NAMES, [str(i) for i in range(len(x))])
    turned = payments(x[::-1], margins[::-1], NAMES, [str(i) for i in range(len(x))])
    assert [row.model for row in turned.coefficients] == pytest.approx([row.model for row in first.coefficients])


def test_a_fault_is_the_difference_and_noise_is_none() -> None:
    x, margins = world(2, fault=1.0)
    rows = {row.feature: row for row in payments(x, margins, NAMES, [str(i) for i in range(len(x))]).coefficients}
    assert rows["c"].p < 1e-4
    assert rows["c"].difference_low > 0
    assert min(rows[name].p for name in "abd") > 0.01
    noisy = payments(*world(3, noise=3.0), NAMES, [str(i) for i in range(len(x))])
    assert noisy.attenuation < 0.5  # pays less for everything
    assert min(row.p for row in noisy.coefficients) > 0.01


def test_the_intervals_of_differences_cover() -> None:
    """300 worlds without a fault: 0 is covered in 93 to 97 %, less and more twice the simulation's own error, 1.3."""
    covered = []
    for seed in range(300):
        x, margins = world(seed, n=300)
        rows = payments(x, margins, NAMES, [str(i) for i in range(len(x))]).coefficients
        covered += [row.difference_low <= 0 <= row.difference_high for row in rows]
    assert 0.925 <= np.mean(covered) <= 0.975


def test_noisy_labels_are_not_taken_for_attenuation() -> None:
    """60 worlds of 150 pairs without a fault. The labels' prices are noisy there: least squares on them gives a factor
    of .59 in place of .77, and would call a feature paid for wrongly in 15 of 60 worlds (p < .05 / 10)."""
    prices = np.array([0.8, 0.6, 0.5, -0.3, -0.3, 0.3, 0, 0, 0, 0])
    names, prompts = [f"x{k}" for k in range(10)], [str(i) for i in range(150)]
    factors, false = [], 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        x = rng.normal(size=(150, 10)) * (rng.random((150, 10)) < 0.4) / 0.63
        worth = x @ prices
        sign = np.where(rng.random(150) < special.expit(worth), 1.0, -1.0)
        found = payments(x * sign[:, None], sign * (worth + 0.5 * rng.normal(size=150)), names, prompts)
        factors.append(found.attenuation)
        false += min(row.p for row in found.coefficients) < 0.005
    assert np.median(factors) == pytest.approx(0.77, abs=0.06)
    assert false <= 7


def test_copies_of_pairs_of_a_prompt_add_no_certainty() -> None:
    x, margins = world(4, n=200)
    once = payments(x, margins, NAMES, [str(i) for i in range(200)]).coefficients
    index = np.repeat(np.arange(200), 4)
    four = payments(x[index], margins[index], NAMES, [str(i) for i in index]).coefficients
    for a, b in zip(once, four, strict=True):
        assert b.difference_high - b.difference_low == pytest.approx(a.difference_high - a.difference_low, rel=0.05)


@pytest.mark.parametrize("own", [0.05, 0.0])
def test_two_features_that_are_one_are_collinear(own: float) -> None:
    x, margins = world(5)
    x[:, 3] = x[:, 2] + own * x[:, 3]
    rows = payments(x, margins, NAMES, [str(i) for i in range(len(x))]).coefficients
    assert [row.is_collinear for row in rows] == [False, False, True, True]


def fixed(probability: float, n: int) -> Promise:
    """A promise that no label moves."""
    none = np.zeros((n, 0))
    return Promise(np.full(n, probability), none, none, none)


def test_a_slice_by_hand() -> None:
    """40 pairs in it, 30 right, promised .9 each: gap .75 - .9 = -.15; outside all 40 are right. Squares of
    deviations are 30 of .0625 and 10 of .5625, together 7.5, those of squares 3.28125: the standard error is
    sqrt(7.5 * 80 / 79) / 40 = .068897, and the quantile of t with 7.5^2 / 3.28125 - 1 = 16.14 degrees 2.118382."""
    margins = np.array([1.0] * 30 + [-1.0] * 10 + [1.0] * 40)
    mask, prompts = np.arange(80) < 40, [str(i) for i in range(80)]
    found = measure_slice("x", mask, margins, fixed(0.9, 80), groups_of(prompts))
    assert found is not None
    assert (found.n, found.inside.value, found.outside.value) == (40, 0.75, 1.0)
    assert found.gap == pytest.approx(-0.15)
    assert found.gap_high == pytest.approx(-0.15 + 2.118382 * 0.068897, abs=1e-5)
    # (30.5 / 10.5) / (40.5 / 0.5)
    assert found.odds_ratio == pytest.approx(0.0358613, abs=1e-6)
    assert measure_slice("x", np.arange(80) < 29, margins, fixed(0.9, 80), groups_of(prompts)) is None
    # among the first 69 pairs only 29 are outside
    assert measure_slice("x", mask, margins, fixed(0.9, 80), groups_of(prompts), among=np.arange(80) < 69) is None


def test_where_all_are_right_the_promise_says_how_large_the_error_is() -> None:
    """40 of 40 right, promised .9: sqrt(.9 * .1 / 40) = .047434 in place of 0, and t with 39 degrees of freedom."""
    found = measure_slice("x", np.arange(80) < 40, np.ones(80), fixed(0.9, 80), np.arange(80))
    assert found is not None
    assert found.gap_high - found.gap == pytest.approx(2.022691 * 0.047434, abs=1e-5)


def test_what_is_promised_is_kept_where_nothing_is_wrong() -> None:
    """Margins that are the log odds of the labels, so slope 1 and no features: promised is sigmoid(|margin|)."""
    rng = np.random.default_rng(0)
    worth = rng.normal(size=20_000)
    margins = np.where(rng.random(20_000) < special.expit(worth), worth, -worth)
    promise = promised(margins, np.zeros((20_000, 1)))
    assert promise.probability == pytest.approx(special.expit(np.abs(margins)), abs=0.02)


def test_a_promise_follows_margins_that_are_too_sure() -> None:
    """Log odds w give margins w |w|: a straight line would promise 72 % in place of 75 % where |w| is .5 to 1.5."""
    rng = np.random.default_rng(0)
    worth = rng.normal(size=20_000)
    worth = np.where(rng.random(20_000) < special.expit(worth), worth, -worth)
    promise = promised(worth * np.abs(worth), np.zeros((20_000, 1))).probability
    middle = (np.abs(worth) > 0.5) & (np.abs(worth) < 1.5)
    assert promise[middle].mean() == pytest.approx(special.expit(np.abs(worth[middle])).mean(), abs=0.01)


def test_the_intervals_of_slices_cover() -> None:
    """200 worlds without a fault, six slices each: 0 is covered in 93 to 97 %, less and more twice the simulation's own
    error, 1. An error that takes the promise as known would cover 99 %."""
    covered = []
    for seed in range(200):
        x, margins = world(seed, n=400)
        promise = promised(margins, x)
        preferred = x * np.sign(margins)[:, None]
        for k in range(3):
            for mask in (preferred[:, k] > 0, preferred[:, k] < 0):
                found = measure_slice("x", mask, margins, promise, np.arange(400))
                assert found is not None
                covered.append(found.gap_low <= 0 <= found.gap_high)
    assert 0.92 <= np.mean(covered) <= 0.98


def test_a_slice_is_discovered_on_one_half_and_measured_on_the_other() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=2000)
    margins = np.where((x > 0.5) & (rng.random(2000) < 0.5), -1.0, 1.0)
    prompts = [str(i) for i in range(2000)]
    found, masks = discovered_slices({"x": x}, margins, fixed(0.85, 2000), prompts)
    worst = min(found, key=lambda row: row.gap)
    assert worst.name.startswith("x > 0.")
    assert worst.inside.value == pytest.approx(0.5, abs=0.08)
    assert sum(row.n for row in found) == 1000  # the other half, whole
    assert sum(mask.sum() for mask in masks.values()) == 2000  # of both halves
    assert x[masks[worst.name]].min() > x[~masks[worst.name]].max()


@pytest.fixture(scope="module")
def pool() -> object:
    return PLANTED["pool"](1500, 0)


@pytest.mark.parametrize("fault", ["exclamation", "list form", "refusing nothing"])
def test_a_planted_fault_is_the_first_finding(fault: str, pool: object) -> None:
    names = [PLANTED["one"](pool, fault, 1.0, seed)[0] for seed in range(3)]
    assert names == [PLANTED["FAULTS"][fault][0]] * 3


def test_a_word_that_the_reward_pays_for_is_found_on_each_half_and_measured_on_the_other() -> None:
    """600 pairs of three words each of twelve; labels are drawn from one feature's worth, the reward adds "zeta"."""
    rng = np.random.default_rng(0)
    words = ["zeta", *(f"word{c}" for c in "abcdefghijk")]
    sides = [[" ".join(rng.choice(words, 3, replace=False)) for _ in range(600)] for _ in range(2)]
    x = rng.normal(size=600)
    sign = np.where(rng.random(600) < special.expit(1.5 * x), 1.0, -1.0)
    extra = np.array([("zeta" in a) - ("zeta" in b) for a, b in zip(*sides, strict=True)])
    chosen = [a if s > 0 else b for a, b, s in zip(*sides, sign, strict=True)]
    rejected = [b if s > 0 else a for a, b, s in zip(*sides, sign, strict=True)]
    margins = sign * (1.5 * x + extra + 0.3 * rng.normal(size=600))
    found = discovered_words([str(i) for i in range(600)], chosen, rejected, (sign * x)[:, None], margins)
    first, second = sorted(found.coefficients, key=lambda row: row.p)[:2]
    assert (first.feature, first.p < 1e-4) == ("the word 'zeta'", True)
    assert second.p > 0.005
    assert found.confirmed == ["the word 'zeta'"]
    assert found.differences[:, 0].tolist() == (sign * extra).tolist()


def test_a_feature_that_goes_with_a_word_is_not_charged_for_it() -> None:
    """The reward pays for a word that comes in a sentence of four: length has p < .05 / 50 in most resamples where the
    word takes no part in the regression of features."""
    data = PLANTED["pool"](3000, 5)
    names = [PLANTED["one"](data, "a word", 0.7, seed)[0] for seed in (24, 25, 31, 39, 46, 49)]
    assert names == ["the word 'basically'"] * 6


def test_a_clean_reward_has_hardly_a_finding(pool: object) -> None:
    assert sum(PLANTED["one"](pool, None, 0.0, seed)[1] > 0 for seed in range(8)) <= 1


def test_a_finding_says_both_prices() -> None:
    x, margins = world(2, fault=1.0)
    row = payments(x, margins, ["length", *"bcd"], [str(i) for i in range(len(x))]).coefficients[0]
    assert f"Pays {row.model:.2f} logits for a standard deviation of length" in sentence(row)
    assert f"the labels pay {row.labels:.2f}" in sentence(row)


def test_all_tests_are_one_family() -> None:
    rng = np.random.default_rng(0)
    chosen = [" Yes!" if rng.random() < 0.5 else " Perhaps it may be so." for _ in range(200)]
    rejected = [" No. It is not." if rng.random() < 0.5 else " Why?" for _ in range(200)]
    found = examine([str(i) for i in range(200)], chosen, rejected, rng.normal(size=200))
    assert {entry.name for entry in found.family if entry.kind == "feature"} <= set(FEATURES)
    parts = (found.payments.coefficients, found.words, found.slices, found.discovered)
    assert len(found.family) == sum(map(len, parts))
    assert [entry.q for entry in found.family] == sorted(entry.q for entry in found.family)
    assert found.too_small  # numbers in digits are in no response


@pytest.mark.parametrize(
    ("n", "chosen", "margins", "message"),
    [
        (40, " a", np.ones(39), "expected as many of each"),
        (40, " a", np.full(40, np.nan), "margin of pair 0 is not finite"),
        (40, " b", np.ones(40), "no pair has two different texts"),
        (20, " a", np.ones(20), "needs 30 or more"),
        (40, " a", np.zeros(40), "same score"),
    ],
)
def test_bad_input(n: int, chosen: str, margins: FloatArray, message: str) -> None:
    with pytest.raises(BadValue, match=message):
        examine([str(i) for i in range(n)], [chosen] * n, [" b"] * n, margins)
