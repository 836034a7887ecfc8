"""Tables for the page's template: headings and cells as text, with the numbers that its script reads."""

from __future__ import annotations

import math
from typing import NamedTuple

from rlhf_bench.errors import UnknownName
from rlhf_bench.report.table import REST, Cell, Mark, Table, column_text
from rlhf_bench.scorers import describe
from rlhf_bench.types import Estimate

_LONG = 50  # characters of a text that may break into lines
_DEFINITIONS = {  # of columns that are no metric
    "accuracy": "share of pairs on which both agree",
    "cohen_kappa": "agreement beyond chance: 0 as by chance, 1 always",
    "detectable": "the smallest difference that as many prompts show in 80 % of repetitions",
    "difference": "a minus b on the same prompts",
    "effect": "Cohen's d for pairs: the difference over the standard deviation of the prompts' differences",
    "elo": "Bradley-Terry strength on an Elo scale: 400 points are odds of ten to one",
    "equal_length": "the win rate that a logistic regression predicts for responses of equal length",
    "highest": "the win rate if every unread answer had been for the model",
    "kl_bound": "log n - (n - 1) / n, an upper bound of the KL of best-of-n",
    "longer": "share of pairs in which the longer response wins",
    "lowest": "the win rate if every unread answer had been against the model",
    "p_holm": "p (paired), corrected by Holm over the pairs within a metric",
    "p_paired": "p of a paired test over prompts",
    "p_table": "p (paired), corrected over every row of the table",
    "p_wilcoxon": "p of Wilcoxon's signed-rank test over prompts",
    "probability": "share of resamples in which no other model has more reward at no more KL",
    "soft": "mean probability that the judge gives the model, where it returns probabilities",
    "train_samples": "mean number of samples of the model's own training stage, over seeds",
    "train_seconds": "mean seconds of the model's own training stage, over seeds",
    "unread": "answers that were refused, unreadable, failed or missing",
    "win_rate": "share of prompts won against the baseline; a tie counts one half",
}


class HtmlCell(NamedTuple):
    text: str
    interval: str = ""
    mark: Mark = Mark()
    strong: bool = False
    bar: float | None = None  # length of a bar, 0 to 1
    n: str = ""  # where the heading does not say it
    data: tuple[tuple[str, str], ...] = ()  # numbers to eight digits: v, low, high, n, method
    link: str = ""


class Heading(NamedTuple):
    title: str
    key: str
    about: str  # its definition
    left: bool  # on the side of its cells: text is on the left
    more: bool  # behind "all columns"
    n: str  # of all its estimates, where they share one that others do not
    long: bool  # its cells are texts of several lines


class RowGroup(NamedTuple):
    """The rows that are folded together, or all."""

    title: str
    about: str
    rows: list[list[HtmlCell]]


class HtmlTable(NamedTuple):
    name: str
    title: str
    notes: list[str]
    header: list[Heading]
    parts: list[RowGroup]
    folded: str  # title of the column that rows are folded by, or ""

    @property
    def has_more(self) -> bool:
        return any(heading.more for heading in self.header)


def html_table(table: Table) -> HtmlTable:
    first = 1 if table.folded else 0
    columns = range(first, len(table.columns))
    every = {n for j in columns for n in _counts(table, j)}
    header = [_heading(table, j, every) for j in columns]
    groups = table.groups() if table.folded else [("", list(range(len(table.rows))))]
    parts = []
    tests = [j for j, column in enumerate(table.columns) if column.key == "p_holm"]
    for title, numbers in groups:
        rejected = [i for i in numbers if any(isinstance(p := table.rows[i][j], float) and p < 0.05 for j in tests)]
        # where there are tests, the numbers of the rows that they reject are set off from the others
        rows = [[_cell(table, i, j, strong=not tests or i in rejected) for j in columns] for i in numbers]
        about = f"{len(rejected)} of {len(numbers)} pairs differ (Holm p < 0.05)" if tests else ""
        parts.append(RowGroup(title, about, rows))
    same = [f"n = {n:,} in every cell with an interval." for n in every if len(every) == 1]
    notes = [*same, *table.notes]
    return HtmlTable(table.name, table.title, notes, header, parts, table.columns[0].title if table.folded else "")


def definition(key: str) -> str:
    """What a column's number is, in a line; "" for a column that its title explains."""
    if key in _DEFINITIONS:
        return _DEFINITIONS[key]
    try:
        metric = describe(key)
    except UnknownName:
        return ""
    better = {True: "higher is better", False: "lower is better", None: ""}[metric.higher_is_better]
    return "; ".join(part for part in (metric.description, metric.unit and f"unit: {metric.unit}", better) if part)


def _counts(table: Table, column: int) -> set[int]:
    cells = (row[column] for row in table.rows)
    return {cell.n for cell in cells if isinstance(cell, Estimate) and math.isfinite(cell.value)}


def _heading(table: Table, column: int, every: set[int]) -> Heading:
    about, counts = table.columns[column], _counts(table, column)
    n = f"n = {counts.pop():,}" if len(every) > 1 and len(counts) == 1 else ""
    texts = [cell for row in table.rows if isinstance(cell := row[column], str)]
    is_long = any(len(text) > _LONG for text in texts)
    return Heading(about.title, about.key, definition(about.key), bool(texts), about.tier == REST, n, is_long)


def _cell(table: Table, row: int, column: int, *, strong: bool) -> HtmlCell:
    cell, about = table.rows[row][column], table.columns[column]
    if isinstance(cell, str):
        return HtmlCell(cell)
    value, _, interval = column_text(cell, about).replace("-", "−").partition(" [")
    is_strong = isinstance(cell, Estimate) and strong
    bar = float(cell) if about.bar and isinstance(cell, int | float) else None
    n = f"n = {cell.n:,}" if isinstance(cell, Estimate) and len(_counts(table, column)) > 1 else ""
    return HtmlCell(value, f"[{interval}" if interval else "", table.mark(row, column), is_strong, bar, n, _data(cell))


def _data(cell: Cell) -> tuple[tuple[str, str], ...]:
    if isinstance(cell, Estimate):
        numbers = {"v": cell.value, "low": cell.low, "high": cell.high}
        found = tuple((name, f"{x:.8g}") for name, x in numbers.items() if math.isfinite(x))
        return (*found, ("n", str(cell.n)), ("method", cell.method)) if found else ()
    return (("v", repr(cell)),) if isinstance(cell, int | float) and math.isfinite(cell) else ()
