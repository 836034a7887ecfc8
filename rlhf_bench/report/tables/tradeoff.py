"""Reward against KL as tables: the Pareto front and the optimal frontier, checkpoints at equal KL, best of n of the
reference, and the form of over-optimisation that was fitted to curves."""

from __future__ import annotations

import math
from typing import Any

from rlhf_bench.report.result import Result
from rlhf_bench.report.table import Cell, Column, Table, cell_text, cells, number_text
from rlhf_bench.report.tables.judge_forms import named_judgings
from rlhf_bench.report.tables.metrics import metric_column
from rlhf_bench.scorers import describe
from rlhf_bench.scorers.reward import READ_OFF
from rlhf_bench.types import Estimate

_POOLED = ("reward_z", "reward")  # the front of one is that of the other: they differ by scale and offset
_OPTIMISED = "reward_z"
_EVERY = 3  # points of the frontier to a row of the table
_FORMS = {"best-of-n": "d (α − β d)"}
_OTHER = "d (α − β log d)"


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


def frontier_table(result: Result) -> Table:
    """A row a KL; without rows where the result has no frontier."""
    found = result.metrics.get("frontier", {})
    points = found.get("points", [])
    names = [name for name in READ_OFF if points and name in points[0]]
    metrics = [metric_column(result, name) for name in names]
    gains = [metric._replace(title=f"{metric.title}, gained", digits=3) for metric in metrics]
    columns = [Column("kl", "KL (nats)", 3), *gains, Column("bias", "Bias, at most (sd)", 3)]
    shown = points[::-_EVERY][::-1]  # the last one, where the curve ends, among them
    rows: list[list[Cell]] = [[number_text(point["kl"], 3), *cells(point, columns[1:])] for point in shown]
    title = f"Optimal frontier of {result.reference} on {result.data_label}"
    return Table("frontier", title, columns, rows, _frontier_notes(result, found), section="Reward against KL")


def _frontier_notes(result: Result, found: dict[str, Any]) -> list[str]:
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
    """The KL at which gold begins to fall along the frontier, and quality by verdicts on the reference's samples."""
    found = result.metrics.get("frontier", {})
    turn = found.get("turns", {}).get("gold")
    lines = [] if turn is None else [_forecast("gold", turn, found["reach"])]
    made_by = {by: judging["forecast"] for by, judging in named_judgings(result, "judgings") if judging.get("forecast")}
    for by, made in made_by.items():
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


def best_of_n_table(result: Result) -> Table:
    """A row an n; without rows where the result has no pool."""
    found = result.metrics.get("best_of_n", [])
    names = [name for name in READ_OFF if any(name in row for row in found)]
    exact = any("kl_true" in row for row in found)
    columns = [Column("n", "n", 0), Column("kl_bound", "KL, upper bound (nats)", 2)]
    columns += [Column("kl_true", "KL, true (nats)", 2, interval=True)] if exact else []
    columns += [metric_column(result, name)._replace(digits=3) for name in names]
    rows: list[list[Cell]] = [[str(row["n"]), *cells(row, columns[1:])] for row in found]
    notes = [
        f"The best of n responses of {result.reference} by the reward; n = 1 is {result.reference} itself. Each number "
        "is the mean over all choices of n from one pool of samples a prompt.",
        f"KL: the upper bound log n - (n - 1) / n, not a measurement. {_truth(result, exact)}",
        "value [low, high]: 95% confidence interval over prompts, and seeds where there are several",
    ]
    title = f"Best of n of {result.reference} on {result.data_label}"
    return Table("best_of_n", title, columns, rows, notes, section="Best of n")


def _truth(result: Result, exact: bool) -> str:
    """Why the true KL is given beside the bound, or why not."""
    if exact:
        return "The true KL is summed over all responses that the reference can give: the pool holds every one."
    held = result.metrics.get("best_of_n_held")
    why = (
        "the probabilities of its responses are not known (drawn at another temperature than 1, from the likeliest "
        "tokens alone, or ended by a stop string)"
        if held is None
        else f"the pool's distinct responses to a prompt hold as little as {held:.2%} of the probability"
    )
    return f"The true KL is not known: {why}, and it is a sum over all that the reference can generate."


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
