"""Self-BLEU: how alike a model's responses to different prompts are (Zhu et al. 2018, "Texygen", arXiv:1802.01886).

Each text is compared with all others as its references: BLEU-4 with equal weights, clipped n-gram precision, the
brevity penalty of the closest reference length, and method 1 of Chen & Cherry (2014) where an n-gram order has no
match, all as nltk's `sentence_bleu`, which a test holds it to. 0 to 1; higher is less diverse.

It is a number of all texts together, so its interval comes from its jackknife: each text gets the linearised value
theta + f (n - 1) (mean of theta without one - theta without this one), so that their mean is theta. Nothing is
resampled with repetition, which would make texts alike that are not. With f = 1 the spread over texts would
be that of the jackknife, which counts what k texts do together k times (Efron & Stein 1981): for a number made of
maxima 1.2 to 1.4 times as wide as needed. f is measured on random halves of the texts: the numbers a and b of two
disjoint halves are independent, so the mean of (a - b)^2 / 2 is the variance of the number of n/2 texts, whatever its
form. From n/2 to n texts it falls by half, or as the variance that the jackknife claims does: f takes the larger of the
two, to err on the wide side (docs/coverage.md). It is at most 1, and 1 for fewer than 40 texts.

The cost is linear in the words: of each n-gram only the three texts that have it most often matter.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import count as count_from

import numpy as np
from scipy.sparse import csr_matrix

from rlhf_bench.scorers.base import AlarmRule, Columns, Corpus, Metric, Scorer
from rlhf_bench.scorers.text import words
from rlhf_bench.stats import FloatArray

_SPLITS, _CLAIMS = 200, 2  # into halves, and of these those with halves that are jackknifed as well
_FEWEST = 40  # texts below which halves are too small
ORDERS = (1, 2, 3, 4)
_NO_MATCH = 0.1  # matches where an order has none: method 1

Gram = tuple[str, ...]
Tops = dict[Gram, list[tuple[int, int]]]  # n-gram -> (count, text) of the three texts that have it most often


def self_bleu(texts: Sequence[str], *, seed: int = 0) -> FloatArray:
    """(N,) linearised values of N texts: their mean is the self-BLEU; NaN for fewer than 3 texts.

    `seed` draws the halves that set how far the values spread, never their mean.
    """
    if len(texts) < 3:
        return np.full(len(texts), math.nan)
    tokens = [words(text) for text in texts]
    theta, influence = _jackknife(tokens)
    if len(texts) >= _FEWEST and influence.any():
        influence *= _width(tokens, float(influence.var(ddof=1)) / len(texts), seed=seed)
    values: FloatArray = theta + influence
    return values


def _jackknife(tokens: Sequence[Sequence[str]]) -> tuple[float, FloatArray]:
    """Self-BLEU of n texts, and (n - 1) (mean of those without one text - that without each), (n,)."""
    n = len(tokens)
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
    influence: FloatArray = (n - 1) * (left.mean() - left)
    return float(scores.mean()), influence


def _width(tokens: Sequence[Sequence[str]], claimed: float, *, seed: int) -> float:
    """f for texts of which the jackknife claims this variance."""
    n, size = len(tokens), len(tokens) // 2
    generator = np.random.default_rng(seed)
    orders = np.stack([generator.permutation(n) for _ in range(_SPLITS)], axis=1)  # (n, B)
    inside = np.zeros((n, 2 * _SPLITS))  # one column per half
    for part in (0, 1):
        columns = np.arange(part * _SPLITS, (part + 1) * _SPLITS)
        inside[orders[part * size : (part + 1) * size], columns] = 1.0
    matches = np.stack([_matches_within(tokens, order, inside) for order in ORDERS], axis=2)  # (n, 2B, 4)
    lengths = np.array([len(found) for found in tokens])
    penalties = np.zeros(inside.shape)
    for column in range(2 * _SPLITS):
        members = np.flatnonzero(inside[:, column])
        penalties[members, column] = _brevity(lengths[members].tolist())
    possible = np.maximum(1, lengths[:, None, None] - np.array(ORDERS) + 1)
    logs = np.log(np.where(matches > 0, matches, _NO_MATCH) / possible).mean(axis=2)
    scores = np.where(matches[:, :, 0] > 0, penalties * np.exp(logs), 0.0)  # (n, 2B), 0 outside a column's half
    means = scores.sum(axis=0) / size
    variance = float(np.mean((means[:_SPLITS] - means[_SPLITS:]) ** 2)) / 2
    jackknifed = [*range(_CLAIMS), *range(_SPLITS, _SPLITS + _CLAIMS)]
    claims = [_jackknife([tokens[int(i)] for i in np.flatnonzero(inside[:, column])])[1] for column in jackknifed]
    of_halves = float(np.mean([influence.var(ddof=1) / size for influence in claims]))
    least = min(2 * claimed, of_halves)
    return min(1.0, math.sqrt(variance / least)) if least > 0 else 1.0


def _matches_within(tokens: Sequence[Sequence[str]], order: int, inside: FloatArray) -> FloatArray:
    """(n, C): the clipped matches of each text with the others of each column's texts, for n-grams of one order.

    min(c, largest count of another) is the number of t <= c that another reaches: for each t an incidence matrix of
    the texts that have an n-gram t times or more, of which a text has a match where its column has two.
    """
    counts = [Counter(zip(*(found[k:] for k in range(order)), strict=False)) for found in tokens]
    total = np.zeros(inside.shape)
    for t in count_from(1):
        index: dict[Gram, int] = {}
        pairs = [
            (i, index.setdefault(gram, len(index))) for i, own in enumerate(counts) for gram, c in own.items() if c >= t
        ]
        if not pairs:
            return total
        rows, columns = zip(*pairs, strict=True)
        used = csr_matrix((np.ones(len(pairs)), (rows, columns)), shape=(len(counts), len(index)))
        used = used[:, np.asarray(used.sum(axis=0)).ravel() >= 2]  # what one text alone has never matches
        total += np.asarray(used @ (used.T @ inside >= 2).astype(np.float64))
    raise AssertionError


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
    """The BLEU of one text from its matches by order; 0 where not even a word is shared."""
    if matches[0] <= 0:
        return 0.0
    logs = 0.0
    for order, matched in zip(ORDERS, matches, strict=True):
        possible = max(1, length - order + 1)
        logs += math.log((matched if matched > 0 else _NO_MATCH) / possible)
    return penalty * math.exp(logs / len(ORDERS))


class SelfBleuScorer(Scorer):
    order = 61
    metrics = (
        Metric(
            "self_bleu", "Self-BLEU", "", False, 3,
            "BLEU-4 of each response against those to other prompts, one a prompt; grows with their number",
            bounds=(0.0, 1.0),
            alarm=AlarmRule("self-BLEU", 1, "its responses to different prompts may be alike, or longer", least=0.05),
            tables={"summary": 102},
        ),
    )  # fmt: skip

    def corpus(self, corpus: Corpus) -> Columns:
        return {"self_bleu": self_bleu(corpus.texts)}


SCORER = SelfBleuScorer()
