"""Differences of two models on the same prompts, with their tests."""

from __future__ import annotations

from typing import Any

from rlhf_bench.report.result import Result, known
from rlhf_bench.report.table import Cell, Column, Table, cells
from rlhf_bench.report.tables.metrics import labeller_notes
from rlhf_bench.scorers import describe
from rlhf_bench.stats.cautions import Shown, caution_notes, near_an_end
from rlhf_bench.types import Estimate

MDE = Column("detectable", "MDE (80 % power)")
TESTS = [
    Column("p_paired", "p (paired)", 4, p_value=True),
    Column("p_wilcoxon", "p (Wilcoxon)", 4, p_value=True),
    Column("p_holm", "p (Holm)", 4, p_value=True),
]
_AFTER = [Column("p_table", "p (table)", 4, p_value=True), Column("effect", "Effect (d)", 2), MDE]
NOTES = [
    "Paired over prompts. p (Holm) corrects p (paired) over the pairs within a metric, for a metric that was named "
    "beforehand; p (table) over every row, for one that was picked after seeing them.",
    "Effect: Cohen's d for pairs, the difference over the standard deviation of the prompts' own differences, "
    "each averaged over samples and seeds.",
    "MDE: the smallest difference that this many prompts show in 80 % of repetitions. How many prompts "
    "another difference needs: rlhf-bench report --difference METRIC=SIZE.",
]


def pairwise_table(result: Result) -> Table:
    """A row a metric and pair, a minus b."""
    columns = [Column("metric", "Metric"), Column("a", "a"), Column("b", "b")]
    columns += [Column("difference", "a - b", interval=True), *TESTS, *_AFTER]
    columns += [Column("seeds_agree", "Seeds of that sign")]
    pairs = result.metrics.get("pairwise", [])
    differences = [Estimate.from_dict(row["difference"]) for row in pairs]
    rows: list[list[Cell]] = []
    for row, difference in zip(pairs, differences, strict=True):
        alike = [cell["value"] * difference.value > 0 for cell in row.get("per_seed", {}).values()]
        rows.append([*cells(row, columns[:-1]), f"{sum(alike)} of {len(alike)}" if alike else None])
    shown = [_shown(result, row, difference) for row, difference in zip(pairs, differences, strict=True)]
    clipped = any(difference.clipped for difference in differences)
    limits = ["Limits of intervals beyond what a difference can be, with few prompts or seeds, are clipped to it."]
    notes = [*caution_notes(shown), *(limits if clipped else []), *NOTES, *labeller_notes(result)]
    title = f"Pairwise differences on {result.data_label}"
    return Table(
        "pairwise", title, columns, rows, notes, keys=3, section="Pairwise differences", keep_empty=True, folded=True,
        cautioned=True,
    )  # fmt: skip


def _shown(result: Result, row: dict[str, Any], difference: Estimate) -> Shown:
    """A difference as its warning needs it: of shares, with whether one of the two is near 0 or 1."""
    is_share = describe(row["metric"]).kind == "share"
    shares = [result.estimate(row[side], row["metric"]) for side in ("a", "b")]
    at_an_end = is_share and any(known(share) and near_an_end(share) for share in shares)
    return Shown(row["metric"], f"{row['a']} - {row['b']}", difference, is_share, at_an_end)
