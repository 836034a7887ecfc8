"""The form of reward over-optimisation that was fitted to each curve of checkpoints, and to best of n."""

from __future__ import annotations

from rlhf_bench.report.result import Result
from rlhf_bench.report.table import Cell, Column, Table, cells

_FORMS = {"best-of-n": "d (α − β d)"}
_OTHER = "d (α − β log d)"


def overoptimisation_table(result: Result) -> Table:
    """A row a curve; without rows where the result has none."""
    columns = [
        Column("curve", "Curve"), Column("form", "Gold reward gained"), Column("alpha", "α", 2, interval=True),
        Column("beta", "β", 2, interval=True), Column("turning_kl", "Turns at (nats)", 1, interval=True),
        Column("turns_share", "Share of resamples that turn", 2),
    ]  # fmt: skip
    rows: list[list[Cell]] = [
        [curve["curve"], _FORMS.get(curve["fit"]["form"], _OTHER), *cells(curve["fit"], columns[2:])]
        for curve in result.metrics.get("over_optimisation", [])
    ]
    notes = [
        "d: the square root of the exact KL, for best of n of its upper bound; the forms of arXiv:2210.10760. Turns "
        "at: the KL where gold is highest; empty where it does not turn within the data."
    ]
    title = f"Over-optimisation on {result.data_label}"
    return Table("over_optimisation", title, columns, rows, notes, section="Over-optimisation")
