"""Self-BLEU: how alike a model's responses to different prompts are (Zhu et al. 2018, "Texygen", arXiv:1802.01886).

Each text is compared with all others as its references: BLEU-4 with equal weights, clipped n-gram precision, the
brevity penalty of the closest reference length, and method 1 of Chen & Cherry (2014) where an n-gram order has no
match, all as nltk's `sentence_bleu`, which a test holds it to. 0 to 1; higher is less diverse.

It is a number of all texts together, so its interval comes from its jackknife: each text gets the linearised value
theta + (n - 1) (mean of theta without one - theta without this one), whose mean is theta and whose spread over texts
is that of the jackknife. Nothing is resampled with repetition, which would make texts alike that are not (METHODS). The
interval errs on the wide side: of responses of a mini run it was 1.2 (40 texts) to 1.4 times (150) as wide as needed.

The cost is linear in the words: of each n-gram only the three texts that say it most often matter.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np

from rlhf_bench.metrics.text import words
from rlhf_bench.stats import FloatArray

__all__ = ["TEXTS", "self_bleu"]

TEXTS = 500  # texts at most: the number grows with them, so all models of a table have the same
ORDERS = (1, 2, 3, 4)
_NO_MATCH = 0.1  # matches where an order has none: method 1

Gram = tuple[str, ...]
Tops = dict[Gram, list[tuple[int, int]]]  # n-gram -> (count, text) of the three texts that say it most often


def self_bleu(texts: Sequence[str]) -> FloatArray:
    """(N,) linearised values of N texts, whose mean is their self-BLEU; NaN for fewer than 3 texts."""
    n = len(texts)
    if n < 3:
        return np.full(n, math.nan)
    tokens = [words(text) for text in texts]
    lengths = [len(found) for found in tokens]
    matches = np.zeros((n, len(ORDERS)))
    without: dict[tuple[int, int], FloatArray] = {}  # (text, text left out) -> the matches that are lost, an order each
    for at, order in enumerate(ORDERS):
        counts = [Counter(zip(*(found[k:] for k in range(order)), strict=False)) for found in tokens]
        tops = _tops(counts)
        for i, own in enumerate(counts):
            for gram, count in own.items():
                others = [top for top in tops[gram] if top[1] != i]
                first, second = (min(count, others[k][0]) if k < len(others) else 0 for k in (0, 1))
                matches[i, at] += first
                if first > second:
                    lost = without.setdefault((i, others[0][1]), np.zeros(len(ORDERS)))
                    lost[at] += first - second
    penalties = _brevity(lengths)
    scores = np.array([_bleu(matches[i], lengths[i], penalties[i]) for i in range(n)])
    # Theta without text j: all others' scores, of which those change that had their matches from it. That the brevity
    # penalty might change as well is left out: among many texts another is as long.
    left = scores.sum() - scores
    for (i, j), lost in without.items():
        left[j] += _bleu(matches[i] - lost, lengths[i], penalties[i]) - scores[i]
    left /= n - 1
    values: FloatArray = scores.mean() + (n - 1) * (left.mean() - left)
    return values


def _tops(counts: Sequence[Counter[Gram]]) -> Tops:
    tops: Tops = defaultdict(list)
    for i, own in enumerate(counts):
        for gram, count in own.items():
            top = tops[gram]
            if len(top) < 3:
                top.append((count, i))
                top.sort(key=lambda pair: -pair[0])
            elif count > top[2][0]:
                top[2] = (count, i)
                top.sort(key=lambda pair: -pair[0])
    return tops


def _brevity(lengths: Sequence[int]) -> list[float]:
    """exp(1 - r / c) for a text of c words that is shorter than r, the length of another that is closest to its own."""
    ordered = sorted(lengths)
    penalties = []
    for length in lengths:
        at = bisect_left(ordered, length)
        others = ordered[max(at - 1, 0) : at] + ordered[at + 1 : at + 2]
        closest = min(others, key=lambda other: (abs(other - length), other))
        penalties.append(1.0 if length >= closest else math.exp(1 - closest / length) if length else 0.0)
    return penalties


def _bleu(matches: FloatArray, length: int, penalty: float) -> float:
    """Of one text from its matches by order; 0 where not even a word is shared."""
    if matches[0] <= 0:
        return 0.0
    logs = 0.0
    for order, matched in zip(ORDERS, matches, strict=True):
        possible = max(1, length - order + 1)
        logs += math.log((matched if matched > 0 else _NO_MATCH) / possible)
    return penalty * math.exp(logs / len(ORDERS))
