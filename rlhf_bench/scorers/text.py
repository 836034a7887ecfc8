"""Numbers read off a response's text alone. Each is a function str -> float that is defined on empty text."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache

# Marks of other scripts that occur inside words; `\w` has none.
_MARKS = "\u0300-\u036f\u0591-\u05bd\u064b-\u065f\u0900-\u0963\u0981-\u0e4e\u0eb1-\u0ece\u102b-\u103e\u17b4-\u17d3"
# Runs of letters and digits; an apostrophe or hyphen inside a word does not end it.
_WORD = re.compile(rf"[\w{_MARKS}]+(?:['’-][\w{_MARKS}]+)*")
# Han, kana, Thai, Lao, Khmer, Burmese: written without spaces between words. Hangul is written with them.
_UNSPACED = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR")

NGRAM = 4  # words a repeated or copied phrase has at least


def words(text: str) -> list[str]:
    """Lower-cased words, punctuation left out: "Don't stop, well-known X!" -> don't, stop, well-known, x.

    A script that puts no space between words has one word per character.
    """
    found: list[str] = _WORD.findall(text.lower())
    return found if text.isascii() else [part for word in found for part in split_unspaced(word)]


def split_unspaced(word: str) -> Iterator[str]:
    """Each character of a script without spaces between words, with the marks that follow it; other runs whole."""
    start = 0
    for i in range(1, len(word)):
        after = _is_unspaced(word[i - 1]) and unicodedata.category(word[i])[0] != "M"
        if _is_unspaced(word[i]) or after:
            yield word[start:i]
            start = i
    yield word[start:]


@lru_cache(maxsize=10_000)
def _is_unspaced(character: str) -> bool:
    return unicodedata.name(character, "").startswith(_UNSPACED) and unicodedata.category(character)[0] == "L"


def is_english_script(text: str) -> bool:
    """True if at least half of the letters and digits are those of English, a-z and 0-9, or there is none."""
    letters = [character for character in text if character.isalnum()]
    return 2 * sum(character.isascii() for character in letters) >= len(letters)


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
