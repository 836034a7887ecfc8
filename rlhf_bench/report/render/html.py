"""Tables for the page's template: headings and cells as text, with what the style needs to know of them."""

from __future__ import annotations

from typing import NamedTuple

from rlhf_bench.report.table import REST, Cell, Column, Mark, Table, column_text
from rlhf_bench.types import Estimate

__all__ = ["HtmlCell", "HtmlTable", "html_table"]


class HtmlCell(NamedTuple):
    text: str
    interval: str = ""
    mark: Mark = Mark()
    strong: bool = False
    bar: float | None = None  # length of a bar, 0 to 1


class Heading(NamedTuple):
    title: str
    left: bool  # on the side of its cells: text is on the left
    more: bool  # behind "all columns"


class Part(NamedTuple):
    """The rows that are folded together, or all."""

    title: str
    about: str
    rows: list[list[HtmlCell]]


class HtmlTable(NamedTuple):
    name: str
    title: str
    notes: list[str]
    header: list[Heading]
    parts: list[Part]
    folded: bool

    @property
    def has_more(self) -> bool:
        return any(heading.more for heading in self.header)


def html_table(table: Table) -> HtmlTable:
    first = 1 if table.folded else 0
    columns = range(first, len(table.columns))
    header = [_heading(table, j) for j in columns]
    groups = table.groups() if table.folded else [("", list(range(len(table.rows))))]
    parts = []
    for title, numbers in groups:
        rejected = [i for i in numbers if _is_rejected(table, i)]
        rows = [[_cell(table, i, j, i in rejected) for j in columns] for i in numbers]
        tested = any(column.key == "p_holm" for column in table.columns)
        about = f"{len(rejected)} of {len(numbers)} pairs differ (Holm p < 0.05)" if tested else ""
        parts.append(Part(title, about, rows))
    return HtmlTable(table.name, table.title, table.notes, header, parts, table.folded)


def _heading(table: Table, column: int) -> Heading:
    about = table.columns[column]
    return Heading(about.title, any(isinstance(row[column], str) for row in table.rows), about.tier == REST)


def _cell(table: Table, row: int, column: int, rejected: bool) -> HtmlCell:
    cell, about = table.rows[row][column], table.columns[column]
    if isinstance(cell, str):
        return HtmlCell(cell)
    value, _, interval = column_text(cell, about).replace("-", "−").partition(" [")
    is_strong = isinstance(cell, Estimate) and (rejected or not _is_tested(table))
    return HtmlCell(value, f"[{interval}" if interval else "", table.mark(row, column), is_strong, _bar(cell, about))


def _bar(cell: Cell, column: Column) -> float | None:
    return float(cell) if column.bar and isinstance(cell, int | float) else None


def _is_tested(table: Table) -> bool:
    return any(column.key == "p_holm" for column in table.columns)


def _is_rejected(table: Table, row: int) -> bool:
    """Whether a test of the row rejects: its number is set off from the others."""
    p_values = [cell for cell, column in zip(table.rows[row], table.columns, strict=True) if column.key == "p_holm"]
    return any(isinstance(p, float) and p < 0.05 for p in p_values)
