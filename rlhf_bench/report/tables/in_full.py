"""A family of metrics in full, a row a model: ROUGE, KL, the gold reward; each training seed, and what it cost."""

from __future__ import annotations

from rlhf_bench.report.notes import interval_note
from rlhf_bench.report.result import Result, known
from rlhf_bench.report.table import Cell, Column, Table, cells
from rlhf_bench.report.tables.metrics import MODEL, mark_notes, metric_column, model_rows
from rlhf_bench.scorers import metrics_for


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


def rouge_table(result: Result) -> Table:
    """Precision, recall and F of each variant; without rows where there was nothing to compare with."""
    metrics = metrics_for("rouge", result.metric_names)
    titles = {metric.name: f"{metric.title} F" for metric in metrics if metric.unit == "F"}
    columns = [metric_column(result, metric.name, title=titles.get(metric.name, "")) for metric in metrics]
    parts = [metric.name for metric in metrics if metric.name not in titles]
    models = [model for model in result.models if any(known(result.estimate(model, part)) for part in parts)]
    notes = [
        "P: share of the response's words that the reference has; R: share of the reference's words that the response "
        "has; F: their harmonic mean, averaged over responses. ROUGE-Lsum takes each line as a sentence.",
    ]
    title = f"ROUGE on {result.data_label}"
    return Table("rouge", title, [MODEL, *columns], model_rows(result, columns, models), notes, section="ROUGE in full")


def kl_table(result: Result) -> Table:
    """Every estimate of KL by response and by token, and the forward one; without rows where no model was sampled."""
    names = [metric.name for metric in metrics_for("kl", result.metric_names) if result.has(metric.name)]
    of_token = [name for name in names if name.endswith("_token")]
    models = [model for model in result.models if any(known(result.estimate(model, name)) for name in of_token)]
    columns = [metric_column(result, name) for name in names]
    notes = [
        f"KL(model || {result.reference}) in nats, of responses that the model drew: summed over a response, and the "
        "mean of its tokens. exact: over the whole vocabulary at each token; k1: log pi - log ref of the token drawn; "
        "k3: r - 1 - log r of it, r = ref / pi. "
        f"forward: KL({result.reference} || model) along the data's chosen responses.",
        "By token the three need not agree, as they do by response: each sum is divided by a length that depends on "
        "the tokens drawn, before responses are averaged.",
        *mark_notes(result, columns),
    ]
    title = f"KL to {result.reference} on {result.data_label}"
    return Table("kl", title, [MODEL, *columns], model_rows(result, columns, models), notes, section="KL in full")


def training_table(result: Result) -> Table:
    columns = [Column("model", "Stage"), Column("seed", "Seed"), Column("seconds", "Seconds", 1)]
    columns += [Column("seconds_with_reward", "With its reward model (s)", 1)]
    columns += [Column("samples", "Samples", 0), Column("tokens", "Tokens", 0)]
    rows: list[list[Cell]] = [
        [model, *cells(run, columns[1:])] for model, runs in result.metrics.get("training", {}).items() for run in runs
    ]
    return Table("training", "Training cost", columns, rows, keys=2, section="Training")
