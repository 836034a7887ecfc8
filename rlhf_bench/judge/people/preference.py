"""A cell of AlpacaEval's annotations as a preference."""

from __future__ import annotations

import math

__all__ = ["as_number", "preference_of"]


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
