"""Every training seed's own numbers, and the gold reward's components."""

from __future__ import annotations

from rlhf_bench.report.notes import interval_note
from rlhf_bench.report.result import Result
from rlhf_bench.report.table import Cell, Column, Table
from rlhf_bench.report.tables.metrics import MODEL, metric_column, model_rows
from rlhf_bench.scorers import metrics_for

__all__ = ["gold_table", "per_seed_table"]


def per_seed_table(result: Result) -> Table:
    """The reward is raw, so compare it within a seed only; the page shows it where there are several."""
    names = {key for cells in result.metrics.get("per_seed", {}).values() for model in cells.values() for key in model}
    columns = [metric_column(result, metric.name) for metric in metrics_for("per_seed", names)]
    rows: list[list[Cell]] = [[seed, *row] for seed in result.seeds for row in model_rows(result, columns, seed=seed)]
    notes = ["Raw rewards of different seeds come from different reward models: compare them within a seed only."]
    section = "Each seed" if len(result.seeds) > 1 else ""
    columns = [Column("seed", "Seed", 0), MODEL, *columns]
    title = f"Each seed on {result.data_label}"
    return Table("per_seed", title, columns, rows, notes, keys=2, section=section, keep_empty=True)


def gold_table(result: Result) -> Table:
    """The gold reward and its components, or a table without rows where the data have none."""
    metrics = metrics_for("gold", result.metric_names)
    columns = [metric_column(result, metric.name, title=metric.title.removeprefix("Gold: ")) for metric in metrics]
    notes = [interval_note(result)] if result.has_gold else ["These data have no known gold reward."]
    rows = model_rows(result, columns) if result.has_gold else []
    title, section = f"Gold reward and its components on {result.data_label}", "Gold reward and its components"
    return Table("gold", title, [MODEL, *columns], rows, notes, section=section, keep_empty=True)
