from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rouge_score import rouge_scorer

from rlhf_bench.scorers.base import EvalContext, Missing, ResponseRow
from rlhf_bench.scorers.rouge import SCORER, english_words, rouge_best, rouge_parts, unicode_words

PACKAGE = rouge_scorer.RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=True)


def rouge(reference: str, prediction: str) -> tuple[float, float, float]:
    """F-measures of ROUGE-1, -2 and -L."""
    found = rouge_parts(reference, prediction)
    return found["rouge1"], found["rouge2"], found["rougeL"]


def by_package(reference: str, prediction: str) -> tuple[float, ...]:
    return tuple(score.fmeasure for score in PACKAGE.score(reference, prediction).values())


def test_by_hand():
    # 6 words and 3. the, cat, mat are shared: precision 3/3, recall 3/6, F = 2/3
    # pairs: the-cat of the-cat, cat-mat: precision 1/2, recall 1/5, F = 2/7. In order: the cat mat, as rouge1
    found = rouge("The cat sat on the mat.", "the cat, mat")
    assert found == pytest.approx((2 / 3, 2 / 7, 2 / 3))


def test_order_counts_for_rouge_l_alone():
    # all 3 words shared, longest common subsequence "b c" of 3 words: 2/3; the pair b-c of 2: 1/2
    assert rouge("a b c", "b c a") == pytest.approx((1.0, 0.5, 2 / 3))


def test_the_stemmer_matters():
    # stemmed: run the race; run race: precision 1, recall 2/3, F = 0.8, no pair shared; unstemmed, no word is shared
    assert rouge("running the races", "runs race") == pytest.approx((0.8, 0.0, 0.8))
    unstemmed = rouge_scorer.RougeScorer(["rouge1"], use_stemmer=False).score("running the races", "runs race")
    assert unstemmed["rouge1"].fmeasure == 0.0


@pytest.mark.parametrize(("reference", "prediction"), [("", ""), ("word", ""), ("", "word"), ("...", "!?"), ("a", "b")])
def test_nothing_in_common_is_zero(reference, prediction):
    assert rouge(reference, prediction) == (0.0, 0.0, 0.0)


WORDS = ["run", "runs", "running", "the", "happily", "happy", "é", "x1", "-"]
TEXTS = st.lists(st.sampled_from(WORDS), max_size=70).map(" ".join)


@given(TEXTS, TEXTS)
def test_equal_to_the_package(reference, prediction):
    assert rouge(reference, prediction) == by_package(reference, prediction)


def test_equal_to_the_package_beyond_a_machine_word():
    generator = random.Random(0)
    texts = [" ".join(generator.choices("abcdefgh", k=k)) for k in (63, 64, 65, 128, 200)]
    for reference in texts:
        for prediction in texts:
            assert rouge(reference, prediction) == by_package(reference, prediction)


ALL = rouge_scorer.RougeScorer(["rouge1", "rouge2", "rougeL", "rougeLsum"], use_stemmer=True)
LINES = st.lists(TEXTS, max_size=4).map("\n".join)


def parts_by_package(reference, prediction):
    return {
        key: value
        for name, score in ALL.score(reference, prediction).items()
        for key, value in (
            (name, score.fmeasure), (f"{name}_precision", score.precision), (f"{name}_recall", score.recall),
        )
    }  # fmt: skip


@given(LINES, LINES)
def test_parts_are_equal_to_the_package(reference, prediction):
    assert rouge_parts(reference, prediction) == parts_by_package(reference, prediction)


def test_parts_by_hand():
    # "the cat sat on the mat" and "the cat": 2 shared of the response's 2 and of the reference's 6
    found = rouge_parts("the cat sat on the mat", "the cat")
    assert (found["rouge1_precision"], found["rouge1_recall"], found["rouge1"]) == pytest.approx((1, 1 / 3, 0.5))
    # lines the other way round: as one text the longest common subsequence is one line, line by line it is both
    found = rouge_parts("a b\nc d", "c d\na b")
    assert (found["rougeL"], found["rougeLsum"]) == (0.5, 1.0)


@pytest.mark.parametrize("text", [" a b\n", "\na b", "a b\n\n"])
def test_line_ends_around_a_text_are_no_lines(text):
    assert rouge_parts("a b", text) == parts_by_package("a b", text)


def test_of_several_references_the_best_counts_for_each_rouge():
    references, prediction = ["the cat sat", "sat the dog on a mat", "on a mat"], "the cat on a mat"
    scorer = rouge_scorer.RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=True)
    for name, score in scorer.score_multi(references, prediction).items():
        best = rouge_best(references, prediction)
        assert best[name] == score.fmeasure
        assert (best[f"{name}_precision"], best[f"{name}_recall"]) == (score.precision, score.recall)
    assert rouge_best(["x"], "x y") == rouge_parts("x", "x y")


def test_unicode_words_by_hand():
    # Han and Thai have a word a character, marks stay with theirs; Cyrillic and Hindi are split at spaces; English is
    # stemmed as the package does it
    assert unicode_words("我爱Running。") == ("我", "爱", "run")
    assert unicode_words("กินข้าว") == ("กิ", "น", "ข้", "า", "ว")
    assert unicode_words("Привет, мир") == ("привет", "мир")
    assert unicode_words("हिन्दी में") == ("हिन्दी", "में")


@given(TEXTS)
def test_unicode_words_of_english_are_the_packages(text):
    plain = text.replace("é", "e")
    assert unicode_words(plain) == english_words(plain)


def _row(response: str, *references: str) -> ResponseRow:
    return ResponseRow("m", 0, "p", 0, "prompt", response, references=references)


def test_text_that_the_tokenizer_cannot_read_is_missing_with_its_reason():
    rows = [_row("猫坐在垫子上", "猫坐在垫子上"), _row("Привет, мир", "Привет, мир")]
    found = SCORER.score(rows, EvalContext("file", "f"))
    assert isinstance(found["rougeL"], Missing)
    assert "rouge_tokenizer=unicode" in found["rougeL"].reason
    # of rows in several scripts those that it cannot read alone
    mixed = SCORER.score([*rows, _row("a b", "a b")], EvalContext("file", "f"))
    assert np.isnan(mixed["rouge1"]).tolist() == [True, True, False]


def test_unicode_adds_columns_under_names_of_its_own():
    context = EvalContext("file", "f", rouge_tokenizer="unicode")
    found = SCORER.score([_row("猫坐在垫子上", "猫坐在垫子上"), _row("мир", "привет мир")], context)
    # equal texts: 1; one of two words: precision 1, recall 1/2, F = 2/3
    assert found["rouge1_unicode"] == pytest.approx([1, 2 / 3])
    assert found["rougeL_unicode_recall"] == pytest.approx([1, 1 / 2])
    assert isinstance(found["rougeL"], Missing)
