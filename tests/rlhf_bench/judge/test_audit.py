"""What describes a judge, its planted faults, and how often a good judge is accused."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from rlhf_bench.errors import BadValue
from rlhf_bench.judge.analysis.audit import Labelled, bias_checks, check_biases, judge_rates, repeatability
from rlhf_bench.judge.analysis.pairs import fold
from rlhf_bench.stats.permutation import sign_flip_p, two_group_p

from .make_verdicts import both, row, table


def test_rates_worked_by_hand():
    # the model's response is the longer on a and b, the shorter on c; d has equal lengths
    rows = pd.DataFrame(
        [
            *both("a", "win", "win", model_length=9, baseline_length=5),
            *both("b", "win", "loss", model_length=9, baseline_length=5),
            *both("c", "tie", "loss", model_length=1, baseline_length=5),
            *both("d", "loss", "unreadable", model_length=5, baseline_length=5),
            *both("e", "refused", "failed", model_length=5, baseline_length=4),
            row("f", "model_first", "missing", model_length=5, baseline_length=4),
        ]
    )
    rates = {name: estimate.value for name, estimate in judge_rates(rows).items()}
    assert list(rates) == ["consistency", "first_position", "tie", "longer", "unreadable", "refused", "failed"]
    assert rates["consistency"] == pytest.approx(1 / 3)  # a of a, b, c
    # first place: a 1 and 0, b 1 and 1, c 1 (of one), d 0: by prompt .5, 1, 1, 0
    assert rates["first_position"] == pytest.approx(2.5 / 4)
    # the longer: a 1 and 1, b 1 and 0, c 1: by prompt 1, .5, 1
    assert rates["longer"] == pytest.approx(2.5 / 3)
    assert rates["tie"] == pytest.approx(0.5 / 4)  # half of c, of the prompts a to d
    # of the questions sent, by prompt a to e: half of d; half of e
    assert (rates["unreadable"], rates["refused"], rates["failed"]) == pytest.approx((0.1, 0.1, 0.1))


def test_rates_at_their_ends_have_width():
    rates = judge_rates(table([("win", "loss")] * 30))
    assert (rates["first_position"].value, rates["consistency"].value) == (1.0, 0.0)
    assert all(estimate.high - estimate.low > 0.05 for estimate in rates.values())
    assert "longer" not in rates


def test_repeatability_worked_by_hand():
    first = table([("win", "win"), ("loss", "tie"), ("win", "unreadable")]).assign(repeat=0)
    again = table([("win", "loss"), ("loss", "tie"), ("unreadable", "win")]).assign(repeat=1)
    # prompt 0: same, not; prompt 1: same, same; prompt 2: nothing read twice
    found = repeatability(pd.concat([first, again]))
    assert (found.value, found.n) == (0.75, 2)


def test_sign_flips_worked_by_hand():
    # of the 32 signs of five ones, two have a sum as far from 0 as 5: 1/16
    assert sign_flip_p(np.ones(5), permutations=20_000) == pytest.approx(1 / 16, abs=0.01)
    assert sign_flip_p(np.array([1.0, -1.0, 0.0])) == 1.0
    assert sign_flip_p(np.ones(30)) == pytest.approx(1 / 2_001)


def test_two_groups_worked_by_hand():
    # both errors in the two prompts of group -1, of five: 1 of 10 ways, none is as extreme the other way round (2/3)
    errors, groups = np.array([[1.0], [1.0], [0.0], [0.0], [0.0]]), np.array([[-1.0], [-1.0], [1.0], [1.0], [1.0]])
    assert two_group_p(errors, groups, permutations=20_000) == pytest.approx(0.1, abs=0.01)
    assert two_group_p(errors, -groups, permutations=20_000) == pytest.approx(0.1, abs=0.01)
    # what is missing or in neither group does not count
    more = np.array([[math.nan], [1.0]]), np.array([[1.0], [0.0]])
    assert two_group_p(np.r_[errors, more[0][:1]], np.r_[groups, more[1][:1]]) < 0.35
    assert two_group_p(np.zeros((4, 1)), np.array([[-1.0], [1.0], [0.0], [1.0]])) == 1.0


# planted faults


def judged(rng, shape=(1, 200, 1), *, first=0.0, longer=0.0, coin=0.0, wrong_labels=0.0):
    """A judge that is right but for a share of verdicts by place, length or coin, and labels wrong at times."""
    truth = rng.integers(0, 2, size=shape).astype(float)
    lead = np.where(rng.random(shape) < 0.6, 1.0, -1.0) * np.where(truth == 1, 1, -1)  # the better is longer in 60 %

    def reading(model_first):
        u = rng.random(shape)
        by_place = np.full(shape, float(model_first))
        by_length = (lead > 0).astype(float)
        by_coin = rng.integers(0, 2, size=shape).astype(float)
        bounds = np.cumsum([first, longer, coin])
        return np.select([u < bound for bound in bounds], [by_place, by_length, by_coin], default=truth)

    labels = np.where(rng.random(shape) < wrong_labels, 1 - truth, truth)
    return Labelled(reading(True), reading(False), labels, lead)


def found_by(checks):
    return {check.name: check.size.value for check in checks if check.found}


@pytest.mark.parametrize(
    ("fault", "name", "size"),
    [
        ({"first": 1.0}, "position", 1.0),
        ({"first": 0.3}, "position", 0.3),
        ({"longer": 1.0}, "length", 1.0),
        ({"longer": 0.3}, "length", 0.3),
        ({"coin": 0.1}, "noise", 0.1),
        ({"coin": 1.0}, "noise", 1.0),
    ],
)
def test_a_planted_fault_is_named_alone_with_its_size(fault, name, size):
    checks = bias_checks(judged(np.random.default_rng(0), (1, 1_000, 1), **fault))
    assert found_by(checks) == {name: pytest.approx(size, abs=0.04)}
    (check,) = [check for check in checks if check.found]
    assert check.size.low <= size <= check.size.high
    assert check.size.high - check.size.low > 0.001


def test_a_judge_worse_than_a_coin_is_no_more_than_all_noise():
    labelled = judged(np.random.default_rng(3), (1, 60, 1))
    turned = Labelled(1 - labelled.when_first, 1 - labelled.when_second, labelled.gold, labelled.lead)
    noise = bias_checks(turned)[-1]  # every verdict is wrong: twice an error rate of 1
    assert (noise.size.value, noise.size.high) == (1.0, 1.0)
    assert noise.says == "100% of verdicts are as good as drawn by chance"


def test_signs_say_second_place_and_shorter():
    labelled = judged(np.random.default_rng(1), first=0.4)
    turned = Labelled(labelled.when_second, labelled.when_first, labelled.gold, labelled.lead)
    assert bias_checks(turned)[0].size.value == pytest.approx(-bias_checks(labelled)[0].size.value)
    assert bias_checks(turned)[0].says.endswith("follow the second place")
    labelled = judged(np.random.default_rng(1), longer=0.4)
    shorter = Labelled(labelled.when_first, labelled.when_second, labelled.gold, -np.asarray(labelled.lead))
    assert bias_checks(shorter)[1].size.value < -0.3
    assert bias_checks(shorter)[1].says.endswith("follow the shorter response")


def test_longer_being_better_is_no_fault():
    labelled = judged(np.random.default_rng(2))
    always_longer = Labelled(labelled.when_first, labelled.when_second, labelled.gold, 2 * labelled.gold - 1)
    assert not found_by(bias_checks(always_longer))
    assert math.isnan(bias_checks(always_longer)[1].p)  # the shorter response is never better: nothing to see it by


def test_a_perfect_judge_is_never_accused_by_true_labels():
    checks = bias_checks(judged(np.random.default_rng(3)))
    assert [check.p for check in checks] == [1.0, 1.0, 1.0]
    assert [check.says for check in checks] == [f"no {name} fault found" for name in ("position", "length", "noise")]


def with_ties(labelled, rng, share):
    """The judge finds a share of the pairs equal, in both orders."""
    tie = rng.random(labelled.gold.shape) < share
    sides = [np.where(tie, 0.5, score) for score in (labelled.when_first, labelled.when_second)]
    return Labelled(*sides, labelled.gold, labelled.lead)


def test_a_tie_is_no_error():
    rng = np.random.default_rng(5)
    honest = [bias_checks(with_ties(judged(rng, (1, 60, 1)), rng, 0.3)) for _ in range(60)]
    assert not [found_by(checks) for checks in honest if found_by(checks)]
    assert honest[0][-1].size.value == 0.0


def test_wrong_labels_are_no_preference_for_the_longer_response():
    """60 % of the better responses are longer. With a tenth of the labels wrong the judge that is never wrong errs in
    .1 * .4 / .58 = 6.9 % of the pairs whose label names the longer one and in .1 * .6 / .42 = 14.3 % of the others."""
    rng = np.random.default_rng(8)
    runs = [bias_checks(judged(rng, (1, 400, 1), wrong_labels=0.1), label_noise=0.1) for _ in range(20)]
    assert np.mean([checks[1].size.value for checks in runs]) == pytest.approx(0.143 - 0.069, abs=0.02)
    assert sum(checks[1].found for checks in runs) <= 3  # 1 expected; some 13 where any difference counts
    faulty = bias_checks(judged(rng, (1, 400, 1), wrong_labels=0.1, longer=0.3), label_noise=0.1)
    assert faulty[1].found


@pytest.mark.parametrize("fault", [{"coin": 0.1}, {"coin": 0.1, "first": 0.3}])
def test_the_size_of_chance_is_unbiased(fault):
    """The mean over 12 runs, within 2 points of what was planted; its standard error is .0064."""
    rng = np.random.default_rng(6)
    sizes = [bias_checks(judged(rng, (1, 200, 1), **fault))[-1].size.value for _ in range(12)]
    assert np.mean(sizes) == pytest.approx(fault["coin"], abs=0.02)


@pytest.mark.slow
def test_good_judges_are_accused_at_most_as_often_as_promised():
    """150 runs each: a perfect judge by labels of which 10 % are wrong; one that errs at random, of place and length.

    8.6 % is 5 % and two standard errors, 2 * sqrt(.05 * .95 / 150) = 3.6 %.
    """
    rng = np.random.default_rng(4)
    accused = [
        found_by(bias_checks(judged(rng, (1, 60, 1), wrong_labels=0.1), label_noise=0.1, seed=0)) for _ in range(150)
    ]
    assert np.mean([bool(found) for found in accused]) <= 0.086
    accused = [found_by(bias_checks(judged(rng, (1, 60, 1), coin=0.3), seed=0)) for _ in range(150)]
    assert np.mean([bool(found.keys() & {"position", "length"}) for found in accused]) <= 0.086


def test_checks_from_a_table_of_verdicts():
    rows = pd.DataFrame(
        [
            r
            for i in range(40)
            for r in both(f"{i:02d}", "win", "loss", gold=float(i % 2), model_length=5 + i % 3, baseline_length=6)
        ]
    )
    checks = check_biases(fold(rows))
    assert found_by(checks) == {"position": 1.0}
    assert checks[0].says == "100% of verdicts follow the first place"
    assert [check.name for check in check_biases(fold(rows.drop(columns="model_length")))] == ["position", "noise"]
    with pytest.raises(BadValue, match=r"label noise 0\.5 given"):
        bias_checks(judged(np.random.default_rng(0)), label_noise=0.5)
