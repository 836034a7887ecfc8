"""What words alone decide: a logistic regression on the words of both sides, trained on the training pairs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rlhf_bench.stats import FloatArray
from rlhf_bench.types import PreferencePair

MAX_TRAINING = 5000  # pairs to train on
_C = 0.3  # inverse of the L2 penalty
_FOLDS = 5


def word_margins(train: Sequence[PreferencePair], test: Sequence[PreferencePair]) -> FloatArray | None:
    """The log odds that the chosen side of each test pair is the chosen one, (N,); None where no word is shared.

    A Bradley-Terry model: a response's worth is a sum over its distinct words and word pairs, without the prompt.
    It sees what a response says and not whether it is right: an accuracy near the reward model's says that these data
    do not need more.
    """
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression

    vectorizer = CountVectorizer(binary=True, ngram_range=(1, 2), min_df=3, token_pattern=r"(?u)\b\w+\b|[!?]")
    kept = list(train[:MAX_TRAINING])
    try:
        vectorizer.fit([text for pair in kept for text in (pair.chosen, pair.rejected)])
    except ValueError:  # no word is in three responses
        return None

    def differences(pairs: Sequence[PreferencePair]) -> object:
        return vectorizer.transform([p.chosen for p in pairs]) - vectorizer.transform([p.rejected for p in pairs])

    # a pair is "1" as it is and "0" with its sides swapped: one half of them each is enough, as there is no intercept
    x = differences(kept)
    sign = np.where(np.arange(len(kept)) % 2 == 0, 1.0, -1.0)
    model = LogisticRegression(C=_C, fit_intercept=False, max_iter=300)
    model.fit(x.multiply(sign[:, None]).tocsr(), sign > 0)  # type: ignore[attr-defined]
    margins: FloatArray = np.asarray(model.decision_function(differences(test)), dtype=np.float64)
    return margins


def cross_fitted(pairs: Sequence[PreferencePair]) -> FloatArray | None:
    """`word_margins` of each fifth of the prompts by a model of the other four, (N,); None where one has no words."""
    numbers = {prompt: i for i, prompt in enumerate(sorted({pair.prompt for pair in pairs}))}
    drawn = np.random.default_rng(0).permutation(len(numbers)) % _FOLDS
    fold = np.array([drawn[numbers[pair.prompt]] for pair in pairs])
    margins = np.zeros(len(pairs))
    for k in range(_FOLDS):
        at = np.flatnonzero(fold == k)
        if not len(at):
            continue
        others = np.flatnonzero(fold != k).tolist()
        found = word_margins([pairs[i] for i in others], [pairs[i] for i in at.tolist()])
        if found is None:
            return None
        margins[at] = found
    return margins
