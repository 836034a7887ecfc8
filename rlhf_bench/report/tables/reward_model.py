"""What a result knows of the reward model and of training, as tables: accuracy, cost."""

from __future__ import annotations

from rlhf_bench.report.result import Result
from rlhf_bench.report.table import Cell, Column, Table, cells
from rlhf_bench.report.tables.audit import SECTION


def training_table(result: Result) -> Table:
    columns = [Column("model", "Stage"), Column("seed", "Seed"), Column("seconds", "Seconds", 1)]
    columns += [Column("seconds_with_reward", "With its reward model (s)", 1)]
    columns += [Column("samples", "Samples", 0), Column("tokens", "Tokens", 0)]
    rows: list[list[Cell]] = [
        [model, *cells(run, columns[1:])] for model, runs in result.metrics.get("training", {}).items() for run in runs
    ]
    return Table("training", "Training cost", columns, rows, keys=2, section="Training")


def accuracy_table(result: Result) -> Table:
    """The reward model's accuracy on the result's own test pairs, a row a seed."""
    columns = [Column("seed", "Seed"), Column("accuracy", "Accuracy", interval=True), Column("ceiling", "Ceiling")]
    found = result.metrics.get("reward_model", [])
    rows = [cells(row, columns) for row in found if isinstance(row.get("accuracy"), dict)]
    notes = [
        "Accuracy: share of test pairs whose chosen response scores higher. Ceiling: the best accuracy that any reward "
        "model can reach on these pairs."
    ]
    return Table("reward_model", "Accuracy of the reward model", columns, rows, notes, section=SECTION)
