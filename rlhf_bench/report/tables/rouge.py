"""ROUGE in full: precision, recall and F of each variant, a row a model."""

from __future__ import annotations

from rlhf_bench.metrics.registry import ROUGE_PARTS, describe
from rlhf_bench.report.result import Result, known
from rlhf_bench.report.table import Table
from rlhf_bench.report.tables.metrics import MODEL, metric_column, model_rows

__all__ = ["rouge_table"]


def rouge_table(result: Result) -> Table:
    """Without rows where no model has ROUGE's parts: there was nothing to compare with."""
    keys = [key for name, parts in ROUGE_PARTS.items() for key in (*parts, name)]
    f_titles = {name: f"{describe(name).title} F" for name in ROUGE_PARTS}
    columns = [metric_column(result, key, title=f_titles.get(key, "")) for key in keys]
    parts = [part for pair in ROUGE_PARTS.values() for part in pair]
    models = [model for model in result.models if any(known(result.estimate(model, part)) for part in parts)]
    notes = [
        "P: share of the response's words that the reference has; R: share of the reference's words that the response "
        "has; F: their harmonic mean, averaged over responses. ROUGE-Lsum takes each line as a sentence.",
    ]
    title = f"ROUGE on {result.data_label}"
    return Table("rouge", title, [MODEL, *columns], model_rows(result, columns, models), notes, section="ROUGE in full")
