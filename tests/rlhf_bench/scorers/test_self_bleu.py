from __future__ import annotations

import math
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu

from rlhf_bench.evaluate.collect import with_corpus_numbers
from rlhf_bench.evaluate.scoring import scored
from rlhf_bench.scorers.base import EvalContext, ResponseRow
from rlhf_bench.scorers.self_bleu import self_bleu
from rlhf_bench.store import PartStore


def by_nltk(texts: list[str]) -> float:
    split = [text.split() for text in texts]
    method = SmoothingFunction().method1
    scores = [
        sentence_bleu(split[:i] + split[i + 1 :], own, smoothing_function=method) if own else 0.0
        for i, own in enumerate(split)
    ]
    return float(np.mean(scores))


def test_by_hand() -> None:
    """Three texts of four words. a = "w x y z" and b are the same: BLEU 1 each. c = "w x q r" against them: 2 of 4
    words, 1 of 3 pairs, no triple of 2 (0.1 / 2), no 4-gram of 1 (0.1): (1/2 * 1/3 * 1/20 * 1/10) ** (1/4) = 0.169905.
    """
    found = self_bleu(["w x y z", "w x y z", "w x q r"])
    assert found.mean() == pytest.approx((2 + 0.169905) / 3, abs=1e-6)


def test_the_same_and_different_texts() -> None:
    assert self_bleu(["one two three four five"] * 5) == pytest.approx(np.ones(5))
    assert self_bleu(["a b c d", "e f g h", "i j k l"]) == pytest.approx(np.zeros(3))
    assert np.isnan(self_bleu(["a", "b"])).all()
    assert self_bleu(["", "", ""]) == pytest.approx(np.zeros(3))


TEXTS = st.lists(st.lists(st.sampled_from("abcdef"), max_size=9).map(" ".join), min_size=3, max_size=7)


@settings(max_examples=150, deadline=None)
@given(TEXTS)
def test_the_mean_is_that_of_nltk(texts: list[str]) -> None:
    assert self_bleu(texts).mean() == pytest.approx(by_nltk(texts), abs=1e-9)


def draw(generator: random.Random, n: int) -> list[str]:
    """Sentences from a small grammar, of about equal length, so that much is shared and the penalty hardly moves."""
    vocabulary = ["the", "a", "cat", "dog", "sees", "hears", "big", "small", "now", "here"]
    return [" ".join(generator.choices(vocabulary, k=12)) for _ in range(n)]


def test_values_are_those_of_the_jackknife() -> None:
    """Leaving each text out by hand, with texts of one length, whose brevity penalty is 1 whatever is left out."""
    texts = draw(random.Random(0), 12)
    whole = self_bleu(texts).mean()
    without = np.array([self_bleu(texts[:i] + texts[i + 1 :]).mean() for i in range(12)])
    assert self_bleu(texts) == pytest.approx(whole + 11 * (without.mean() - without), abs=1e-12)


def influences(texts: list[str]) -> np.ndarray:
    """The jackknife's, by leaving each text out."""
    without = np.array([self_bleu(texts[:i] + texts[i + 1 :]).mean() for i in range(len(texts))])
    return (len(texts) - 1) * (without.mean() - without)


def test_the_width_is_that_of_halves() -> None:
    """200 splits of 40 texts by hand: the variance of 20 texts by the differences of halves, over the lesser of what
    the jackknife claims for the first 2 pairs of halves and twice what it claims for all; all texts are as long, so
    the brevity penalty is 1 throughout."""
    texts = draw(random.Random(3), 40)
    generator = np.random.default_rng(7)
    orders = [generator.permutation(40) for _ in range(200)]
    halves = [([texts[i] for i in sorted(o[:20])], [texts[i] for i in sorted(o[20:])]) for o in orders]
    variance = np.mean([(self_bleu(a).mean() - self_bleu(b).mean()) ** 2 for a, b in halves]) / 2
    claimed = np.mean([influences(half).var(ddof=1) / 20 for pair in halves[:2] for half in pair])
    least = min(claimed, 2 * influences(texts).var(ddof=1) / 40)
    assert variance < 0.9 * least
    expected = self_bleu(texts).mean() + math.sqrt(variance / least) * influences(texts)
    assert self_bleu(texts, seed=7) == pytest.approx(expected, abs=1e-9)


def test_the_spread_of_the_values_is_that_of_self_bleu() -> None:
    """Over 60 draws of 40 texts: the mean standard error by the values against the sd of the number itself, which 60
    draws know to 9 %; benchmarks/coverage.py has more of them."""
    generator = random.Random(1)
    found = [self_bleu(draw(generator, 40)) for _ in range(60)]
    spread = np.std([values.mean() for values in found], ddof=1)
    claimed = np.mean([values.std(ddof=1) / math.sqrt(len(values)) for values in found])
    assert 0.8 < claimed / spread < 1.35


def test_one_response_a_prompt_counts_whatever_the_shards(tmp_path: Path) -> None:
    rows = [
        ResponseRow("a", 0, f"p{i}", k, f"p{i}", f"the {'cat' if k else 'dog'} sees {i}")
        for i in range(4)
        for k in (0, 1)
    ]
    parts = PartStore(tmp_path)
    for shard, some in (("0", rows[:4]), ("1", rows[4:])):
        parts.write(shard, *scored(some, EvalContext("file", "file")))
    ((table,), _, _) = with_corpus_numbers(parts, [["0", "1"]])
    first = table["sample"] == 0
    assert table.loc[~first, "self_bleu"].isna().all()
    assert table.loc[first, "self_bleu"].tolist() == pytest.approx(self_bleu([f"the dog sees {i}" for i in range(4)]))
