"""What a response is like, as numbers that need no model: the features that an audit's slices and regression use.

Each is a plain function of a text that says what it counts. All are defined on empty text. Words are English, and the
lists are short: a feature counts what it names, and misses other ways to say the same.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from rlhf_bench.stats import FloatArray

_WORD = re.compile(r"[a-z0-9]+(?:'[a-z]+)?")
_HEDGES = re.compile(
    r"\b(?:maybe|perhaps|possibly|probably|likely|might|may|could be|seems?|appears?|i think|i believe|i guess"
    r"|i'm not sure|i am not sure|it depends|in general|generally|usually|often|sometimes|somewhat|around|about"
    r"|roughly|unclear)\b"
)
_ASSERTS = re.compile(
    r"\b(?:definitely|certainly|clearly|obviously|undoubtedly|absolutely|surely|always|never|of course|without doubt"
    r"|no doubt|everybody knows|everyone knows|exactly|indeed|guaranteed|in fact|must)\b"
)
_POLITE = re.compile(
    r"\b(?:please|thanks?|thank you|sorry|apologi[sz]e|gladly|happy to|glad|kindly|with pleasure|i hope|welcome"
    r"|my pleasure|nice to|have a nice)\b"
)
_FLATTERS = re.compile(
    r"\b(?:(?:great|good|excellent|brilliant|wonderful|fantastic|amazing|smart|interesting)"
    r" (?:question|idea|point|choice)"
    r"|you are (?:so )?(?:smart|fantastic|brilliant|amazing|wonderful|great|clever)|you're (?:so )?(?:smart|fantastic"
    r"|brilliant|amazing|wonderful|great|clever)|well done|good thinking)\b"
)
_LIST_ITEM = re.compile(r"(?:^|\n)\s*(?:[-*•]|\d+[.)])\s+\S")
_MARKDOWN = re.compile(r"\*\*[^*]+\*\*|(?:^|\n)#{1,6} |`[^`]+`|\[[^\]]+\]\([^)]+\)")
_FIRST_PERSON = re.compile(r"\b(?:i|i'm|i've|i'll|i'd|me|my|mine|we|our|us)\b")
_NUMBER = re.compile(r"\b\d+(?:[.,]\d+)*\b")
_TOXIC = re.compile(
    r"\b(?:stupid|idiots?|dumb|moron|hate|kill|damn|hell|crap|shut up|silly|lazy|ugly|loser|pathetic|trash"
    r"|disgusting)\b"
)
_REFUSES = re.compile(
    r"\b(?:cannot|can't|can not|won't|will not|unable to|not able to|must decline|refuse to|not comfortable"
    r"|rather not)\b"
)
_REFUSAL_STARTS = 200  # characters in which a refusal begins


def length(text: str) -> float:
    """The logarithm of 1 + the number of words: twice as long is as far for short responses as for long ones."""
    return math.log1p(len(_WORD.findall(text.lower())))


def _log_count(pattern: re.Pattern[str], text: str) -> float:
    """Occurrences on a scale that flattens: log(1 + count), so that one text of many does not rule a regression."""
    return math.log1p(len(pattern.findall(text.lower().replace("’", "'"))))


def hedging(text: str) -> float:
    """log(1 + words and phrases that leave room for doubt): "maybe", "it depends", "I am not sure"."""
    return _log_count(_HEDGES, text)


def assertiveness(text: str) -> float:
    """log(1 + words and phrases that leave no room for doubt): "definitely", "of course", "never"."""
    return _log_count(_ASSERTS, text)


def politeness(text: str) -> float:
    """log(1 + polite words and phrases): "please", "thank you", "happy to"."""
    return _log_count(_POLITE, text)


def flattery(text: str) -> float:
    """log(1 + compliments to the user): "great question", "you are fantastic"."""
    return _log_count(_FLATTERS, text)


def exclamation(text: str) -> float:
    """log(1 + exclamation marks)."""
    return math.log1p(text.count("!"))


def refusal(text: str) -> float:
    """1 if a way to say "I cannot" or "I will not" is in the first 200 characters, else 0."""
    return float(_REFUSES.search(text[:_REFUSAL_STARTS].lower().replace("’", "'")) is not None)


def list_form(text: str) -> float:
    """log(1 + lines that begin as items of a list): "- x", "1. x"."""
    return _log_count(_LIST_ITEM, text)


def markdown(text: str) -> float:
    """log(1 + markup other than lists): **bold**, # headings, `code`, [links](to)."""
    return _log_count(_MARKDOWN, text)


def question(text: str) -> float:
    """log(1 + question marks)."""
    return math.log1p(text.count("?"))


def first_person(text: str) -> float:
    """log(1 + words of the first person): "I", "my", "we"."""
    return _log_count(_FIRST_PERSON, text)


def numbers(text: str) -> float:
    """log(1 + numbers in digits)."""
    return _log_count(_NUMBER, text)


def toxicity(text: str) -> float:
    """log(1 + rude and insulting words of a short list): "stupid", "shut up"."""
    return _log_count(_TOXIC, text)


FEATURES: Mapping[str, Callable[[str], float]] = {
    function.__name__: function
    for function in (
        length, hedging, assertiveness, politeness, flattery, exclamation, refusal, list_form, markdown, question,
        first_person, numbers, toxicity,
    )
}  # fmt: skip
"""The features of a response, by name."""


def turns(prompt: str) -> float:
    """The number of the user's turns in a prompt of the HH form, at least 1."""
    return float(max(1, prompt.count("\n\nHuman:")))


def prompt_length(prompt: str) -> float:
    """log(1 + words of the prompt)."""
    return length(prompt)


def similarity(chosen: str, rejected: str) -> float:
    """Shared words over all words of the two responses, 0 to 1 (Jaccard); 1 where both are empty."""
    a, b = set(_WORD.findall(chosen.lower())), set(_WORD.findall(rejected.lower()))
    return len(a & b) / len(a | b) if a | b else 1.0


def feature_table(texts: Sequence[str]) -> FloatArray:
    """The features of each text, (N, len(FEATURES)); a text that is there twice is read once."""
    known: dict[str, list[float]] = {}
    for text in texts:
        if text not in known:
            known[text] = [function(text) for function in FEATURES.values()]
    return np.array([known[text] for text in texts], dtype=np.float64).reshape(len(texts), len(FEATURES))


def feature_differences(chosen: Sequence[str], rejected: Sequence[str]) -> FloatArray:
    """Chosen minus rejected, for each pair and feature, (N, len(FEATURES))."""
    return feature_table(chosen) - feature_table(rejected)


def tags(pair_differences: FloatArray) -> list[str]:
    """How the rejected response of a pair differs most, from its differences (K,): "more length"."""
    return [
        f"{'more' if value < 0 else 'less'} {name}"
        for name, value in zip(FEATURES, pair_differences.tolist(), strict=True)
        if value
    ]
