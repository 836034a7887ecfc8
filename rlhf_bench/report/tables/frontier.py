"""The optimal frontier as a table, and each model's efficiency: its share of what was possible at its KL."""

from __future__ import annotations

import math
from typing import Any

from rlhf_bench.report.result import Result
from rlhf_bench.report.table import Cell, Column, Table, cells, number_text
from rlhf_bench.report.tables.judge_forms import judge_name
from rlhf_bench.report.tables.metrics import metric_column
from rlhf_bench.types import Estimate

_OPTIMISED = "reward_z"
_READ_OFF = ("reward", _OPTIMISED, "gold")
_EVERY = 3  # points of the curve to a row of the table


def frontier_table(result: Result) -> Table:
    """A row a KL; without rows where the result has no frontier."""
    found = result.metrics.get("frontier", {})
    points = found.get("points", [])
    names = [name for name in _READ_OFF if points and name in points[0]]
    gains = [_gain_column(result, name) for name in names]
    columns = [Column("kl", "KL (nats)", 3), *gains, Column("bias", "Bias, at most (sd)", 3)]
    shown = points[::-_EVERY][::-1]  # the last one, where the curve ends, among them
    rows: list[list[Cell]] = [[number_text(point["kl"], 3), *cells(point, columns[1:])] for point in shown]
    title = f"Optimal frontier of {result.reference} on {result.data_label}"
    return Table("frontier", title, columns, rows, _notes(result, found), section="Reward against KL")


def _gain_column(result: Result, name: str) -> Column:
    column = metric_column(result, name)
    return column._replace(title=f"{column.title}, gained", digits=3)


def _notes(result: Result, found: dict[str, Any]) -> list[str]:
    if not found:
        return []
    n, reach = found["n_samples"], found["reach"]
    # None: the curve from so few samples ends before
    reached = {size: gain for size, gain in found["by_size"].items() if gain is not None}
    by_size = ", ".join(f"{gain:.3f} from {size}" for size, gain in reached.items())
    last = found["points"][-1][_OPTIMISED]["value"]
    changes = f" At the end the gain is {by_size} and {last:.3f} from all {n}." if by_size else ""
    return [
        f"The most reward that any policy can gain over {result.reference} at a KL: that of the policies "
        f"{result.reference}(y|x) exp(r(x, y) / beta) / Z, estimated from {n} samples of each prompt.",
        f"It ends at {reach:.2f} nats, where 5 % of the prompts have an effective sample size below 10. "
        "A KL that is 1 nat more takes some 7 times as many samples.",
        "value [low, high]: a bootstrap over prompts, and seeds where there are several; it does not hold the bias. "
        f"Bias: what half of the samples change, which is more than what is left with all.{changes}",
        *forecast(result),
    ]


def forecast(result: Result) -> list[str]:
    """At which KL gold begins to fall along the frontier, and quality by verdicts on the reference's own samples."""
    found = result.metrics.get("frontier", {})
    turn = found.get("turns", {}).get("gold")
    lines = [] if turn is None else [_forecast("gold", turn, found["reach"])]
    judgings = result.judge.get("judgings", [])
    for judging in (judging for judging in judgings if judging.get("forecast")):
        by, made = judge_name(judgings, judging), judging["forecast"]
        if "reason" in made:
            lines.append(f"No forecast by {by}: {made['reason']}.")
        else:
            of = f"quality by {by} (verdicts on {made['pairs']} pairs of {result.reference}'s samples)"
            lines.append(_forecast(of, made, made["reach"]))
    return lines


def _forecast(what: str, turn: dict[str, Any], reach: float) -> str:
    kl, share = Estimate.from_dict(turn["kl"]), f"{turn['share']:.0%} of resamples turn"
    if math.isinf(kl.value):
        return f"Forecast: no turn of {what} up to {reach:.2f} nats ({share})."
    high = f"{kl.high:.2f}" if math.isfinite(kl.high) else f"beyond {reach:.2f}"
    return f"Forecast: {what} begins to fall at {kl.value:.2f} nats [{kl.low:.2f}, {high}] ({share})."


def efficiency_of(result: Result, model: str, metric: str) -> Cell:
    """The model's share of the frontier's gain at its KL; None where it is missing, or for a reward not optimised."""
    row = result.metrics.get("frontier", {}).get("models", {}).get(model)
    if metric != _OPTIMISED or row is None or row["efficiency"] is None:
        return None
    return Estimate.from_dict(row["efficiency"])


def efficiency_notes(result: Result) -> list[str]:
    """What the efficiency is, and why a model has none; why there is no frontier, where one was requested."""
    if "frontier" not in result.metrics:
        return [f"Frontier: {m['reason']}." for m in result.metrics.get("missing", []) if m["metric"] == "frontier"]
    rows = result.metrics["frontier"]["models"]
    meaning = f"Efficiency: the gain in reward over {result.reference}, over the most that is possible at the same KL."
    return [meaning, *(f"{model}: no efficiency: {row['reason']}." for model, row in rows.items() if row["reason"])]
