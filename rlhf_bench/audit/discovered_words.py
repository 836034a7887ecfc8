"""Single words that a reward model pays for though the labels do not: found on one half, measured on the other.

The features of `scorers.features` name what is known to mislead reward models. A word that is in none of their lists
is found here: on one half of the prompts the words are ranked by how much of the model's preference they explain beyond
the features and the labels; the first few then take part in the regression of the other half, as features of their own.
Those that it confirms take part in the regression of all pairs, too: else a feature that goes with a word (a sentence
that has it is longer) would be charged for the word.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import special

from rlhf_bench.audit.regression import MIN_PAIRS, Coefficient, payments, usable
from rlhf_bench.audit.slices import half_of
from rlhf_bench.stats import FloatArray

TOP = 5  # words that go to the other half
_MIN_EACH = 10  # pairs of either half in which a word is on the chosen side alone, and on the rejected side alone
_LEVEL = 0.05  # at which a word is confirmed, divided by the number of words tested (Bonferroni)


class Words(NamedTuple):
    coefficients: list[Coefficient]  # the prices of at most TOP words, by the half that they were not found on
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
    """Words of the texts, found on one half of the prompts and measured on the other; none for too few pairs.

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
    unexplained = _unexplained(differences[first], margins[first], [prompts[i] for i in first.tolist()])
    part = has[first]
    spread = np.asarray(part.multiply(part).T @ unexplained**2)
    score = np.abs(np.asarray(part.T @ unexplained)) / np.sqrt(np.maximum(spread, 1e-300))
    best = np.argsort(-score, kind="stable")[:TOP]
    words = [f"the word {names[k]!r}" for k in best]
    of_words = has[:, best].toarray()
    both = np.column_stack([differences, of_words])[rest]
    unnamed = [""] * differences.shape[1]
    found = payments(both, margins[rest], [*unnamed, *words], [prompts[i] for i in rest.tolist()])
    rows = [row for row in found.coefficients if row.feature]
    confirmed = [row.feature for row in rows if row.p < _LEVEL / len(rows)]
    return Words(rows, confirmed, of_words[:, [words.index(name) for name in confirmed]])


def _unexplained(differences: FloatArray, margins: FloatArray, prompts: Sequence[str]) -> FloatArray:
    """What the features leave of the model's preference, less what they leave of the labels', (N,)."""
    paid = payments(differences, margins, [str(k) for k in range(differences.shape[1])], prompts)
    rows = paid.coefficients
    x = differences[:, usable(differences)] / np.array([row.sd for row in rows])
    model, labels = (x @ np.array([getattr(row, name) for row in rows]) for name in ("model", "labels"))
    of_labels = paid.attenuation * special.expit(-labels)
    rest: FloatArray = special.expit(margins / paid.temperature) - special.expit(model) - of_labels
    return rest
