"""What is known of the reward model and of training, as tables: accuracy, its audit by category, calibration, cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rlhf_bench.report.result import Result
from rlhf_bench.report.table import Cell, Column, Table
from rlhf_bench.report.tables.judge_forms import estimate_of

__all__ = ["accuracy_table", "audit_table", "calibration_table", "table_of_audit", "training_table"]

_SECTION = "Reward model"
_CEILING = Column("ceiling", "Ceiling")
_SOURCES = [
    Column("accuracy", "Reward model", interval=True),
    Column("longer", "Longer wins", interval=True),
    Column("shorter", "Shorter wins", interval=True),
    Column("untrained", "Untrained head", interval=True),
]
_CEILING_NOTE = "Ceiling: the best accuracy that any reward model can reach on these pairs."


def training_table(result: Result) -> Table:
    columns = [Column("model", "Stage"), Column("seed", "Seed"), Column("seconds", "Seconds", 1)]
    columns += [Column("seconds_with_reward", "With its reward model (s)", 1)]
    columns += [Column("samples", "Samples", 0), Column("tokens", "Tokens", 0)]
    rows: list[list[Cell]] = [
        [
            model,
            int(run["seed"]),
            float(run["seconds"]),
            run.get("seconds_with_reward"),
            run.get("samples"),
            run.get("tokens"),
        ]
        for model, runs in result.metrics.get("training", {}).items()
        for run in runs
    ]
    return Table("training", "Training cost", columns, rows, keys=2, section="Training")


def accuracy_table(result: Result) -> Table:
    """The reward model's accuracy on the result's own test pairs, a row a seed."""
    rows: list[list[Cell]] = [
        [int(row["seed"]), estimate_of(row["accuracy"]), row.get("ceiling")]
        for row in result.metrics.get("reward_model", [])
        if isinstance(row.get("accuracy"), dict)
    ]
    columns = [Column("seed", "Seed"), Column("accuracy", "Accuracy", interval=True), _CEILING]
    notes = [f"Accuracy: share of test pairs whose chosen response scores higher. {_CEILING_NOTE}"]
    return Table("reward_model", "Accuracy of the reward model", columns, rows, notes, section=_SECTION)


def audit_table(result: Result) -> Table:
    return table_of_audit(result.audit)


def table_of_audit(audit: Mapping[str, Any]) -> Table:
    """Accuracy by category beside its baselines: all seeds together where there are several, then each."""
    rows: list[list[Cell]] = [
        [seeds, name, *(estimate_of(group.get(column.key)) for column in _SOURCES), *_counts(group)]
        for seeds, part in _parts(audit)
        for name, group in _groups(part).items()
        if group
    ]
    columns = [Column("seed", "Seed"), Column("category", "Category"), *_SOURCES, _CEILING, Column("pairs", "Pairs")]
    data = audit.get("data", {})
    notes = [f"Longer, shorter: by characters. Untrained head: a fresh one on the same model. {_CEILING_NOTE}"]
    title = f"Accuracy by category on {data.get('source', 'its data')} ({data.get('split', 'test')})"
    return Table("audit", title, columns, rows, notes, keys=2, section=_SECTION, folded=True)


def calibration_table(result: Result) -> Table:
    columns = [
        Column("seed", "Seed"),
        Column("low", "From", 2),
        Column("high", "To", 2),
        Column("mean_predicted", "Mean predicted", bar=True),
        Column("share_chosen", "Share chosen", bar=True),
        Column("n", "n"),
    ]
    models: dict[str, Any] = result.audit.get("models", {})
    rows: list[list[Cell]] = [
        [f"seed {seed}", *(found[column.key] for column in columns[1:])]
        for seed, part in models.items()
        for found in part.get("calibration", [])
        if found.get("n")
    ]
    errors = [f"{seed} {part['ece']:.3f}" for seed, part in models.items() if part.get("ece") is not None]
    notes = [f"Expected calibration error: seed {', '.join(errors)}."] if errors else []
    return Table("calibration", "Calibration", columns, rows, notes, keys=3, section=_SECTION, folded=True)


def _parts(audit: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    models: dict[str, Any] = audit.get("models", {})
    if audit.get("pooled"):
        yield f"{len(models)} seeds together", audit["pooled"]
    for seed, part in models.items():
        yield f"seed {seed}", part


def _groups(part: Mapping[str, Any]) -> dict[str, Any]:
    unseen = {f"unseen: {name}": group for name, group in part.get("unseen_by_category", {}).items()}
    return {
        "all": part.get("overall"), **part.get("by_category", {}), "unseen categories": part.get("unseen"), **unseen
    }  # fmt: skip


def _counts(group: Mapping[str, Any]) -> list[Cell]:
    return [group.get("ceiling"), group.get("pairs", group.get("n"))]
