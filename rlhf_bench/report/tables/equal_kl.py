"""Reward at equal KL as a table: each curve at round KLs, and beside each model that is a single point."""

from __future__ import annotations

from typing import Any

from rlhf_bench.report.result import Result
from rlhf_bench.report.table import Cell, Column, Table
from rlhf_bench.scorers import describe
from rlhf_bench.types import Estimate


def bands_of(result: Result, metric: str) -> dict[str, list[dict[str, Any]]]:
    """Each curve's stored reward along KL; none where it has none."""
    return next((e["bands"] for e in result.metrics.get("equal_kl", []) if e["metric"] == metric), {})


def equal_kl_table(result: Result) -> Table:
    """A row a (reward, KL, pair), or a (reward, KL) with one curve; without rows where the result has no curve."""
    columns = [
        Column("metric", "At equal KL"), Column("kl", "KL exact (nats)", 2), Column("a", "Model"),
        Column("reward_a", "Its reward", interval=True), Column("b", "Less"),
        Column("reward_b", "Its reward", interval=True), Column("difference", "Difference", interval=True),
    ]  # fmt: skip
    rows: list[list[Cell]] = []
    for entry in result.metrics.get("equal_kl", []):
        title = describe(entry["metric"]).title
        for row in entry["rows"]:
            reward = {name: Estimate.from_dict(value) for name, value in row["reward"].items()}
            kl = float(row["kl"])
            if not row["differences"]:
                rows += [[title, kl, name, estimate, None, None, None] for name, estimate in reward.items()]
            for pair in row["differences"]:
                difference = Estimate.from_dict(pair["difference"])
                rows.append([title, kl, pair["a"], reward[pair["a"]], pair["b"], reward[pair["b"]], difference])
    notes = [
        "A curve's reward at a KL is read off between its two neighbouring checkpoints, never beyond its ends. The KL "
        "of a model of no curve has a row of its own, and the uncertainty of that KL is in the curve's interval.",
        "value [low, high]: 95% confidence interval over prompts, and seeds where there are several; for each row "
        "alone, not for all rows together",
    ]
    title = f"Reward at equal KL on {result.data_label}"
    return Table("equal_kl", title, columns, rows, notes, keys=3, section="Reward at equal KL")
