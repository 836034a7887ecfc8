"""AlpacaEval 2's own numbers from its annotations, by its conventions (METHODS, "Judges")."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rlhf_bench.errors import DataError

__all__ = ["AlpacaNumbers", "alpaca_numbers", "read_annotations"]


@dataclass(frozen=True, slots=True)
class AlpacaNumbers:
    """The columns of AlpacaEval's leaderboard, under its names; rates in percent."""

    win_rate: float
    standard_error: float  # NaN with fewer than two preferences
    discrete_win_rate: float  # each preference rounded to a win, a loss or a draw
    n_wins: int
    n_wins_base: int
    n_draws: int
    n_total: int
    n_dropped: (
        int  # annotations without a preference, or with one outside of [1, 2]; AlpacaEval leaves them out silently
    )


def alpaca_numbers(annotations: Iterable[Mapping[str, Any]]) -> AlpacaNumbers:
    """From rows with a `preference` in [1, 2]: 1 the baseline wins, 2 the model, 1.5 (or 0) a draw.

        win_rate = 100 mean(preference - 1)      standard_error = 100 sd(preference, ddof 1) / sqrt(n)

    A preference of any other value, or null, is dropped and counted. Raises DataError where a row has no such key.
    """
    given = []
    for number, row in enumerate(annotations, 1):
        if "preference" not in row:
            raise DataError(f"annotation {number} has no 'preference'; expected AlpacaEval's annotations.json")
        value = row["preference"]
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        given.append(float(value) if is_number else math.nan)
    preferences = np.array(given, dtype=np.float64)
    preferences[preferences == 0] = 1.5
    valid = preferences[(preferences >= 1) & (preferences <= 2)]
    n = len(valid)
    wins, losses = int((valid > 1.5).sum()), int((valid < 1.5).sum())
    draws = n - wins - losses
    return AlpacaNumbers(
        win_rate=100 * float(valid.mean() - 1) if n else math.nan,
        standard_error=100 * float(valid.std(ddof=1)) / math.sqrt(n) if n > 1 else math.nan,
        discrete_win_rate=100 * (wins + draws / 2) / n if n else math.nan,
        n_wins=wins,
        n_wins_base=losses,
        n_draws=draws,
        n_total=n,
        n_dropped=len(given) - n,
    )


def read_annotations(path: Path) -> list[dict[str, Any]]:
    """The rows of an annotations.json. Raises DataError where it is no JSON list of objects, or an empty one."""
    try:
        rows = json.loads(Path(path).read_bytes())
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); expected AlpacaEval's annotations.json") from error
    except ValueError as error:
        raise DataError(f"{path} is not JSON ({error}); expected AlpacaEval's annotations.json") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise DataError(f"{path} holds no list of annotations; expected AlpacaEval's annotations.json")
    if not rows:
        raise DataError(f"{path} holds an empty list; expected the annotations of AlpacaEval's annotations.json")
    return rows
