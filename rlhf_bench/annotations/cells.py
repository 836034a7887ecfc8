"""Cells of annotations and judgments: read as numbers and preferences, and printed as tables."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from rlhf_bench.types import Estimate


def preference_of(value: object) -> float | None:
    """A preference in [1, 2], 1.5 where it is 0 (a draw); None for any other value."""
    number = as_number(value)
    return 1.5 if number == 0 else number if 1 <= number <= 2 else None


def as_number(value: object) -> float:
    """NaN for what is no number; a CSV holds numbers as text."""
    try:
        return math.nan if isinstance(value, bool) else float(value)  # type: ignore[arg-type]  # any object
    except (TypeError, ValueError):
        return math.nan


def percent(estimate: Estimate, scale: float = 100.0) -> str:
    """`value [low, high]`, times `scale`."""
    return f"{scale * estimate.value:.2f} [{scale * estimate.low:.2f}, {scale * estimate.high:.2f}]"


def text_table(rows: Sequence[Mapping[str, object]]) -> str:
    """A line a row below the columns' names."""
    return pd.DataFrame(list(rows)).to_string(index=False)


def zero_one_note(preferences: Iterable[object]) -> str | None:
    """How preferences that are all 0 or 1, with both of them, are understood; None for other ones.

    Some tools write 1 where the second output is better, else 0; by AlpacaEval's convention both mean something else.
    """
    if {as_number(value) for value in preferences if value is not None} != {0, 1}:
        return None
    return (
        "all preferences are 0 or 1; they are read as AlpacaEval's, 1 for output_1 (the baseline) and 0 for a draw: "
        "where 1 means that output_2 is better, add 1 to each"
    )
