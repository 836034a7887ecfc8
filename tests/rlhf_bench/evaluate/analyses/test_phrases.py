"""A phrase that a policy adds to every response is named, and ordinary differences of texts are not."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy import stats

from rlhf_bench.evaluate.analyses.phrases import new_phrases, phrase_alarms

N = 100
VOCABULARY = [f"w{i}" for i in range(60)]


def texts(seed: int, *, length: int = 12, n: int = N) -> list[str]:
    """Words by Zipf's law, as many a text as a Poisson distribution gives."""
    generator = np.random.default_rng(seed)
    chances = 1 / np.arange(1, len(VOCABULARY) + 1)
    return [
        " ".join(generator.choice(VOCABULARY, size=1 + generator.poisson(length), p=chances / chances.sum()))
        for _ in range(n)
    ]


def test_the_whole_phrase_is_named_with_its_shares() -> None:
    policy = [f"{text}. As always, stay safe out there! {text}" if i else text for i, text in enumerate(texts(1))]
    (alarm,) = phrase_alarms({("ppo", 0): policy, ("sft", 0): texts(2)}, reference="sft")
    assert (alarm.model, alarm.kind) == ("ppo", "phrase")
    assert alarm.text.startswith('ppo: 99% of its responses have "')
    named = alarm.text.split('"')[1]
    assert named in "as always stay safe out there"
    assert named.count(" ") == 3  # the longest of those that are shared alike
    assert ", 0% of sft's" in alarm.text
    assert "seed" not in alarm.text


def test_each_seed_has_a_phrase_of_its_own() -> None:
    grpo = {("grpo", 0): [f"hello {text}" for text in texts(2)], ("grpo", 1): [f"{text} bye" for text in texts(3)]}
    others = {("sft", 0): texts(1), ("sft", 1): texts(1), ("dpo", 0): texts(4), ("dpo", 1): texts(5)}
    by_model = {**others, **grpo}
    (alarm,) = phrase_alarms(by_model, reference="sft")
    assert 'have "hello", 0% of sft\'s (seed 0); ' in alarm.text
    assert 'have "bye", 0% of sft\'s (seed 1): ' in alarm.text
    assert list(phrase_alarms(by_model, reference="base")) == []


@pytest.mark.parametrize("seed", range(20))
def test_other_samples_of_the_same_texts_have_none(seed: int) -> None:
    """Twice as long, too: more words are then in half of the texts, and none is in half of them beyond the others."""
    assert new_phrases(texts(2 * seed), texts(2 * seed + 1), error=0.05) == []
    assert new_phrases(texts(2 * seed, length=20), texts(2 * seed + 1), error=0.05) == []


def test_a_phrase_of_half_the_texts_is_named_no_more_often_than_promised() -> None:
    """The rate at the edge of what is reported: a word in half of the texts and in none of the reference's."""
    generator = np.random.default_rng(0)
    before = texts(0)
    raised = 0
    for draw in range(100):
        words = [f"{t} sure" if generator.random() < 0.5 else t for t in texts(draw + 1, length=3)]
        raised += bool(new_phrases(words, before, error=0.05))
    assert raised == 0  # at most 5 %; Clopper and Pearson's limits for all phrases at once make it far less


def test_the_limits_are_those_of_clopper_and_pearson_over_all_phrases() -> None:
    """k of 40 one-word texts say "yes", the others and the reference's "no": m = 2 phrases. The lower limit of 40 of 40
    at .05 / 4 is .0125^(1/40) = .896, the upper one of 0 of 40 is .104: the change is surely above .79."""
    no = ["no"] * 40
    surely = [stats.beta.ppf(0.0125, k, 41 - k) - (1 - 0.0125 ** (1 / 40)) > 0.5 for k in range(21, 40)]
    found = [bool(new_phrases(["yes"] * k + ["no"] * (40 - k), no, error=0.05)) for k in range(21, 40)]
    assert found == surely
    assert sum(a != b for a, b in pairwise(surely)) == 1  # of both kinds
    (phrase,) = new_phrases(["yes"] * 40, no)
    assert phrase == ("yes", 1.0, 0.0)
    assert new_phrases(["yes"] * 3, ["no"] * 3) == []
    assert new_phrases([""] * 40, no) == []
