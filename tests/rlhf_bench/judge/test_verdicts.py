"""How two readings of a pair are counted."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from rlhf_bench.errors import DataError
from rlhf_bench.judge.analysis.pairs import blocks, fold, matchups

from .make_verdicts import both, row, table

# the verdict with the model first, and second -> outcome, why, least, most; all cases of the rule
RULE = [
    ("win", "win", 1.0, "agree", 1.0, 1.0),
    ("loss", "loss", 0.0, "agree", 0.0, 0.0),
    ("win", "loss", 0.5, "disagree", 0.5, 0.5),
    ("loss", "win", 0.5, "disagree", 0.5, 0.5),
    ("tie", "tie", 0.5, "tie", 0.5, 0.5),
    ("win", "tie", 0.5, "win_tie", 0.5, 0.5),
    ("tie", "loss", 0.5, "win_tie", 0.5, 0.5),
    # an order that was not read could have been anything, but a win needs both
    ("win", "unreadable", math.nan, "unreadable", 0.5, 1.0),
    ("unreadable", "loss", math.nan, "unreadable", 0.0, 0.5),
    ("tie", "refused", math.nan, "refused", 0.5, 0.5),
    ("failed", "missing", math.nan, "failed", 0.0, 1.0),
    ("unreadable", "refused", math.nan, "refused", 0.0, 1.0),
]


def test_every_case_of_the_rule():
    folded = fold(table([(a, b) for a, b, *_ in RULE]))
    for (a, b, *expected), (_, found) in zip(RULE, folded.iterrows(), strict=True):
        got = [found["outcome"], found["why"], found["least"], found["most"]]
        assert got == pytest.approx(expected, nan_ok=True), (a, b)


def test_an_order_that_was_never_sent_is_missing():
    folded = fold(pd.DataFrame([row("p", "baseline_first", "win"), *both("q", "loss", "loss")]))
    assert folded[["why", "least", "most"]].iloc[0].tolist() == ["missing", 0.5, 1.0]
    assert math.isnan(folded["outcome"].iloc[0])


def test_where_each_pair_was_shown_once_its_only_reading_decides():
    rows = [
        row("a", "model_first", "win", soft=0.9),
        row("b", "baseline_first", "loss", soft=0.9),
        row("c", "baseline_first", "tie"),
        row("d", "model_first", "missing"),
    ]
    folded = fold(pd.DataFrame(rows))
    assert folded["outcome"].tolist() == pytest.approx([1.0, 0.0, 0.5, math.nan], nan_ok=True)
    assert folded["why"].tolist() == ["agree", "agree", "tie", "missing"]
    assert folded[["least", "most"]].iloc[3].tolist() == [0.0, 1.0]
    assert folded["soft"].tolist() == pytest.approx([0.9, 0.1, math.nan, math.nan], nan_ok=True)
    assert folded["when_first"].tolist() == pytest.approx([1.0, *[math.nan] * 3], nan_ok=True)
    assert folded["when_second"].tolist() == pytest.approx([math.nan, 0.0, 0.5, math.nan], nan_ok=True)


def test_always_the_first_place_wins_nothing():
    rows = table([("win", "loss")] * 5)
    assert set(rows["winner"]) == {"first"}
    assert fold(rows)["outcome"].tolist() == [0.5] * 5


def test_soft_is_the_models_and_needs_both_orders():
    rows = pd.DataFrame(
        [
            row("a", "model_first", "win", soft=0.9),
            row("a", "baseline_first", "win", soft=0.3),
            row("b", "model_first", "win", soft=0.9),
            row("b", "baseline_first", "win"),
        ]
    )
    # (.9 + (1 - .3)) / 2 = .8
    assert fold(rows)["soft"].tolist() == pytest.approx([0.8, math.nan], nan_ok=True)


def test_the_order_of_the_rows_does_not_matter_and_keys_are_kept_separate():
    rows = pd.DataFrame(
        [
            *both("a", "win", "win"),
            *both("a", "loss", "loss", seed=1),
            *both("a", "tie", "tie", sample=1),
            *both("a", "win", "tie", baseline="sft"),
            *both("a", "failed", "win", model="dpo"),
        ]
    )
    folded = fold(rows)
    assert len(folded) == 5
    assert fold(rows.sample(frac=1, random_state=0)).equals(folded)
    assert [(model, baseline, len(group)) for model, baseline, group in matchups(folded)] == [
        ("dpo", "base", 1),
        ("ppo", "base", 3),
        ("ppo", "sft", 1),
    ]


def test_repeats_are_left_out_and_facts_are_carried():
    rows = table([("win", "win"), ("loss", "loss")], model_length=7, baseline_length=3).assign(repeat=0)
    again = rows.assign(repeat=1, winner="tie")
    folded = fold(pd.concat([rows, again]))
    assert folded["outcome"].tolist() == [1.0, 0.0]
    assert folded["model_length"].tolist() == [7.0, 7.0]
    assert "gold" not in folded


def test_blocks_are_seeds_by_prompts_by_samples():
    rows = [
        *both("q", "win", "win", seed=3),
        *both("q", "loss", "loss", seed=3, sample=1),
        *both("p", "tie", "tie", seed=1),
    ]
    (block,) = blocks(fold(pd.DataFrame(rows)), ["outcome"])
    assert block.shape == (2, 2, 2)  # seeds 1, 3; prompts p, q; two samples at most
    np.testing.assert_array_equal(block[1, 1], [1.0, 0.0])
    np.testing.assert_array_equal(block[0, 0], [0.5, np.nan])
    assert np.isnan(block[0, 1]).all()


def test_an_empty_table_has_no_pairs():
    empty = table([("win", "win")]).iloc[:0]
    assert fold(empty).empty
    assert blocks(fold(empty), ["outcome"])[0].size == 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda rows: rows.drop(columns=["soft", "order"]), "without the column order, soft given"),
        (lambda rows: pd.concat([rows, rows.iloc[:1]]), r"hold \(ppo, base, 0, 0000, 0, model_first\) twice"),
        (lambda rows: rows.assign(order="first"), "order 'first' given; expected one of model_first, baseline_first"),
        (lambda rows: rows.assign(winner="model"), "winner 'model' given; expected one of first, second, tie"),
        (lambda rows: rows.assign(winner=None), "winner None given"),
        (lambda rows: rows.assign(status="ok"), "status 'ok' given; expected one of read, refused"),
    ],
)
def test_verdicts_that_cannot_be_counted(change, words):
    with pytest.raises(DataError, match=words):
        fold(change(table([("win", "win")])))
