"""ROUGE-1, ROUGE-2, ROUGE-L and ROUGE-Lsum by `rouge_score` with `use_stemmer=True` (METHODS, "ROUGE").

Lin 2004, "ROUGE: A Package for Automatic Evaluation of Summaries". The tokeniser and the n-gram scores are the
package's own. Only what repeats is remembered (stems of words, tokens of references), and the longest common
subsequence is computed on the bits of integers instead of cell by cell; a test holds all three equal to the package.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from rouge_score import rouge_scorer, scoring, tokenize, tokenizers

from rlhf_bench.scorers.base import Alarm, Columns, EvalContext, Metric, Missing, ResponseRow, Scorer

__all__ = ["ROUGE_PARTS", "SCORER", "SETTINGS", "Score", "rouge_best", "rouge_parts"]

_TITLES = {"rouge1": "ROUGE-1", "rouge2": "ROUGE-2", "rougeL": "ROUGE-L", "rougeLsum": "ROUGE-Lsum"}
ROUGE_PARTS: dict[str, tuple[str, str]] = {name: (f"{name}_precision", f"{name}_recall") for name in _TITLES}
"""ROUGE's F -> its precision and recall, which have a table of their own."""
SETTINGS = {"package": "rouge_score", "use_stemmer": True, "score": "F-measure, mean over responses"}


class _Stemmer:
    """The stemmer that rouge_score builds for `use_stemmer=True`, each word stemmed once."""

    def __init__(self) -> None:
        self.stem = lru_cache(maxsize=100_000)(tokenizers.porter.PorterStemmer().stem)


class _Tokenizer:
    """What `RougeScorer(use_stemmer=True)` does to a text, each text read once."""

    def __init__(self) -> None:
        stemmer = _Stemmer()
        self.tokenize = lru_cache(maxsize=10_000)(lambda text: tuple(tokenize.tokenize(text, stemmer)))


_TOKENIZER = _Tokenizer()
_NGRAMS = rouge_scorer.RougeScorer(["rouge1", "rouge2"], tokenizer=_TOKENIZER)
_LINES = rouge_scorer.RougeScorer(["rougeLsum"], tokenizer=_TOKENIZER)


class Score(NamedTuple):
    """Precision is over the response's words, recall over the reference's, F their harmonic mean; 0 to 1."""

    precision: float
    recall: float
    fmeasure: float


def rouge_parts(reference: str, prediction: str) -> dict[str, float]:
    """{"rouge1": F, "rouge1_precision": ..., "rouge1_recall": ..., ...} of one response, for ROUGE-1, -2, -L and -Lsum.

    ROUGE-Lsum takes each line as a sentence; a text of one line has that of ROUGE-L.
    """
    scores = _scores(reference, prediction)
    one_line = "\n" not in reference.strip() and "\n" not in prediction.strip()
    scores["rougeLsum"] = scores["rougeL"] if one_line else _of(_LINES.score(reference, prediction)["rougeLsum"])
    found: dict[str, float] = {}
    for name, score in scores.items():
        found |= {name: score.fmeasure, f"{name}_precision": score.precision, f"{name}_recall": score.recall}
    return found


def rouge_best(references: Sequence[str], prediction: str) -> dict[str, float]:
    """`rouge_parts` of one response against several references: for each ROUGE the reference of the largest F-measure.

    As `rouge_score`'s `score_multi`. Raises ValueError where there is no reference.
    """
    found = [rouge_parts(reference, prediction) for reference in references]
    best: dict[str, float] = {}
    for name in ("rouge1", "rouge2", "rougeL", "rougeLsum"):
        parts = max(found, key=lambda scores: scores[name])
        best |= {key: parts[key] for key in (name, f"{name}_precision", f"{name}_recall")}
    return best


def _scores(reference: str, prediction: str) -> dict[str, Score]:
    scores = {name: _of(score) for name, score in _NGRAMS.score(reference, prediction).items()}
    ours, theirs = _TOKENIZER.tokenize(reference), _TOKENIZER.tokenize(prediction)
    scores["rougeL"] = Score(0.0, 0.0, 0.0)
    if ours and theirs:
        common = _lcs_length(ours, theirs)
        precision, recall = common / len(theirs), common / len(ours)
        scores["rougeL"] = Score(precision, recall, float(scoring.fmeasure(precision, recall)))
    return scores


def _of(score: Any) -> Score:
    return Score(float(score.precision), float(score.recall), float(score.fmeasure))


def _lcs_length(a: tuple[str, ...], b: tuple[str, ...]) -> int:
    """Length of the longest common subsequence: Hyyro 2004, "Bit-parallel LCS-length computation revisited".

    Bit i of `row` is 0 where the length grows from a[:i] to a[:i+1], given the part of b read so far.
    """
    places: dict[str, int] = {}
    for i, word in enumerate(a):
        places[word] = places.get(word, 0) | 1 << i
    every = (1 << len(a)) - 1
    row = every
    for word in b:
        hit = row & places.get(word, 0)
        row = ((row + hit) | (row - hit)) & every
    return len(a) - row.bit_count()


def _metrics() -> list[Metric]:
    described = {
        "rouge1": "words shared with the chosen response, stemmed",
        "rouge2": "pairs of words shared with the chosen response, stemmed",
        "rougeL": "longest common subsequence with the chosen response, stemmed",
        "rougeLsum": "as ROUGE-L, line by line",
    }
    over = {"precision": ("P", "the response's words"), "recall": ("R", "the chosen response's words")}
    whole, parts = [], []
    for i, (name, title) in enumerate(_TITLES.items()):
        shown = {} if name == "rougeLsum" else {"summary": 60 + i, "per_seed": 60 + i}
        alarm = Alarm("reward against ROUGE-L", bad=-1, with_reward=True) if name == "rougeL" else None
        whole.append(
            Metric(
                name,
                title,
                "F",
                True,
                3,
                described[name],
                bounds=(0.0, 1.0),
                compared=name == "rougeL",
                alarm=alarm,
                tables={**shown, "rouge": 3 * i + 2},
                expected=bool(shown),
            )
        )
        for j, (part, (letter, words)) in enumerate(over.items()):
            parts.append(
                Metric(
                    f"{name}_{part}",
                    f"{title} {letter}",
                    part,
                    None,
                    3,
                    f"{title} as a share of {words}",
                    bounds=(0.0, 1.0),
                    tables={"rouge": 3 * i + j},
                    detail=True,
                )
            )
    return [*whole, *parts]


class RougeScorer(Scorer):
    order = 40
    metrics = tuple(_metrics())

    def score(self, rows: Sequence[ResponseRow], context: EvalContext) -> Columns:
        """NaN where there is no text to compare with."""
        names = [name for of_one in ROUGE_PARTS.items() for name in (of_one[0], *of_one[1])]
        if context.origin == "data" and all(row.model == "chosen" for row in rows):
            return dict.fromkeys(names, Missing("it is the text that the others are compared with"))
        if not any(row.compared_with for row in rows):
            return dict.fromkeys(names, Missing("no reference texts to compare with"))
        scores = [rouge_best(row.compared_with, row.response) if row.compared_with else None for row in rows]
        return {name: np.array([math.nan if score is None else score[name] for score in scores]) for name in names}


SCORER = RougeScorer()
