"""A table without Estimates, for formats that hold one number a cell: CSV, Excel, pandas."""

from __future__ import annotations

import math

import pandas as pd

from rlhf_bench.report.table import Cell, Table
from rlhf_bench.types import Estimate

Flat = str | float | int | None


def flat(table: Table) -> tuple[list[str], list[list[Flat]]]:
    """Names of columns, and rows without an Estimate: it takes four columns, value, _low, _high and _n."""
    header: list[str] = []
    for column in table.columns:
        header.append(column.key)
        header += [f"{column.key}_{part}" for part in ("low", "high", "n")] if column.interval else []
    return header, [_flat(table, row) for row in table.rows]


def csv_text(table: Table) -> str:
    """A line a row, full precision; an empty cell is not available."""
    header, rows = flat(table)
    return pd.DataFrame(rows, columns=header, dtype=object).to_csv(index=False, lineterminator="\n")


def frame(table: Table) -> pd.DataFrame:
    """The table's numbers as they are, where its CSV has their text; NaN where there is none."""
    header, rows = flat(table)
    return pd.DataFrame(rows, columns=header)


def finite(value: Flat) -> Flat:
    """NaN becomes None; infinities are kept as text."""
    if not isinstance(value, float) or math.isfinite(value):
        return value
    return None if math.isnan(value) else str(value)


def _flat(table: Table, row: list[Cell]) -> list[Flat]:
    values: list[Flat] = []
    for column, cell in zip(table.columns, row, strict=True):
        if isinstance(cell, Estimate):
            values += [cell.value, cell.low, cell.high, cell.n]
        else:
            values += [None] * 4 if column.interval else [cell]
    return values
