"""Win rates: golden values, both ends, bounds; and AlpacaEval's numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from rlhf_bench.annotations.alpaca import alpaca_numbers, annotations_text
from rlhf_bench.errors import DataError
from rlhf_bench.judge.analysis.pairs import fold, win_rates
from rlhf_bench.stats.bounded import bounded_mean

from .make_verdicts import pairs_frame, table


def test_a_win_rate_worked_by_hand():
    # prompts: win, win, loss, disagreement, unreadable with the other order won. Of the orders won in read pairs, four
    # are in wins and one in a tie: the fifth counts (4 * 1 + .5) / 5 = .9, and the rate is (1 + 1 + 0 + .5 + .9) / 5
    # if the unread order spoke against the model the fifth is a tie, .5: 3 / 5 = .6; for it a win: 3.5 / 5 = .7
    whats = [("win", "win"), ("win", "win"), ("loss", "loss"), ("win", "loss"), ("win", "unreadable")]
    (rate,) = win_rates(fold(table(whats)))
    assert (rate.model, rate.baseline) == ("ppo", "base")
    assert (rate.estimate.value, rate.estimate.n, rate.estimate.n_missing) == (pytest.approx(0.68), 5, 0)
    assert (rate.lowest, rate.highest) == (pytest.approx(0.6), pytest.approx(0.7))
    assert rate.counts == {
        "pairs": 5,
        "wins": 2,
        "losses": 1,
        "agree": 3,
        "tie": 0,
        "win_tie": 0,
        "disagree": 1,
        "refused": 0,
        "unreadable": 1,
        "failed": 0,
        "missing": 0,
    }
    assert rate.soft is None
    assert rate.estimate.value == pytest.approx(0.68)


@pytest.mark.parametrize("n", [1, 5, 40])
def test_all_won_and_all_lost_are_exact_and_never_of_zero_width(n):
    for value, what in ((1.0, "win"), (0.0, "loss"), (0.5, "tie")):
        (rate,) = win_rates(fold(table([(what, what)] * n)))
        assert rate.estimate.value == value
        assert rate.estimate.high - rate.estimate.low > 0.05
    # all of 40 lost: Clopper-Pearson's upper limit is 1 - .025^(1/40) = .088097
    if n == 40:
        (rate,) = win_rates(fold(table([("loss", "loss")] * n)))
        assert (rate.estimate.low, rate.estimate.high) == (0.0, pytest.approx(0.088097, abs=1e-6))
        assert rate.p_paired == pytest.approx(2.0**-39)


def test_many_prompts_give_an_interval_close_to_students_t():
    outcome = np.random.default_rng(0).choice([0.0, 0.5, 1.0], size=(1, 200, 1), p=[0.3, 0.2, 0.5])
    (rate,) = win_rates(pairs_frame(outcome))
    low, high = stats.t.interval(0.95, 199, outcome.mean(), stats.sem(outcome.ravel()))
    assert rate.estimate.value == outcome.mean()
    assert (rate.estimate.low, rate.estimate.high) == pytest.approx((low, high), abs=0.006)  # a tenth of the half width
    assert rate.p_paired == pytest.approx(stats.ttest_1samp(outcome.ravel(), 0.5).pvalue, abs=0.005)


def test_prompts_are_the_unit_and_seeds_are_crossed():
    rng = np.random.default_rng(1)
    by_prompt = rng.random((1, 100, 1))
    outcome = (rng.random((3, 100, 4)) < by_prompt).astype(float)
    (rate,) = win_rates(pairs_frame(outcome))
    assert (rate.estimate.n, rate.estimate.n_seeds) == (100, 3)
    assert rate.estimate.value == pytest.approx(outcome.mean())
    assert list(rate.per_seed) == ["0", "1", "2"]
    assert rate.per_seed["2"].value == pytest.approx(outcome[2].mean())
    # 1,200 rows as if they were independent would give 1.96 * .5 / sqrt(1200) = .028 on either side
    assert rate.estimate.high - rate.estimate.value > 0.045


def test_holm_is_over_the_rows_of_the_table():
    rng = np.random.default_rng(2)
    frames = [pairs_frame((rng.random((1, 60, 1)) < p).astype(float), model=f"m{p}") for p in (0.5, 0.65, 0.9)]
    rates = win_rates(pd.concat(frames))
    assert [rate.model for rate in rates] == ["m0.5", "m0.65", "m0.9"]
    assert rates[2].p_holm == pytest.approx(3 * rates[2].p_paired)
    assert rates[0].p_holm == pytest.approx(max(rates[0].p_paired, 2 * rates[1].p_paired))


def test_nothing_read_gives_no_number_but_the_bounds():
    (rate,) = win_rates(fold(table([("unreadable", "unreadable")] * 12)))
    assert (rate.estimate.n, rate.lowest, rate.highest, rate.counts["unreadable"]) == (0, 0.0, 1.0, 12)
    assert math.isnan(rate.estimate.value)
    assert win_rates(fold(table([("win", "win")]).iloc[:0])) == []


def test_soft_preferences_have_a_number_of_their_own():
    (rate,) = win_rates(pairs_frame(np.full((1, 20, 1), 0.5)).assign(soft=0.7))
    assert rate.soft is not None
    assert (rate.estimate.value, rate.soft.value) == (0.5, pytest.approx(0.7))


def test_a_share_near_an_end_covers_what_it_should():
    """True rate .97 on 40 prompts: at most 5 % of the exact intervals may miss it."""
    rng = np.random.default_rng(3)
    missed = [bounded_mean((rng.random((1, 40, 1)) < 0.97).astype(float)).excludes(0.97) for _ in range(400)]
    assert np.mean(missed) <= 0.05


# AlpacaEval


def test_a_share_near_an_end_allows_for_seeds_that_differ():
    """Two seeds win all of 40 prompts, the third loses 8: the seeds' means 1, 1, .8 have a standard error of .0667,
    times t(2) = 4.303: .287 below .933; Clopper and Pearson's lower limit for 37.33 of 40 is above .78."""
    outcome = np.ones((3, 40, 1))
    outcome[2, :8] = 0.0
    found = bounded_mean(outcome)
    assert found.value == pytest.approx(0.9333, abs=1e-4)
    assert found.low == pytest.approx(0.9333 - 0.287, abs=0.01)
    assert found.high == 1.0
    alike = bounded_mean(np.repeat(outcome[2:], 3, axis=0))  # seeds that do not differ say nothing of new ones
    assert (alike.method, alike.n_seeds) == ("clopper-pearson", 3)


def test_alpaca_numbers_worked_by_hand():
    # 2, 1, 1.5, 0 (read as 1.5), 1.9; null and 3 are dropped. preference - 1: 1, 0, .5, .5, .9: mean .58
    # deviations .42, -.58, -.08, -.08, .32: squares sum .628; sd = sqrt(.628/4) = .396232; / sqrt 5 = .177200
    rows = [{"preference": p} for p in (2, 1.0, 1.5, 0, 1.9, None, 3)]
    found = alpaca_numbers(rows)
    assert found["win_rate"] == pytest.approx(58.0)
    assert found["standard_error"] == pytest.approx(17.7200, abs=1e-3)
    assert found["discrete_win_rate"] == pytest.approx(60.0)  # (2 + 2 / 2) / 5
    assert (found["n_wins"], found["n_wins_base"], found["n_draws"], found["n_total"], found["n_dropped"]) == (
        2,
        1,
        2,
        5,
        2,
    )


def test_alpaca_numbers_of_nothing_and_of_one():
    assert math.isnan(alpaca_numbers([])["win_rate"])
    one = alpaca_numbers([{"preference": 2}, {"preference": math.nan}])
    assert (one["win_rate"], one["n_total"], one["n_dropped"]) == (100.0, 1, 1)
    assert math.isnan(one["standard_error"])


def test_annotations_that_are_none(tmp_path):
    with pytest.raises(DataError, match="annotation 2 has no 'preference'"):
        alpaca_numbers([{"preference": 1}, {"winner": "a"}])
    path = tmp_path / "annotations.json"
    for text, words in (
        ("{", "not JSON"),
        ("[1]", "row 1 is int"),
        ("[]", "holds no row"),
    ):
        path.write_text(text)
        with pytest.raises(DataError, match=words):
            annotations_text(path)
    with pytest.raises(DataError, match="does not exist"):
        annotations_text(tmp_path / "nowhere.json")
    path.write_text('[{"preference": 2.0, "instruction": "x"}]')
    assert annotations_text(path).splitlines()[1].split()[:6] == ["model", "baseline", "100.00", "nan", "100.00", "1"]


def unread_runs(rate: float = 0.88, share: float = 0.05, runs: int = 100) -> Iterator[tuple[float, pd.DataFrame]]:
    """(true win rate, rows): a judge of 40 prompts, 5 % of its orders unread at random."""
    rng = np.random.default_rng(7)
    for _ in range(runs):
        wins = rng.random((40, 2)) < np.sqrt(rate)
        whats = np.where(rng.random((40, 2)) < share, "unreadable", np.where(wins, "win", "loss"))
        yield float(np.sqrt(rate)), table([(str(a), str(b)) for a, b in whats])


def test_win_rates_with_unread_orders_lie_within_their_bounds():
    """The outcome of a pair is the mean of its orders here (1 and 1, 0.5, 0): its mean is the rate of an order."""
    covered = []
    for truth, rows in unread_runs():
        (rate,) = win_rates(fold(rows))
        assert rate.lowest <= rate.estimate.value <= rate.highest
        assert rate.estimate.low <= rate.lowest
        assert rate.highest <= rate.estimate.high
        covered.append(not rate.estimate.excludes(truth))
    assert np.mean(covered) >= 0.95


def test_a_read_order_settles_what_it_can():
    # every pair: one order read, a loss; the other unread. Each outcome is in [0, .5]: not 0, as a lost pair would be
    (rate,) = win_rates(fold(table([("loss", "unreadable")] * 30)))
    assert (rate.lowest, rate.highest) == (0.0, 0.5)
    assert (rate.estimate.low, rate.estimate.value) == (0.0, 0.25)
    assert 0.5 < rate.estimate.high < 0.7
    (rate,) = win_rates(fold(table([("tie", "unreadable")] * 30)))  # whatever the other order, a tie
    assert rate.lowest == rate.highest == rate.estimate.value == 0.5


def test_pairs_that_were_not_judged_do_not_count():
    asked = [("win", "win")] * 10 + [("loss", "loss")] * 10
    (some,) = win_rates(fold(table([*asked, *[("missing", "missing")] * 20])))
    (all_,) = win_rates(fold(table(asked)))
    assert some.estimate == all_.estimate
    assert some.counts["missing"] == 20
