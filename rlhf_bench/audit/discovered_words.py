"""Single words that a reward model pays for though the labels do not: found on either half, measured on the other.

The features of `scorers.features` name what is known to mislead reward models. A word that is in none of their lists
is found here: on each half of the prompts words are ranked by how much of the model's preference they explain beyond
the features and the labels; the first few then take part in the regression of the other half, as features of their own.
Those that it confirms take part in the regression of all pairs, too: else a feature that goes with a word (a sentence
that has it is longer) would be charged for the word.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from scipy import special

from rlhf_bench.audit.regression import MIN_PAIRS, Coefficient, payments, usable
from rlhf_bench.audit.slices import half_of
from rlhf_bench.stats import FloatArray

TOP = 5  # words that each half gives to the other
_MIN_EACH = 10  # pairs of either half in which a word is on the chosen side alone, and on the rejected side alone
_LEVEL = 0.05  # at which a word is confirmed, divided by the number of words tested (Bonferroni)


class Words(NamedTuple):
    coefficients: list[Coefficient]  # the prices of at most 2 TOP words, by the half that they were not found on
    confirmed: list[str]  # names of those that it confirms
    differences: FloatArray  # of the confirmed ones, chosen minus rejected: 1, 0 or -1, (N, len(confirmed))


def discovered_words(
    prompts: Sequence[str],
    chosen: Sequence[str],
    rejected: Sequence[str],
    differences: FloatArray,
    margins: FloatArray,
    *,
    seed: int = 0,
) -> Words:
    """Words of the texts, found on either half of the prompts and measured on the other; none for too few pairs.

    differences: of features, chosen minus rejected, (N, K); margins: (N,).
    """
    from sklearn.feature_extraction.text import CountVectorizer

    none = Words([], [], np.zeros((len(margins), 0)))
    half = half_of(prompts, seed)
    first, rest = np.flatnonzero(half), np.flatnonzero(~half)
    if min(len(first), len(rest)) < MIN_PAIRS:
        return none
    vectorizer = CountVectorizer(binary=True, token_pattern=r"(?u)\b[^\W\d_][\w']*")
    try:
        counts = vectorizer.fit_transform([*chosen, *rejected]).astype(np.float64)
    except ValueError:  # no word is in any text
        return none
    has = (counts[: len(chosen)] - counts[len(chosen) :]).tocsr()  # (N, V): 1, 0 or -1
    rarest = [np.asarray((has[at] == sign).sum(axis=0)).ravel() for at in (first, rest) for sign in (1, -1)]
    kept = np.flatnonzero(np.min(rarest, axis=0) >= _MIN_EACH)
    if not len(kept):
        return none
    has, names = has[:, kept], vectorizer.get_feature_names_out()[kept]
    columns = {f"the word {name!r}": k for k, name in enumerate(names)}
    found: dict[str, list[Coefficient]] = {}
    for find, test in ((first, rest), (rest, first)):
        unexplained = _unexplained(differences[find], margins[find], [prompts[i] for i in find.tolist()])
        part = has[find]
        spread = np.asarray(part.multiply(part).T @ unexplained**2)
        score = np.abs(np.asarray(part.T @ unexplained)) / np.sqrt(np.maximum(spread, 1e-300))
        best = np.argsort(-score, kind="stable")[:TOP]
        both = np.column_stack([differences[test], has[test][:, best].toarray()])
        titles = [*[""] * differences.shape[1], *(f"the word {names[k]!r}" for k in best)]
        paid = payments(both, margins[test], titles, [prompts[i] for i in test.tolist()])
        for row in paid.coefficients:
            if row.feature:
                found.setdefault(row.feature, []).append(row)
    rows = [_joined(of_word) for of_word in found.values()]
    confirmed = [row.feature for row in rows if row.p < _LEVEL / len(rows)]
    return Words(rows, confirmed, has[:, [columns[name] for name in confirmed]].toarray())


def _joined(rows: Sequence[Coefficient]) -> Coefficient:
    """The price of a word: of the half that did not find it, or, where both halves found it, the mean of both.

    The p-value is then twice the smaller one (Bonferroni), since each half was chosen by the other alone.
    """
    if len(rows) == 1:
        return rows[0]
    a, b = rows
    means = {name: (getattr(a, name) + getattr(b, name)) / 2 for name in ("sd", "model", "labels", "difference")}
    bounds: dict[str, Any] = {}
    for name in ("model", "labels", "difference"):
        half = math.hypot(*(getattr(row, f"{name}_high") - getattr(row, name) for row in rows)) / 2
        bounds |= {f"{name}_low": means[name] - half, f"{name}_high": means[name] + half}
    return replace(
        a, **means, **bounds, p=min(1.0, 2 * min(a.p, b.p)), detectable=math.hypot(a.detectable, b.detectable) / 2,
        inflation=max(a.inflation, b.inflation),
    )  # fmt: skip


def _unexplained(differences: FloatArray, margins: FloatArray, prompts: Sequence[str]) -> FloatArray:
    """What the features leave of the model's preference, less what they leave of the labels', (N,)."""
    paid = payments(differences, margins, [str(k) for k in range(differences.shape[1])], prompts, tested=False)
    rows = paid.coefficients
    x = differences[:, usable(differences)] / np.array([row.sd for row in rows])
    model, labels = (x @ np.array([getattr(row, name) for row in rows]) for name in ("model", "labels"))
    of_labels = paid.attenuation * special.expit(-labels)
    rest: FloatArray = special.expit(margins / paid.temperature) - special.expit(model) - of_labels
    return rest
