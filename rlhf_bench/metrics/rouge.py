"""ROUGE-1, ROUGE-2, ROUGE-L and ROUGE-Lsum by `rouge_score` with `use_stemmer=True` (METHODS, "ROUGE").

Lin 2004, "ROUGE: A Package for Automatic Evaluation of Summaries". The tokeniser and the n-gram scores are the
package's own. Only what repeats is remembered (stems of words, tokens of references), and the longest common
subsequence is computed on the bits of integers instead of cell by cell; a test holds all three equal to the package.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from rouge_score import rouge_scorer, scoring, tokenize, tokenizers

__all__ = ["SETTINGS", "Rouge", "Score", "rouge", "rouge_all", "rouge_best", "rouge_parts"]


SETTINGS = {"package": "rouge_score", "use_stemmer": True, "score": "F-measure, mean over responses"}


class Rouge(NamedTuple):
    """F-measures, 0 to 1; 0 where either text has no word."""

    rouge1: float
    rouge2: float
    rougeL: float


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


def rouge(reference: str, prediction: str) -> Rouge:
    """F-measures of one response against one reference."""
    scores = _scores(reference, prediction)
    return Rouge(*(scores[name].fmeasure for name in ("rouge1", "rouge2", "rougeL")))


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


def rouge_all(references: Iterable[str], predictions: Iterable[str]) -> list[Rouge]:
    """Scores a response, in order. Raises ValueError if the numbers of texts differ."""
    return [rouge(reference, prediction) for reference, prediction in zip(references, predictions, strict=True)]


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
