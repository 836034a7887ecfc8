"""The judges that need no call."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import numpy as np
import pytest

from rlhf_bench.judge.forms.builtin import BUILTIN
from rlhf_bench.judge.questions import PairComparison

PAIR = PairComparison("p", "q", 0, 0, "ppo", "base", " a long answer", " short")


def winner(name, pair=PAIR, order="model_first", scores=(math.nan, math.nan), repeat=0):
    return BUILTIN[name].decide(pair, order, scores, repeat=repeat).winner


def test_the_names():
    assert {name: judge.column for name, judge in BUILTIN.items()} == {
        "reward": "reward",
        "gold": "gold",
        "length": None,
        "random": None,
    }


@pytest.mark.parametrize("name", ["reward", "gold"])
def test_the_higher_score_wins_in_either_order(name):
    assert winner(name, scores=(1.5, 1.0)) == "first"
    assert winner(name, order="baseline_first", scores=(1.5, 1.0)) == "second"
    assert winner(name, scores=(-2.0, -1.0)) == "second"
    assert winner(name, scores=(1.0, 1.0)) == "tie"
    assert winner(name, scores=(math.inf, math.inf)) == "tie"
    found = BUILTIN[name].decide(PAIR, "model_first", (math.nan, 1.0))
    assert (found.status, found.winner, found.note) == ("unreadable", None, f"no {name} for one of the responses")


def test_the_longer_text_wins_white_space_around_it_left_out():
    assert winner("length") == "first"
    assert winner("length", order="baseline_first") == "second"
    assert winner("length", replace(PAIR, model_response="  short\n")) == "tie"


@pytest.mark.parametrize("name", sorted(BUILTIN))
def test_equal_texts_are_a_tie(name):
    same = replace(PAIR, model_response=" short")
    assert winner(name, same, scores=(2.0, 1.0)) == "tie"


def test_chance_is_fair_in_both_orders_and_a_function_of_its_arguments():
    pairs = [replace(PAIR, prompt=f"question {i}") for i in range(2_000)]
    first = [winner("random", pair) == "first" for pair in pairs]
    swapped = [winner("random", pair, "baseline_first") == "first" for pair in pairs]
    # each share has standard error .5/sqrt(2000) = .011: four of them
    for share in (np.mean(first), np.mean(swapped), np.mean(np.equal(first, swapped))):
        assert share == pytest.approx(0.5, abs=0.045)
    random.seed(5)
    np.random.seed(5)
    assert [winner("random", pair) == "first" for pair in pairs] == first
    again = [winner("random", pair, repeat=1) == "first" for pair in pairs]
    assert np.mean(np.equal(first, again)) == pytest.approx(0.5, abs=0.045)
    # the names of the models do not matter, nor which of the two texts is the model's
    mirrored = [replace(p, model_response=p.baseline_response, baseline_response=p.model_response) for p in pairs]
    assert [winner("random", pair, "baseline_first") == "first" for pair in mirrored] == first
