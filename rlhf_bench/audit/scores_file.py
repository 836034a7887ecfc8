"""Scores that were made elsewhere, read from a file: JSON lines, JSON, CSV, Parquet, compressed or not.

A row is a prompt, in one of three forms that are known by their keys:

    {"prompt": ..., "chosen_score": 1.2, "rejected_score": 0.4}
    {"prompt": ..., "scores": [0.1, 2.0, ...], "best": 0}
    {"subset": ..., "results": 1}

`best` is the index of the right response, or a list of the indices of several. `chosen_score` and `rejected_score` may
be lists; three of each are RM-Bench's styles. `results` are RewardBench's: 1 where the chosen response scored higher.
A list may also be a string that holds one, as tables write them. Optional: `category` (or `subset`, `section`), and the
texts, as `chosen` and `rejected` or `responses`, each a text for each score. Texts that most rows share are taken for
names of what wrote them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rlhf_bench.audit.listwise import ListScores
from rlhf_bench.audit.pairs import PairScores
from rlhf_bench.data.tabular import Unusable, is_nothing, read_table
from rlhf_bench.errors import DataError
from rlhf_bench.types import PreferencePair

_CATEGORY = ("category", "subset", "section")
_SIDES = (("chosen_score", "rejected_score"), ("score_chosen", "score_rejected"), ("scores_chosen", "scores_rejected"))
_SCORES = {"scores", "results", *(name for names in _SIDES for name in names)}


class ScoresFile(NamedTuple):
    rows: list[ListScores]
    left_out: str | None  # rows that cannot be used, counted and named


def read_scores(path: Path) -> ScoresFile:
    """The scores of each prompt; a pair is a list of two, the right one first.

    Raises DataError for a file that cannot be read, a column of categories without any, or where no row can be used.
    """
    table = read_table(path)
    column = next((name for name in _CATEGORY if name in table.columns), None)
    if column and all(is_nothing(row.get(column)) or row[column] == "" for _, row in table.rows):
        raise DataError(f"{path}: the column {column!r} has no value; fill it, or leave it out")
    rows = [one for _, one in table.read(lambda number, row: _row(row, column, f"row {number}"))]
    left_out = table.settle(skip=True)
    are_names = 2 * len({row.texts for row in rows}) <= len(rows)
    return ScoresFile([row._replace(texts=None) for row in rows] if are_names else rows, left_out)


def pairs_of(rows: Sequence[ListScores]) -> tuple[list[PreferencePair], PairScores]:
    """Each right response against each wrong one. Where texts are not known a response is named by its number."""
    pairs, chosen, rejected = [], [], []
    for row in rows:
        texts = row.texts or tuple(f"response {i}" for i in range(len(row.scores)))
        right, wrong = np.flatnonzero(row.is_right).tolist(), np.flatnonzero(~row.is_right).tolist()
        for at, i in enumerate(right):
            for other, j in enumerate(wrong):
                meta = {"chosen_at": at, "rejected_at": other}
                pairs.append(PreferencePair(row.prompt, texts[i], texts[j], category=row.category, meta=meta))
                chosen.append(row.scores[i])
                rejected.append(row.scores[j])
    return pairs, PairScores(np.array(chosen), np.array(rejected))


def _row(row: Mapping[str, Any], column: str | None, place: str) -> ListScores:
    """place: what the prompt is called where the row has none."""
    empty = [key for key, value in row.items() if not isinstance(value, list) and is_nothing(value)]
    row = {key: value for key, value in row.items() if key not in empty}
    category = str(row[column]) if column and row.get(column) else None
    sides = next((names for names in _SIDES if row.keys() >= set(names)), None)
    texts = None
    if "results" in row:
        result = _numbers([row["results"], row["results"]])[0]
        if result not in (0.0, 0.5, 1.0):
            raise Unusable(f"has {row['results']!r} as 'results', expected 0 or 1")
        scores, is_right = np.array([result, 1 - result]), np.array([True, False])
    elif "scores" in row:
        scores = _numbers(_listed(row["scores"]))
        right = _listed(row.get("best", 0))
        if not all(isinstance(i, int) and 0 <= i < len(scores) for i in right):
            raise Unusable(f"has {row.get('best')!r} as 'best', expected indices below {len(scores)}")
        is_right, texts = np.isin(np.arange(len(scores)), right), row.get("responses")
    elif sides is not None:
        chosen, rejected = (_listed(row[name]) for name in sides)
        scores = _numbers([*chosen, *rejected])
        is_right = np.arange(len(scores)) < len(chosen)
        both = [row.get("chosen"), row.get("rejected")]
        texts = None if None in both else [t for side in both for t in (side if isinstance(side, list) else [side])]
    elif empty := [key for key in empty if key in _SCORES]:
        raise Unusable(f"has no number as {empty[0]!r}, expected a finite number")
    else:
        raise Unusable(
            f"has {', '.join(row) or 'no columns'}, expected scores, or chosen_score and rejected_score, or results"
        )
    n_right, n_wrong = int(is_right.sum()), int((~is_right).sum())
    if not (n_right and n_wrong):
        raise Unusable(f"has {n_right} right and {n_wrong} wrong responses, expected one or more of each")
    return ListScores(str(row.get("prompt", place)), scores, is_right, category, _texts(texts, len(scores)))


def _texts(given: Any, n: int) -> tuple[str, ...] | None:
    """The texts of a row's responses; None where it has none."""
    if not isinstance(given, list) or not all(isinstance(text, str) for text in given):
        return None
    if len(given) != n:
        raise Unusable(f"has {len(given)} texts and {n} scores, expected as many of each")
    return tuple(given)


def _listed(value: Any) -> list[Any]:
    """The list that a value is, or that its text holds; [value] for a single one."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except json.JSONDecodeError:
            return [value]
    return value if isinstance(value, list) else [value]


def _numbers(values: list[Any]) -> np.ndarray[Any, np.dtype[np.float64]]:
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise Unusable(f"has {value!r} as a score, expected a finite number")
    if len(values) < 2:
        raise Unusable(f"has {len(values)} score, expected two or more")
    return np.array(values, dtype=np.float64)
