"""The Pareto front as a table: who is on it, how surely, and the area that the models cover together."""

from __future__ import annotations

from typing import Any

from rlhf_bench.report.result import Result
from rlhf_bench.report.table import Cell, Column, Table, cell_text
from rlhf_bench.report.tables.frontier import efficiency_notes, efficiency_of
from rlhf_bench.scorers import describe
from rlhf_bench.types import Estimate

_POOLED = ("reward_z", "reward")  # the front of one is that of the other: they differ by scale and offset


def front_of(result: Result, metric: str) -> dict[str, Any] | None:
    """The stored front of `metric` against KL, or None where it was not computed."""
    names = _POOLED if metric in _POOLED else (metric,)
    found: list[dict[str, Any]] = [row for row in result.metrics.get("tradeoff", []) if row["metric"] in names]
    return found[0] if found else None


def hypervolume_text(result: Result, front: dict[str, Any]) -> str:
    """`Hypervolume 7.88 [7.07, 8.70] reference sd x nats, above sft and below 10 nats of KL`."""
    estimate = Estimate.from_dict(front["hypervolume"])
    unit = describe(front["metric"]).unit or "reward"
    where = f"above {result.reference} and below {front['kl_limit']:g} nats of KL"
    return f"Hypervolume {cell_text(estimate, 2)} {unit} × nats, {where}"


def pareto_table(result: Result) -> Table:
    """A row a (reward, model); without rows where the result has no front."""
    columns = [
        Column("metric", "Against KL"), Column("model", "Model"), Column("reward", "Reward", interval=True),
        Column("kl_exact", "KL exact (nats)", 2, interval=True), Column("front", "On the front"),
        Column("probability", "Probability", 2),
        *([Column("efficiency", "Efficiency", 2, interval=True)] if "frontier" in result.metrics else []),
    ]  # fmt: skip
    rows: list[list[Cell]] = []
    notes = [
        "On the front: no other model has more of the reward at no more KL. Probability: the share of resamples "
        "(of prompts, crossed with the seeds where there are several) in which it is so."
    ]
    for front in result.metrics.get("tradeoff", []):
        metric = front["metric"]
        for model, share in front["on_front"].items():
            numbers = result.estimate(model, metric), result.estimate(model, "kl_exact")
            on_front = "yes" if model in front["front"] else "no"
            shares = [efficiency_of(result, model, metric)] if "frontier" in result.metrics else []
            rows.append([metric, model, *numbers, on_front, float(share), *shares])
        notes.append(f"{metric}: {hypervolume_text(result, front)}.")
        if front["left_out"]:
            notes.append(f"{metric}: without {', '.join(front['left_out'])}, which lack one of the two numbers.")
    notes += efficiency_notes(result)
    title = f"Reward against KL on {result.data_label}"
    return Table("pareto", title, columns, rows, notes, keys=2, section="Reward against KL")
