"""Scores that were made elsewhere, read from a file.

A JSON-lines file (.jsonl, .jsonl.gz), a row a prompt, in one of two forms that are known by their keys:

    {"prompt": ..., "chosen_score": 1.2, "rejected_score": 0.4}
    {"prompt": ..., "scores": [0.1, 2.0, ...], "best": 0}

`best` is the index of the right response, or a list of the indices of several. `chosen_score` and `rejected_score` may
be lists; three of each are RM-Bench's styles. A list may also be a string that holds one, as tables write them.
Optional: `category` (or `subset`, `section`), and the texts, as `chosen` and `rejected` or `responses`, each a text for
each score. Texts that most rows share are taken for names of what wrote them.
"""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rlhf_bench.audit.listwise import ListScores
from rlhf_bench.audit.pairs import PairScores
from rlhf_bench.errors import DataError
from rlhf_bench.types import PreferencePair, make_pair

__all__ = ["pairs_of", "read_scores"]

_CATEGORY = ("category", "subset", "section")
_SIDES = (("chosen_score", "rejected_score"), ("score_chosen", "score_rejected"), ("scores_chosen", "scores_rejected"))


def read_scores(path: Path) -> list[ListScores]:
    """The scores of each prompt; a pair is a list of two whose first is right.

    Raises DataError for a file that cannot be read, a row of neither form, scores that are not finite, an index that
    is out of range, a number of texts other than that of the scores, or a column of categories without any.
    """
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8") as file:
            lines = [(number, line) for number, line in enumerate(file, 1) if line.strip()]
    except (OSError, UnicodeDecodeError, EOFError) as error:
        raise DataError(f"cannot read {path} ({error}); expected JSON lines, a row a prompt") from error
    if not lines:
        raise DataError(f"{path} is empty; expected a row of scores a prompt")
    places = [f"{path}, line {number}" for number, _ in lines]
    rows = [_object(line, where) for (_, line), where in zip(lines, places, strict=True)]
    column = next((name for name in _CATEGORY if any(name in row for row in rows)), None)
    if column and not any(row.get(column) for row in rows):
        raise DataError(f"{path}: the column {column!r} has no value; fill it, or leave it out")
    found = [_row(row, column, where) for row, where in zip(rows, places, strict=True)]
    are_names = 2 * len({row.texts for row in found}) <= len(found)
    return [row._replace(texts=None) for row in found] if are_names else found


def pairs_of(rows: Sequence[ListScores]) -> tuple[list[PreferencePair], PairScores]:
    """Each right response against each wrong one. Where texts are not known a response is named by its number."""
    pairs, chosen, rejected = [], [], []
    for row in rows:
        texts = row.texts or tuple(f"response {i}" for i in range(len(row.scores)))
        right, wrong = np.flatnonzero(row.is_right).tolist(), np.flatnonzero(~row.is_right).tolist()
        for at, i in enumerate(right):
            for other, j in enumerate(wrong):
                meta = {"chosen_at": at, "rejected_at": other}
                pairs.append(make_pair(row.prompt, texts[i], texts[j], category=row.category, meta=meta))
                chosen.append(row.scores[i])
                rejected.append(row.scores[j])
    return pairs, PairScores(np.array(chosen), np.array(rejected))


def _object(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(f"{where}: this is no JSON ({error.msg}); expected an object") from error
    if not isinstance(row, dict):
        raise DataError(f"{where}: given a {type(row).__name__}; expected an object")
    return row


def _row(row: Mapping[str, Any], column: str | None, where: str) -> ListScores:
    prompt = str(row.get("prompt", where))
    category = str(row[column]) if column and row.get(column) else None
    sides = next((names for names in _SIDES if row.keys() >= set(names)), None)
    if "scores" in row:
        scores = _numbers(_listed(row["scores"]), where)
        right = _listed(row.get("best", 0))
        if not all(isinstance(i, int) and 0 <= i < len(scores) for i in right):
            raise DataError(f"{where}: given best {row.get('best')!r}; expected indices below {len(scores)}")
        is_right, texts = np.isin(np.arange(len(scores)), right), row.get("responses")
    elif sides is not None:
        chosen, rejected = (_listed(row[name]) for name in sides)
        scores = _numbers([*chosen, *rejected], where)
        is_right = np.arange(len(scores)) < len(chosen)
        both = [row.get("chosen"), row.get("rejected")]
        texts = None if None in both else [t for side in both for t in (side if isinstance(side, list) else [side])]
    else:
        keys = ", ".join(row)
        raise DataError(f"{where}: given the keys {keys}; expected scores, or chosen_score and rejected_score")
    n_right, n_wrong = int(is_right.sum()), int((~is_right).sum())
    if not (n_right and n_wrong):
        raise DataError(f"{where}: given {n_right} right and {n_wrong} wrong responses; expected one or more of each")
    return ListScores(prompt, scores, is_right, category, _texts(texts, len(scores), where))


def _texts(given: Any, n: int, where: str) -> tuple[str, ...] | None:
    """The texts of a row's responses; None where it has none."""
    if not isinstance(given, list) or not all(isinstance(text, str) for text in given):
        return None
    if len(given) != n:
        raise DataError(f"{where}: given {len(given)} texts and {n} scores; expected as many of each")
    return tuple(given)


def _listed(value: Any) -> list[Any]:
    """The list that a value is, or that its text holds; [value] for a single one."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except json.JSONDecodeError:
            return [value]
    return value if isinstance(value, list) else [value]


def _numbers(values: list[Any], where: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise DataError(f"{where}: given the score {value!r}; expected a finite number")
    if len(values) < 2:
        raise DataError(f"{where}: given {len(values)} score; expected two or more")
    return np.array(values, dtype=np.float64)
