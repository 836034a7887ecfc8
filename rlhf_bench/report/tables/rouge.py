"""ROUGE in full: precision, recall and F of each variant, a row a model."""

from __future__ import annotations

from rlhf_bench.report.result import Result, known
from rlhf_bench.report.table import Table
from rlhf_bench.report.tables.metrics import MODEL, metric_column, model_rows
from rlhf_bench.scorers import metrics_for

__all__ = ["rouge_table"]


def rouge_table(result: Result) -> Table:
    """Without rows where no model has ROUGE's parts: there was nothing to compare with."""
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
