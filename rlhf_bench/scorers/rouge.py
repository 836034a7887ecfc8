"""ROUGE-1, ROUGE-2, ROUGE-L and ROUGE-Lsum by `rouge_score` with `use_stemmer=True`.

Lin 2004, "ROUGE: A Package for Automatic Evaluation of Summaries". The tokeniser and the n-gram scores are the
package's own. Only what repeats is remembered (stems of words, tokens of references), and the longest common
subsequence is computed on the bits of integers instead of cell by cell; a test holds all three equal to the package.

The package's tokenizer reads a-z and 0-9 alone. Where most letters of the reference texts are others (Chinese, Russian)
its ROUGE is missing. `rouge_tokenizer: unicode` of a suite adds a ROUGE of every script's words, under other names.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, lru_cache
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt
from rouge_score import scoring, tokenize

from rlhf_bench.scorers.base import AlarmRule, Columns, EvalContext, Metric, Missing, ResponseRow, Scorer
from rlhf_bench.scorers.text import is_english_script, split_unspaced

UNICODE = "_unicode"  # the end of the names of ROUGE by the words of every script
_TITLES = {"rouge1": "ROUGE-1", "rouge2": "ROUGE-2", "rougeL": "ROUGE-L", "rougeLsum": "ROUGE-Lsum"}
_NAMES = (*_TITLES, *(f"{name}{UNICODE}" for name in _TITLES))
ROUGE_PARTS: dict[str, tuple[str, str]] = {name: (f"{name}_precision", f"{name}_recall") for name in _NAMES}
"""ROUGE's F -> its precision and recall, which have a table of their own."""


def rouge_settings(tokenizer: str) -> dict[str, object]:
    """What a manifest records of ROUGE."""
    return {
        "package": "rouge_score", "use_stemmer": True, "tokenizer": tokenizer,
        "score": "F-measure, mean over responses",
    }  # fmt: skip


class _Stemmer:
    """The stemmer that rouge_score builds for `use_stemmer=True`, each word stemmed once."""

    @cached_property
    def stem(self) -> Callable[[str], str]:
        from rouge_score import tokenizers  # imports nltk, which takes seconds

        return lru_cache(maxsize=100_000)(tokenizers.porter.PorterStemmer().stem)


_STEMMER = _Stemmer()


def english_words(text: str) -> tuple[str, ...]:
    """The words that `RougeScorer(use_stemmer=True)` reads: of a-z and 0-9, stemmed."""
    return tuple(tokenize.tokenize(text, _STEMMER))


def unicode_words(text: str) -> tuple[str, ...]:
    """Words of letters, marks and digits of any script, in lower case; those of English as `english_words`.

    A script that puts no space between words has one word per character, with the marks that follow it.
    """
    words = _split_words(unicodedata.normalize("NFKC", text).lower())
    return tuple(part for word in words for part in (english_words(word) if word.isascii() else (word,)))


def _split_words(text: str) -> Iterator[str]:
    for is_word, characters in groupby(text, key=lambda c: unicodedata.category(c)[0] in "LMN"):
        if is_word:
            yield from split_unspaced("".join(characters))


class _Rouge:
    """The package's scores by the words of one tokenizer, each text read once."""

    def __init__(self, words: Callable[[str], tuple[str, ...]]) -> None:
        self.tokenize = lru_cache(maxsize=10_000)(words)

    @cached_property
    def ngrams(self) -> Any:
        return self._scorer("rouge1", "rouge2")

    @cached_property
    def lines(self) -> Any:
        return self._scorer("rougeLsum")

    def _scorer(self, *names: str) -> Any:
        from rouge_score import rouge_scorer  # imports nltk

        return rouge_scorer.RougeScorer(list(names), tokenizer=self)


_ENGLISH, _UNICODE = _Rouge(english_words), _Rouge(unicode_words)


def rouge_parts(reference: str, prediction: str, rouge: _Rouge = _ENGLISH) -> dict[str, float]:
    """{"rouge1": F, "rouge1_precision": ..., "rouge1_recall": ..., ...} of one response, for ROUGE-1, -2, -L and -Lsum.

    Precision is over the response's words, recall over the reference's, F their harmonic mean; 0 to 1.

    ROUGE-Lsum takes each line as a sentence; a text of one line has that of ROUGE-L.
    """
    scores = dict(rouge.ngrams.score(reference, prediction))
    ours, theirs = rouge.tokenize(reference), rouge.tokenize(prediction)
    common = _lcs_length(ours, theirs)
    precision, recall = (common / max(1, len(words)) for words in (theirs, ours))
    scores["rougeL"] = scoring.Score(precision, recall, scoring.fmeasure(precision, recall))
    one_line = "\n" not in reference.strip() and "\n" not in prediction.strip()
    scores["rougeLsum"] = scores["rougeL"] if one_line else rouge.lines.score(reference, prediction)["rougeLsum"]
    found: dict[str, float] = {}
    for name, (precision, recall, fmeasure) in scores.items():
        found |= {name: float(fmeasure), f"{name}_precision": float(precision), f"{name}_recall": float(recall)}
    return found


def rouge_best(references: Sequence[str], prediction: str, rouge: _Rouge = _ENGLISH) -> dict[str, float]:
    """`rouge_parts` of one response against several references: for each ROUGE the reference of the largest F-measure.

    As `rouge_score`'s `score_multi`. Raises ValueError where there is no reference.
    """
    found = [rouge_parts(reference, prediction, rouge) for reference in references]
    best: dict[str, float] = {}
    for name in _TITLES:
        parts = max(found, key=lambda scores: scores[name])
        best |= {key: parts[key] for key in (name, f"{name}_precision", f"{name}_recall")}
    return best


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


_LESS_LIKE_CHOSEN = AlarmRule(
    "reward against ROUGE-L", -1, "its responses may answer something else than the chosen ones, or the same in other "
    "words or at another length", least=0.05, with_reward=True,
)  # fmt: skip


def _metrics(ending: str) -> list[Metric]:
    """Metrics of one tokenizer; their names have the `ending`."""
    words = "words in any script" if ending else "words"
    described = {
        "rouge1": f"{words} shared with the chosen response, stemmed",
        "rouge2": f"pairs of {words} shared with the chosen response, stemmed",
        "rougeL": f"longest common subsequence of {words} with the chosen response, stemmed",
        "rougeLsum": "as ROUGE-L, line by line",
    }
    over = {"precision": ("P", "the response's words"), "recall": ("R", "the chosen response's words")}
    whole, parts = [], []
    for i, (name, title) in enumerate(_TITLES.items()):
        shown = {} if name == "rougeLsum" else {"summary": 60 + i, "per_seed": 60 + i}
        alarm = _LESS_LIKE_CHOSEN if name == "rougeL" else None
        title = f"{title} Unicode" if ending else title
        place = 3 * i + (3 * len(_TITLES) if ending else 0)
        whole.append(
            Metric(
                f"{name}{ending}", title, "F", True, 3, described[name], bounds=(0.0, 1.0), compared=name == "rougeL",
                alarm=alarm, tables={**shown, "rouge": place + 2}, expected=bool(shown) and not ending,
            )
        )  # fmt: skip
        for j, (part, (letter, of)) in enumerate(over.items()):
            parts.append(
                Metric(
                    f"{name}{ending}_{part}", f"{title} {letter}", part, None, 3, f"{title} as a share of {of}",
                    bounds=(0.0, 1.0), tables={"rouge": place + j}, detail=True,
                )
            )  # fmt: skip
    return [*whole, *parts]


UNSEEN = (
    "ROUGE's tokenizer reads a-z and 0-9 alone, which few words of the reference texts have; --set "
    "rouge_tokenizer=unicode adds a ROUGE of words in any script"
)


LEFT_OUT = "rouge_left_out"  # a column of 1 for a response to a reference text without words that are read


class RougeScorer(Scorer):
    order = 40
    metrics = (*_metrics(""), *_metrics(UNICODE))

    def score(self, rows: Sequence[ResponseRow], context: EvalContext) -> Columns:
        """NaN where there is no text to compare with, or the tokenizer reads no word of it."""
        endings = ["", UNICODE] if context.rouge_tokenizer == "unicode" else [""]
        if context.origin == "data" and all(row.model == "chosen" for row in rows):
            return dict.fromkeys(_columns(endings), Missing("it is the text that the others are compared with"))
        if not any(row.compared_with for row in rows):
            return dict.fromkeys(_columns(endings), Missing("no reference texts to compare with"))
        seen = [bool(row.compared_with) and is_english_script(" ".join(row.compared_with)) for row in rows]
        columns = _scored(rows, "", seen) if any(seen) else dict.fromkeys(_columns([""]), Missing(UNSEEN))
        left_out = [float(bool(row.compared_with) and not ok) for row, ok in zip(rows, seen, strict=True)]
        return {
            **columns,
            LEFT_OUT: np.array(left_out),
            **(_scored(rows, UNICODE, [True] * len(rows)) if UNICODE in endings else {}),
        }


def _columns(endings: Sequence[str]) -> list[str]:
    names = [f"{name}{ending}" for ending in endings for name in _TITLES]
    return [column for name in names for column in (name, *ROUGE_PARTS[name])]


def _scored(rows: Sequence[ResponseRow], ending: str, counts: Sequence[bool]) -> Columns:
    """The columns of names with the `ending`; NaN for a row that does not count or has nothing to compare with."""
    rouge = _UNICODE if ending else _ENGLISH
    scores = [
        rouge_best(row.compared_with, row.response, rouge) if ok and row.compared_with else None
        for row, ok in zip(rows, counts, strict=True)
    ]
    columns: dict[str, npt.NDArray[np.float64]] = {}
    for name in _TITLES:
        own = (name, f"{name}_precision", f"{name}_recall")
        for column, key in zip((f"{name}{ending}", *ROUGE_PARTS[f"{name}{ending}"]), own, strict=True):
            columns[column] = np.array([math.nan if score is None else score[key] for score in scores])
    return columns


SCORER = RougeScorer()
