"""What a comparison of two results gave: its table, and for Python its numbers as a frame, a verdict and its text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import NamedTuple

import pandas as pd

from rlhf_bench.report.render.flat import frame
from rlhf_bench.report.render.terminal import text_of, wrapped
from rlhf_bench.report.table import Cell, Column, Table, number_text
from rlhf_bench.report.tables.pairwise import MDE, TESTS
from rlhf_bench.stats import Difference, FloatArray, holm

WIDTH = 100  # characters
_VERDICTS = {"gold": "gold", "reward": "the learned reward", "reward_z": "the learned reward"}


@dataclass(frozen=True)
class ComparedResults:
    """`compare` returns it. `matching`: what the two results have in common, and what was left out."""

    table: Table
    matching: list[str]

    @cached_property
    def differences(self) -> pd.DataFrame:
        """A row a metric and model, B minus A: difference, its interval, and the tests (p, p_holm)."""
        return frame(self.table)

    @cached_property
    def verdict(self) -> list[str]:
        """What the paired tests say in words: a sentence each on the gold and the learned reward."""
        return [self._sentence(key) for key in _VERDICTS if (self.differences["metric"] == key).any()]

    def _sentence(self, metric: str) -> str:
        rows = self.differences[self.differences["metric"] == metric]
        rejected, up = rows["p_holm"] < 0.05, rows["difference"] > 0
        parts = [
            f"{sign} for {', '.join(rows['model'][chosen])}"
            for sign, chosen in (("B > A", rejected & up), ("A > B", rejected & ~up))
            if chosen.any()
        ]
        conditions = f"Holm p < .05; {int(rows['prompts'].max())} prompts"
        open_rows = rows[~rejected]
        if len(open_rows):
            parts.append(f"A and B cannot be told apart for {', '.join(open_rows['model'])}")
        sizes = open_rows["detectable"].dropna()
        if (sizes > 0).any():
            parts.append(f"80 % power for a difference of {number_text(float(sizes.max()), 2)}")
        return f"On {_VERDICTS[metric]} ({conditions}): {'; '.join(parts)}."

    @cached_property
    def text(self) -> str:
        """No line is longer than 100 characters, except for what has no space in it, such as a path."""
        head = [line for text in [*self.matching, *self.verdict] for line in wrapped(text, WIDTH)]
        return "\n".join([*head, "", text_of(self.table, width=WIDTH)])

    def __str__(self) -> str:
        return self.text


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
