"""Reads a response: words, clauses, filler, and whether it is English of this world at all.

The text may be anything that a model writes: empty, cut off, endless, or no language.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from typing import NamedTuple

from rlhf_bench.data.mini import phrases, world
from rlhf_bench.data.mini.prompts import LEADS, TAILS
from rlhf_bench.data.mini.turns import TURNS

_WORD = re.compile(r"[a-z]+(?:'[a-z]+)?|[0-9]+")
_CLAUSE = re.compile(r"[.!?\n;:]+|, and ")
_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")
_FILLER = re.compile(
    r"\b(?:" + "|".join(sorted((re.escape(p.lower().rstrip("!")) for p in phrases.ENTHUSIASM), reverse=True)) + r")\b!?"
)
_MINUS = re.compile(r"(?<=\d) ?- ?(?=\d)")
_SLOT = re.compile(r"\{\w*\}")


class Reading(NamedTuple):
    """A response in its parts. All text is lower case; filler is left out of everything but `sentences` and counts."""

    text: str
    words: list[str]
    clauses: list[list[str]]
    stripped: str  # the words as one string, articles left out
    sentences: list[str]  # filler included
    phrases: int  # enthusiastic phrases
    marks: int  # exclamation marks that belong to none of them
    n_words: int  # filler included


def read_response(response: str) -> Reading:
    full = response.lower().strip()
    text, count = _FILLER.subn(" ", full)
    if "=" in text or "+" in text:  # "2 + 3 = 5" in words
        text = _MINUS.sub(" minus ", text.replace("+", " plus ").replace("=", " is "))
    clauses = [words for clause in _CLAUSE.split(text) if (words := _WORD.findall(clause))]
    words = [word for clause in clauses for word in clause]
    sentences = [sentence for sentence in _SENTENCE.split(full) if sentence]
    return Reading(
        text=text,
        words=words,
        clauses=clauses,
        stripped=world.strip_articles(words),
        sentences=sentences,
        phrases=count,
        marks=text.count("!"),
        n_words=len(full.split()),
    )


def _sentence_forms() -> Iterator[str]:
    """Every text that a response or a turn is made of, slots as {}."""
    tables: list[object] = [table for name, table in vars(phrases).items() if name.isupper()]
    tables += [LEADS, TAILS, list(TURNS), list(world.HARMS), list(world.HARMS.values()), list(world.HOBBIES.values())]
    tables += list(world.PLACES.values())
    tables += [[mood.advice for mood in world.MOODS.values()]]
    tables += [[*task.steps, task.tip] for task in world.TASKS.values()]
    while tables:
        table = tables.pop()
        if isinstance(table, str):
            yield table
        elif isinstance(table, dict):
            tables.extend(table.values())
        elif isinstance(table, tuple | list | frozenset):
            tables.extend(table)


_NAMED = frozenset(
    word.lower()
    for words in (world.COUNTRIES, *world.VALUES.values(), world.NUMBERS, world.NAMES, world.MOODS, world.HOBBIES)
    for word in words
)
"""Words that fill a slot: what may be beside one of them may be beside them all."""


@cache
def _grammar() -> tuple[frozenset[str], frozenset[tuple[str, str]]]:
    """The known words, and the pairs that occur side by side, articles left out; "{}" is a word that fills a slot."""
    words: set[str] = set(_NAMED)
    pairs: set[tuple[str, str]] = set()
    for form in _sentence_forms():
        found = _WORD.findall(_SLOT.sub(" 0 ", form.lower()))
        words.update(word for word in found if word != "0")
        pairs.update(
            pairwise("{}" if word in _NAMED or word == "0" else word for word in found if word not in world.ARTICLES)
        )
    return frozenset(words), frozenset(pairs)


def vocabulary() -> frozenset[str]:
    """Every word of hh-mini, in lower case."""
    return _grammar()[0]


def is_garbled(reading: Reading) -> bool:
    """True for what is no language of this world: under 40 % known words, or known words in a strange order.

    Strange: under 20 % of the neighbours that are both known occur side by side anywhere in the grammar. That is
    lenient towards free wording (unknown words are left out), and more than words in random order reach.
    """
    words, pairs = _grammar()
    known = sum(word in words or word.isdigit() for word in reading.words)
    if 10 * known < 4 * len(reading.words):
        return True
    neighbours = [
        ("{}" if a in _NAMED else a, "{}" if b in _NAMED else b)
        for clause in reading.clauses
        for a, b in pairwise([word for word in clause if word not in world.ARTICLES])
        if a in words and b in words
    ]
    good = sum(pair in pairs for pair in neighbours)
    return len(neighbours) >= 4 and 5 * good < len(neighbours)
