"""Numbers read off a response's text alone. Each is a function str -> float that is defined on empty text."""

from __future__ import annotations

import re

__all__ = ["copied_share", "distinct_n", "n_words", "repetition", "words"]

# Runs of letters and digits; an apostrophe or hyphen inside a word does not end it.
_WORD = re.compile(r"\w+(?:['’-]\w+)*")

NGRAM = 4  # words a repeated or copied phrase has at least


def words(text: str) -> list[str]:
    """Lower-cased words, punctuation left out: "Don't stop, well-known X!" -> don't, stop, well-known, x."""
    return _WORD.findall(text.lower())


def _ngrams(text: str, n: int) -> list[tuple[str, ...]]:
    found = words(text)
    return [tuple(found[i : i + n]) for i in range(len(found) - n + 1)]


def n_words(text: str) -> float:
    return float(len(words(text)))


def distinct_n(text: str, n: int) -> float:
    """Share of the response's n-grams of words that are distinct, 0 to 1 (Li et al. 2016, arXiv:1510.03055).

    Of one response, not of the corpus: it falls with length, so compare it beside `n_words`. A text of fewer than n
    words has no n-gram and gives 0: silence is not diversity.
    """
    grams = _ngrams(text, n)
    return len(set(grams)) / len(grams) if grams else 0.0


def repetition(text: str) -> float:
    """Share of 4-grams of words that repeat an earlier one, 0 to 1: seq-rep-4 of Welleck et al. 2019, arXiv:1908.04319.

    0 where nothing repeats, and for a text of fewer than 4 words; towards 1 for a loop.
    """
    grams = _ngrams(text, NGRAM)
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def copied_share(text: str, source: str) -> float:
    """Share of the response's 4-grams of words that are in `source` (its prompt), 0 to 1; 0 below 4 words."""
    grams = _ngrams(text, NGRAM)
    there = set(_ngrams(source, NGRAM))
    return sum(gram in there for gram in grams) / len(grams) if grams else 0.0
