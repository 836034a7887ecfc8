"""Is a response degenerate on its surface: empty, without words, or the same text over and over?

Words in a senseless order are not detected: that takes a language model (`perplexity`) or a gold reward.
"""

from __future__ import annotations

import re
import unicodedata
from itertools import pairwise

_LEAST = 6  # words; fewer are never a loop
_LOOPED = 0.5  # share of words that are inside a repeated phrase
_TIMES = 2.5  # repetitions of the phrase: a loop is often cut off before its third one ends
_LONGEST = 12  # words of such a phrase
_SAME = 4  # repetitions of one word that are the whole response
_DOUBLED = 0.5  # share of words that repeat the word before
_GLUE = frozenset(("a", "an", "and", "as", "at", "by", "for", "from", "in", "of", "on", "or", "the", "to", "with"))
_LEAST_GLUE = 5  # function words that are the whole response
_MASHED = re.compile(r"[b-df-hj-np-tv-xz]{5}|^[b-df-hj-np-tv-xz]{4,}$")  # consonants in a row, more than words have
_RUN = re.compile(r"(.{1,4}?)\1{5,}", re.DOTALL)  # the same one to four characters six times in a row
_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
_ORDINARY = 0.5  # share of characters (without spaces) that are letters, digits or common marks


def is_degenerate(text: str) -> bool:
    """True for a response that is empty, has no word or number, is mostly symbols or random keys, or repeats itself.

    It repeats itself where a phrase loops, where it consists of one word, or where half of the words repeat the one
    before.
    """
    text = text.strip()
    words = [word.lower() for word in _WORD.findall(text)]
    if not words:
        return True
    dense = [c for c in text if not c.isspace()]
    plain = sum(unicodedata.category(c)[0] in "LN" for c in dense)
    if plain < _ORDINARY * len(dense):
        return True
    if any(_is_run(found.group(0), text) for found in _RUN.finditer(text)):
        return True
    kept = [word for word in words if not word.isdigit()] or words  # the numbers of a list do not count
    if len(kept) >= _SAME and len(set(kept)) == 1:
        return True
    if len(kept) >= _LEAST_GLUE and _GLUE.issuperset(kept):
        return True
    if _is_mashed(_WORD.findall(text)):
        return True
    return len(words) >= _LEAST and (_looped(words) > _LOOPED or _doubled(words) >= _DOUBLED)


def _is_mashed(words: list[str]) -> bool:
    """True if half of the words, two at the least, look like random keys; words in capitals are abbreviations."""
    mashed = sum(bool(_MASHED.search(word.lower())) for word in words if word.isascii() and not word.isupper())
    return mashed >= 2 and 2 * mashed >= len(words)


def _doubled(words: list[str]) -> float:
    """Share of words that are the same as the one before."""
    return sum(a == b for a, b in pairwise(words)) / len(words)


def _is_run(run: str, text: str) -> bool:
    """True if the run is most of the text: three dots or a long "sooooo" in a sentence are harmless."""
    return 2 * len(run) > len(text)


def _looped(words: list[str]) -> float:
    """Share of words inside a phrase of up to _LONGEST words that occurs at least _TIMES in a row."""
    inside = [False] * len(words)
    for period in range(1, min(_LONGEST, len(words) // 2) + 1):
        start = 0
        for i in range(period, len(words) + 1):
            if i < len(words) and words[i] == words[i - period]:
                continue
            if i - start >= max(3, _TIMES * period):
                inside[start:i] = [True] * (i - start)
            start = i - period + 1
    return sum(inside) / len(words)
