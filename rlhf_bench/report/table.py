"""What renderers need to know of a table, and its numbers as text.

`render` turns tables into files, and into text for a terminal.

A renderer knows nothing of any table in particular: which columns name a row, which of them a narrow terminal keeps,
which section of the page holds it and what its notes are is all in the Table.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, NamedTuple

from rlhf_bench.report.result import known
from rlhf_bench.types import REFERENCE, Estimate

Cell = Estimate | str | float | int | None

ALWAYS, MAIN, REST = 0, 1, 2  # a column's tier: on any terminal; where there is room; behind "all columns"


class Column(NamedTuple):
    key: str  # the CSV's name
    title: str
    digits: int = 3  # decimals
    interval: bool = False  # holds Estimates: four columns in a CSV, even where no row has one
    tier: int = MAIN
    bar: bool = False  # a share that the page draws as a bar as well
    p_value: bool = False  # below 0.001 it is shown as that, since less has no meaning


class Mark(NamedTuple):
    """What the paired tests of a result say of a cell."""

    best: bool = False  # the best of its column, or not significantly different from it, where some model is
    change: int = 0  # +1 or -1: higher or lower than the reference

    @property
    def sign(self) -> str:
        return "*" if self.best else ""


@dataclass(frozen=True)
class Table:
    """`rows` hold a cell for each column; a cell is an Estimate, a text, a number or None (not available)."""

    name: str  # of its files
    title: str
    columns: list[Column]
    rows: list[list[Cell]]
    notes: list[str] = field(default_factory=list)
    keys: int = 1  # leading columns that name a row
    section: str = ""  # of the page
    keep_empty: bool = False  # written where it has no row as well
    folded: bool = False  # the page folds its rows by the first column
    cautioned: bool = False  # its notes hold the warnings about its intervals already
    marks: Mapping[tuple[int, int], Mark] = field(default_factory=dict)  # by row and column

    @property
    def is_written(self) -> bool:
        return bool(self.rows) or self.keep_empty

    def mark(self, row: int, column: int) -> Mark:
        return self.marks.get((row, column), Mark())

    def text(self, row: int, column: int) -> str:
        """A cell as text; the sign of its mark follows its value."""
        text, sign = column_text(self.rows[row][column], self.columns[column]), self.mark(row, column).sign
        value, space, interval = text.partition(" [")
        return f"{value}{sign}{space}{interval}" if sign else text

    def groups(self) -> list[tuple[str, list[int]]]:
        """Neighbouring rows of one first cell, by their numbers."""
        return [(key, list(found)) for key, found in groupby(range(len(self.rows)), lambda i: str(self.rows[i][0]))]


def estimate_of(stored: Mapping[str, Any] | None) -> Estimate | None:
    return Estimate.from_dict(stored) if stored else None


def cells(row: Mapping[str, Any], columns: Iterable[Column]) -> list[Cell]:
    """A stored row's cells, by the columns' keys; None where the row lacks one."""
    found = (row.get(column.key) for column in columns)
    return [estimate_of(value) if isinstance(value, dict) else value for value in found]


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
        if cell.method == REFERENCE:  # known, not estimated
            return f"{cell.value:g} (reference)"
        if not known(cell):
            return "–" if math.isnan(cell.value) else number_text(cell.value, digits)
        if math.isnan(cell.low) or math.isnan(cell.high):
            return f"{number_text(cell.value, digits)} [–]"
        return f"{number_text(cell.value, digits)} [{number_text(cell.low, digits)}, {number_text(cell.high, digits)}]"
    return str(cell) if isinstance(cell, int) else number_text(cell, digits)


def column_text(cell: Cell, column: Column) -> str:
    """`cell_text` with the column's digits; a p-value below 0.001 is shown as that."""
    if column.p_value and isinstance(cell, float) and cell < 0.001:
        return "< 0.001"
    return cell_text(cell, column.digits)
