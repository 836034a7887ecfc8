"""The mark ‡: in which regimes it is set, and that it names the numbers."""

from __future__ import annotations

import numpy as np
import pytest

from rlhf_bench import stats
from rlhf_bench.stats.cautions import Shown, caution_notes, has_long_tails, near_an_end
from rlhf_bench.stats.resample import excess_kurtosis
from rlhf_bench.types import Estimate


def at(value: float, n: int = 150, *, seeds: int = 1, kurtosis: float | None = None) -> Estimate:
    return Estimate(value, value, value, n, n_seeds=seeds, kurtosis=kurtosis)


def test_excess_kurtosis_by_hand() -> None:
    """-1, 1: m4 = m2 = 1. One 3 among 9 zeros: mean .3, m2 .81, m4 (2.7^4 + 9 * .3^4) / 10 = 5.3217, over .6561."""
    assert excess_kurtosis(np.array([-1.0, 1.0])) == -2
    assert excess_kurtosis(np.array([3.0] + [0.0] * 9)) == pytest.approx(5.3217 / 0.6561 - 3)
    assert excess_kurtosis(np.ones(5)) is None
    assert excess_kurtosis(np.array([1.0])) is None


def test_an_estimate_of_long_tails_knows_it() -> None:
    g = np.random.default_rng(0)
    normal = g.standard_normal((2, 150))
    heavy = normal + np.eye(2, 150) * 50  # one prompt of each carries the number
    for values, long in ((normal, False), (heavy, True)):
        a, b = values
        assert has_long_tails(stats.mean_estimate(a)) is long
        assert has_long_tails(stats.difference(a, b).estimate) is long
        assert has_long_tails(stats.ratio_estimate(a, np.ones(150))) is long
        assert has_long_tails(stats.crossed(values)) is long
        assert has_long_tails(stats.crossed_difference(values, np.zeros((2, 150))).estimate) is long
    many = np.tile(heavy[0], 10)
    assert not has_long_tails(stats.mean_estimate(many))  # 1,500 prompts: the published coverage is that of light tails
    assert not has_long_tails(stats.std_estimate(heavy[0]))  # squares always have: it says nothing of the interval


def test_near_an_end_is_fewer_than_ten_prompts_of_the_rarer_kind() -> None:
    assert not near_an_end(at(0.1, 100))
    assert near_an_end(at(0.09, 100))
    assert near_an_end(at(0.91, 100))
    assert near_an_end(at(1.0, 5_000))


def test_notes_name_the_numbers_of_each_regime() -> None:
    numbers = [
        Shown("KL", "ppo", at(3.0, kurtosis=6.5)),
        Shown("KL", "dpo", at(3.0, kurtosis=40.0)),
        Shown("KL", "sft", at(3.0, kurtosis=6.0)),  # not above the limit
        Shown("Gold", "ppo", at(3.0, kurtosis=None)),
        Shown("Ended", "dpo", at(0.99, kurtosis=90.0), is_share=True, near_an_end=True),
    ]
    assert caution_notes(numbers) == [
        "‡ Long tails, a few prompts carry the number: KL of ppo, dpo: some 90 to 94 % of cases; see docs/coverage.md",
        "‡ Near 0 or 1: Ended of dpo: 86 to 100 % of cases; see docs/coverage.md",
    ]
    assert caution_notes([Shown("KL", "sft", at(3.0, kurtosis=1.0))]) == []
    (note,) = caution_notes([Shown("KL", f"m{i}", at(3.0, kurtosis=9.0)) for i in range(8)])
    assert "KL of m0, m1, m2, m3, m4, m5 and 2 more: " in note


@pytest.mark.parametrize(
    ("estimate", "only"),
    [
        (at(0.0, 99), "‡ Only 99 prompts: "),
        (at(0.0, 30, seeds=2), "‡ Only 30 prompts: "),
    ],
)
def test_few_prompts(estimate: Estimate, only: str) -> None:
    note, *more = caution_notes([Shown("Ended", "dpo", estimate, is_share=True, near_an_end=True)])
    assert note.startswith(only)
    assert not more  # the note on few prompts is there already


def test_enough_of_both_and_nothing_at_all() -> None:
    assert caution_notes([Shown("KL", "ppo", at(0.0, 100))]) == []
    assert caution_notes([Shown("KL", "ppo", at(0.0, 100, seeds=2))]) == []  # wide, not wrong
    assert caution_notes([]) == []
    assert caution_notes([Shown("KL", "ppo", at(float("nan"), 1))]) == []  # no interval, so none that covers badly
