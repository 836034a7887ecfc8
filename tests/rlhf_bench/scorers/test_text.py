from __future__ import annotations

import pytest

from rlhf_bench.scorers.text import copied_share, distinct_n, n_words, repetition, words


def test_words_are_lower_case_and_keep_inner_apostrophes_and_hyphens():
    assert words(" Don't stop, it’s a 'well-known' X2!\n") == ["don't", "stop", "it’s", "a", "well-known", "x2"]
    assert n_words(" Don't stop, it’s a 'well-known' X2!\n") == 6.0


def test_distinct_by_hand():
    text = "no no no, yes"  # words no no no yes: 2 of 4; pairs no-no no-no no-yes: 2 of 3
    assert distinct_n(text, 1) == 0.5
    assert distinct_n(text, 2) == pytest.approx(2 / 3)
    assert distinct_n("one", 2) == 0.0


def test_repetition_by_hand():
    # 9 words, 6 4-grams: abcd bcda cdab dabc abcd bcda; 4 distinct: 1 - 4/6
    assert repetition("a b c d a b c d a") == pytest.approx(1 / 3)
    assert repetition("one two three four five six") == 0.0
    assert repetition("yes " * 100) == pytest.approx(1 - 1 / 97)


def test_copied_by_hand():
    # 4-grams: i think that cats / think that cats are / that cats are nice; the last two are the prompt's
    assert copied_share(" I think that cats are nice.", "You think that cats are nice?") == pytest.approx(2 / 3)
    assert copied_share("cats are nice", "cats are nice") == 0.0  # three words are no phrase


def test_empty_text():
    for empty in ("", " ", "...\n"):
        assert n_words(empty) == distinct_n(empty, 1) == distinct_n(empty, 2) == repetition(empty) == 0.0
        assert copied_share(empty, "a b c d") == 0.0


def test_words_of_scripts_without_spaces_are_characters():
    assert words("我爱 GPT-2。") == ["我", "爱", "gpt-2"]
    assert words("हिन्दी में") == ["हिन्दी", "में"]
    # 6 words, 5 pairs, of which 你好 is there twice: 4 of 5
    assert distinct_n("你好,你好吗!?", 2) == pytest.approx(3 / 4)
