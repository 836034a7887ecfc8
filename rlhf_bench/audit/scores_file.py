"""Scores that somebody has made already: an audit without a model.

A JSON-lines file (.jsonl, .jsonl.gz), a row a prompt, in one of two forms that are known by their keys:

    {"prompt": ..., "chosen_score": 1.2, "rejected_score": 0.4}
    {"prompt": ..., "scores": [0.1, 2.0, ...], "best": 0}

"best" is the index of the right response, or a list of the indices of several.
A list may also be a string that holds one, as tables write them. RewardBench's results are read by rewardbench.py.
"""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rlhf_bench.audit.listwise import ListScores, Listwise, listwise
from rlhf_bench.audit.rewardbench import is_rewardbench, rewardbench_text
from rlhf_bench.data.tabular import BadRows, read_table
from rlhf_bench.errors import DataError
from rlhf_bench.types import Estimate

__all__ = ["read_scores", "scores_file_text", "scores_text"]


def read_scores(path: Path) -> list[ListScores]:
    """The scores of each prompt; a pair is a list of two whose first is right.

    Raises DataError for a file that cannot be read, a row of neither form, scores that are not finite or an index that
    is out of range.
    """
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8") as lines:
            rows = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    except (OSError, UnicodeDecodeError, EOFError) as error:
        raise DataError(f"cannot read {path} ({error}); expected JSON lines, a row a prompt") from error
    if not rows:
        raise DataError(f"{path} is empty; expected a row of scores a prompt")
    return [_row(line, f"{path}, line {number}") for number, line in rows]


def _row(line: str, where: str) -> ListScores:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(f"{where}: this is no JSON ({error.msg}); expected an object") from error
    if not isinstance(row, dict):
        raise DataError(f"{where}: given a {type(row).__name__}; expected an object")
    if "scores" in row:
        scores = _numbers(_listed(row["scores"]), where)
        right = _listed(row.get("best", 0))
        if not all(isinstance(i, int) and 0 <= i < len(scores) for i in right):
            raise DataError(f"{where}: given best {row.get('best')!r}; expected indices below {len(scores)}")
        return ListScores(str(row.get("prompt", where)), scores, np.isin(np.arange(len(scores)), right))
    if {"chosen_score", "rejected_score"} <= row.keys():
        scores = _numbers([row["chosen_score"], row["rejected_score"]], where)
        return ListScores(str(row.get("prompt", where)), scores, np.array([True, False]))
    raise DataError(f"{where}: given the keys {', '.join(row)}; expected scores, or chosen_score and rejected_score")


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


def scores_text(found: Listwise) -> str:
    """The table of an audit of scores, for a terminal."""
    rows: Mapping[str, Estimate] = {
        "top-1 accuracy": found.top1,
        "mean reciprocal rank": found.mrr,
        "Kendall tau-b": found.kendall,
        "accuracy of pairs": found.pairs,
    }
    lines = [
        f"{found.top1.n} prompts, 95 % interval over prompts; ties count against the model ({found.ties} prompts tie)"
    ]
    width = max(map(len, rows))
    for name, estimate in rows.items():
        lines.append(f"{name.ljust(width)}  {estimate.value:.4f} [{estimate.low:.4f}, {estimate.high:.4f}]")
    return "\n".join(lines)


def scores_file_text(path: Path) -> str:
    """The audit of a file of scores, or the table of RewardBench's results. Raises DataError."""
    bad = BadRows(path.name)
    table = read_table(path, bad)
    if is_rewardbench(table.columns):
        return rewardbench_text(table.rows, bad)
    return scores_text(listwise(read_scores(path)))
