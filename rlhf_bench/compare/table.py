"""The comparison of two results as a table: a row a metric and model that both have."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

from rlhf_bench.report.table import Cell, Column, Table
from rlhf_bench.report.tables.pairwise import MDE, TESTS
from rlhf_bench.stats import Difference, FloatArray, holm


class Row(NamedTuple):
    metric: str
    model: str
    a: float
    b: float
    found: Difference
    differences: FloatArray  # (S, P), B minus A


def comparison_table(rows: Sequence[Row], notes: Sequence[str]) -> Table:
    """Holm's p is over the models, within a metric."""
    columns = [
        Column("metric", "Metric"),
        Column("model", "Model"),
        Column("a", "A"),
        Column("b", "B"),
        Column("difference", "B - A", interval=True),
        *TESTS,
        Column("effect", "d", 2),
        MDE,
        Column("prompts", "Prompts"),
    ]
    cells: list[list[Cell]] = []
    for metric, members in groupby(rows, lambda row: row.metric):
        found = list(members)
        for row, p_holm in zip(found, holm([row.found.p_paired for row in found]), strict=True):
            tests = [row.found.p_paired, row.found.p_wilcoxon, p_holm, row.found.effect, row.found.detectable]
            estimate = row.found.estimate
            cells.append([metric, row.model, row.a, row.b, estimate, *tests, estimate.n])
    return Table("comparison", "B minus A, paired by prompt", columns, cells, list(notes), keys=2, cautioned=True)
