"""Has a response fallen apart on its surface: nothing, no words, or the same thing over and over?

Words in a senseless order are not seen: that takes a model of the language, and `perplexity` or a gold reward say it.
"""

from __future__ import annotations

import re
import unicodedata
from itertools import pairwise

__all__ = ["is_degenerate"]

_LEAST = 6  # words below which nothing can be called a loop
_LOOPED = 0.5  # share of words that stand inside a repeated stretch
_TIMES = 2.5  # how often a stretch stands there: a loop is often cut before its third round is over
_LONGEST = 12  # words of such a stretch
_SAME = 4  # times that one word and nothing else is said
_DOUBLED = 0.5  # share of words that say the one before again
_GLUE = frozenset(("a", "an", "and", "as", "at", "by", "for", "from", "in", "of", "on", "or", "the", "to", "with"))
_LEAST_GLUE = 5  # words of that kind, with which alone nothing is said
_MASHED = re.compile(r"[b-df-hj-np-tv-xz]{5}|^[b-df-hj-np-tv-xz]{4,}$")  # hardly a word has so many consonants running
_RUN = re.compile(r"(.{1,4}?)\1{5,}", re.DOTALL)  # the same one to four characters six times running
_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
_ORDINARY = 0.5  # share of characters (without spaces) that are letters, digits or common marks


def is_degenerate(text: str) -> bool:
    """True for a response that is empty, holds no word or number, is mostly symbols or beaten keys, or repeats itself.

    It repeats itself in a loop, by one word and no other, or by saying word after word twice.
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
    said = [word for word in words if not word.isdigit()] or words  # the numbers of a list are no part of what repeats
    if len(said) >= _SAME and len(set(said)) == 1:
        return True
    if len(said) >= _LEAST_GLUE and _GLUE.issuperset(said):
        return True
    if _is_mashed(_WORD.findall(text)):
        return True
    return len(words) >= _LEAST and (_looped(words) > _LOOPED or _doubled(words) >= _DOUBLED)


def _is_mashed(words: list[str]) -> bool:
    """Half of the words, two at the least, are what fingers do on a keyboard; capitals are abbreviations."""
    mashed = sum(bool(_MASHED.search(word.lower())) for word in words if word.isascii() and not word.isupper())
    return mashed >= 2 and 2 * mashed >= len(words)


def _doubled(words: list[str]) -> float:
    """Share of words that are the same as the one before."""
    return sum(a == b for a, b in pairwise(words)) / len(words)


def _is_run(run: str, text: str) -> bool:
    """A run counts where it is most of the text: three dots or a drawn-out "sooooo" do not make a response."""
    return 2 * len(run) > len(text)


def _looped(words: list[str]) -> float:
    """Share of words inside a stretch of up to _LONGEST words that is said at least _TIMES running."""
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
