"""What a table is made of, and a number as text; `writers` turns tables into Markdown, CSV, LaTeX and Excel."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import NamedTuple

from rlhf_bench.report.result import known
from rlhf_bench.types import Estimate

__all__ = ["Cell", "Column", "Table", "cell_text", "column_text", "number_text"]

Cell = Estimate | str | float | int | None


class Column(NamedTuple):
    key: str  # the CSV's name
    title: str
    digits: int = 3  # decimals
    interval: bool = False  # holds Estimates: four columns in a CSV, even where no row has one


@dataclass(frozen=True)
class Table:
    """`rows` hold a cell for each column; a cell is an Estimate, a text, a number or None (not available)."""

    name: str
    title: str
    columns: list[Column]
    rows: list[list[Cell]]
    notes: list[str] = field(default_factory=list)


def number_text(value: float | None, digits: int) -> str:
    """`value` with that many decimals; a number too small to show there gets two significant digits instead.

    Below 1e-9 it is the rounding error of a zero, such as the mean of z-scores, and shown as one.
    """
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    text = f"{value:.{digits}f}"
    if float(text) == 0:
        return f"{value:.2g}" if abs(value) > 1e-9 else text.removeprefix("-")
    return text


def cell_text(cell: Cell, digits: int) -> str:
    """`value [low, high]`; a dash where there is no number."""
    if isinstance(cell, str):
        return cell
    if isinstance(cell, Estimate):
        if not known(cell):
            return "–" if math.isnan(cell.value) else number_text(cell.value, digits)
        if math.isnan(cell.low) or math.isnan(cell.high):
            return f"{number_text(cell.value, digits)} [–]"
        return f"{number_text(cell.value, digits)} {_bounds(cell, digits)}"
    return str(cell) if isinstance(cell, int) else number_text(cell, digits)


def column_text(cell: Cell, column: Column) -> str:
    """`cell_text` with the column's digits; a p-value below 0.001 is said to be that, since less has no meaning."""
    if column.key.startswith("p_") and isinstance(cell, float) and cell < 0.001:
        return "< 0.001"
    return cell_text(cell, column.digits)


def _bounds(cell: Estimate, digits: int) -> str:
    return f"[{number_text(cell.low, digits)}, {number_text(cell.high, digits)}]"
